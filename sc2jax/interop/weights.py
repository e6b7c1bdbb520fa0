"""The map between Hugging Face's tensors and the parameter table, block by block.

A block is a range along the first dimension of a tensor, which is some dimension of the parameter. Blocks end where the
chunks of the checkpoint end, so that neither the tensor nor the parameter is ever held whole.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.fingerprints import Index, block_sum, widen
from sc2jax.checkpoint.streamed import StreamedArray
from sc2jax.errors import UserError
from sc2jax.interop.tensors import DTYPES, Tensor, TensorFile, read_rows
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Parameter, Table, parameter_table

_ROWS_COMPARED = 4096


def tensor_parameters(table: Table) -> dict[str, tuple[Parameter, int]]:
    """By the name of each tensor, the parameter that it is part of and its layer (0 if it belongs to none)."""
    found: dict[str, tuple[Parameter, int]] = {}
    first_layer = next(place for place, parameter in enumerate(table) if parameter.stacked)
    for parameter in table[:first_layer]:
        found[parameter.hf_name] = (parameter, 0)
    for layer in range(table[first_layer].shape[0]):
        for parameter in table:
            if parameter.stacked:
                found[parameter.hf_name.format(layer=layer)] = (parameter, layer)
    for parameter in table[first_layer:]:
        if not parameter.stacked:
            found[parameter.hf_name] = (parameter, 0)
    return found


def copied_tensors(config: ModelConfig) -> dict[str, tuple[Parameter, int]]:
    """Tensors that a file may hold although they repeat a parameter: the output projection of a tied model."""
    if not config.tie_embeddings:
        return {}
    table = parameter_table(config)
    (embedding,) = (parameter for parameter in table if parameter.path == ("embedding",))
    untied = tensor_parameters(parameter_table(dataclasses.replace(config, tie_embeddings=False)))
    return dict.fromkeys(untied.keys() - tensor_parameters(table).keys(), (embedding, 0))


def refuse_other_copies(config: ModelConfig, folder: Path, tensors: Mapping[str, tuple[TensorFile, Tensor]]) -> None:
    """Makes sure that what repeats a parameter has its values, bit for bit.

    Raises:
        UserError: it has others, so that config.json and the weights contradict each other.
    """
    for name, (parameter, _) in copied_tensors(config).items():
        if name not in tensors:
            continue
        rows = parameter.hf_shape[0]
        for first in range(0, rows, _ROWS_COMPARED):
            last = min(first + _ROWS_COMPARED, rows)
            one, other = (
                widen(read_rows(folder / tensors[tensor][0].name, tensor, first, last))
                for tensor in (name, parameter.hf_name)
            )
            if one.tobytes() != other.tobytes():
                raise UserError(
                    f"{folder}: {name} has other values than {parameter.hf_name}, and config.json says that they are "
                    "one (tie_word_embeddings); set it to false there, or remove the tensor"
                )


def streamed_parameter(
    parameter: Parameter,
    folder: Path,
    tensors: Mapping[str, tuple[TensorFile, Tensor]],
    tensor_done: Callable[[], object],
) -> StreamedArray:
    """A parameter whose blocks are read from a folder of safetensors files while it is saved.

    It is stored in the type of its tensors, or in float32 if its layers have different types.

    Raises:
        UserError: while it is read, a number is not finite: a model with one has no answer to anything.
    """
    layers = range(parameter.shape[0]) if parameter.stacked else [0]
    names = [parameter.hf_name.format(layer=layer) for layer in layers]
    dtypes = {tensors[name][1].dtype for name in names}
    dtype = DTYPES[dtypes.pop()] if len(dtypes) == 1 else np.dtype(np.float32)

    def blocks(chunk: tuple[int, ...]) -> Iterator[tuple[Index, np.ndarray]]:
        for layer, name in zip(layers, names, strict=True):
            path = folder / tensors[name][0].name
            for first, last in _ranges(parameter, chunk):
                rows = _rows_of_one(parameter)
                block = read_rows(path, name, first * rows, last * rows)
                with np.errstate(invalid="ignore"):  # bfloat16's NaN
                    finite = np.isfinite(block).all()
                if not finite:
                    raise UserError(f"{path}: {name} holds numbers that are not finite; get it again, or mend it")
                block = from_huggingface(cast(block, dtype), parameter)
                yield _place(parameter, layer, first, last), block[None] if parameter.stacked else block
            tensor_done()

    return StreamedArray(parameter.shape, dtype, parameter.stacked, blocks)


def tensor_rows(
    parameter: Parameter,
    layer: int,
    checkpoints: Checkpoints,
    step: int,
    dtype: np.dtype,
    sums: dict[str, int],
    added: Callable[[tuple[str, ...], Index], np.ndarray | None] = lambda *_: None,
) -> Iterator[np.ndarray]:
    """The rows of a tensor, read from a checkpoint's array; the fingerprint of what is read is added up in `sums`.

    `added` gives what is added to a part of an array, float32, or None: the products of adapters.

    Raises:
        UserError: the checkpoint is damaged, or a number is too large for the type.
    """
    store = checkpoints.open_array(step, parameter.path)
    chunk = tuple(size or 1 for size in store.chunk_layout.read_chunk.shape or ())
    for first, last in _ranges(parameter, chunk):
        index = _place(parameter, layer, first, last)
        block = checkpoints.read_block(step, parameter.path, store, index)
        path = "/".join(parameter.path)
        sums[path] = (sums.get(path, 0) + block_sum(block, index, parameter.shape)) % 2**32
        more = added(parameter.path, index)
        block = block if more is None else widen(block) + more
        rows = to_huggingface(block[0] if parameter.stacked else block, parameter)
        with np.errstate(over="ignore"):
            written = cast(rows, dtype)
        if written.dtype != rows.dtype and (np.isinf(written) & ~np.isinf(rows)).any():
            name = parameter.hf_name.format(layer=layer)
            raise UserError(f"{name} holds numbers too large for {dtype}; choose another convert.export_dtype")
        yield written


def refuse_other_sums(checkpoints: Checkpoints, folder: str, step: int, sums: Mapping[str, int]) -> None:
    """Makes sure that all of a checkpoint's arrays were read, and as they were saved, given their sums.

    Raises:
        UserError: naming one that is not.
    """
    expected = checkpoints.read_fingerprints(step)
    wrong = sorted(path for path, total in expected.items() if sums.get(path) != total)
    if wrong:
        raise UserError(
            f"the checkpoint {folder}/{step} is damaged: {len(wrong)} of its arrays are not what was "
            f"saved, {wrong[0]} among them; nothing was written"
        )


def from_huggingface(block: np.ndarray, parameter: Parameter) -> np.ndarray:
    """Rows of a tensor, viewed with the parameter's dimensions."""
    order = _dims_in_order(parameter)
    sizes = [parameter.layer_shape[dim] for dim in order]
    return block.reshape([-1, *sizes[1:]]).transpose(np.argsort(order))


def to_huggingface(block: np.ndarray, parameter: Parameter) -> np.ndarray:
    """The inverse of `from_huggingface`."""
    return block.transpose(_dims_in_order(parameter)).reshape(-1, *parameter.hf_shape[1:])


def cast(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts numbers to another type: bit for bit where they fit, NaN included; others are rounded to the nearest."""
    if block.dtype == dtype:
        return block
    wide = widen(block)
    if dtype == jnp.bfloat16:
        bits = np.ascontiguousarray(wide).view(np.uint32)
        if not (bits & np.uint32(0xFFFF)).any():
            return (bits >> np.uint32(16)).astype(np.uint16).view(dtype)
    return wide.astype(dtype)


def _dims_in_order(parameter: Parameter) -> list[int]:
    return [dim for dims in parameter.hf_dims for dim in dims]


def _rows_of_one(parameter: Parameter) -> int:
    """How many rows of the tensor correspond to one index of the parameter's dimension."""
    return parameter.hf_shape[0] // parameter.layer_shape[parameter.hf_dims[0][0]]


def _ranges(parameter: Parameter, chunk: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    dim = parameter.hf_dims[0][0]
    size, step = parameter.layer_shape[dim], chunk[dim + parameter.stacked]
    for first in range(0, size, step):
        yield first, min(first + step, size)


def _place(parameter: Parameter, layer: int, first: int, last: int) -> Index:
    place = [slice(0, size) for size in parameter.layer_shape]
    place[parameter.hf_dims[0][0]] = slice(first, last)
    return (slice(layer, layer + 1), *place) if parameter.stacked else tuple(place)
