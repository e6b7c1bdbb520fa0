"""Converts models from Hugging Face's format to a checkpoint and back, with one block of a tensor in memory at a time.

The other files of a folder are kept beside the checkpoint, with a list of which tensor, of which type, was in which
file. So exporting an imported model writes the same files again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sc2jax import storage
from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.streamed import save_streamed
from sc2jax.errors import UserError
from sc2jax.interop.architecture import CONFIG, read_architecture, write_architecture
from sc2jax.interop.config import ConvertConfig
from sc2jax.interop.tensors import (
    DTYPES,
    INDEX,
    Tensor,
    TensorFile,
    index_json,
    read_layout,
    split_into_files,
    write_file,
)
from sc2jax.interop.weights import streamed_parameter, tensor_parameters, tensor_rows
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import parameter_table
from sc2jax.text.special_tokens import Special

RUN_KEY = "converted"
"""The key of an imported checkpoint. No training run has it, so none continues from one by mistake."""

LAYOUT = "tensors.json"
TOKENIZERS = ("tokenizer.model", "tokenizer.json")
"""The tokenizer is the first of these that exists: beside a SentencePiece model the other is derived from it."""
KEPT = (
    CONFIG,
    INDEX,
    *TOKENIZERS,
    "added_tokens.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files that are kept beside the checkpoint and written out again, byte for byte."""

_DAMAGED_LAYOUT = (
    f"the kept {LAYOUT}, which says which tensors lay where, is damaged; convert the model again, or name a type "
    "to write with --config.convert.export_dtype"
)
_WEIGHTS_ONLY = (CONFIG, INDEX, LAYOUT)


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import yields beside the checkpoint; `kept` holds files that an export writes out again."""

    model: ModelConfig
    fingerprints: dict[str, int]
    kept: dict[str, bytes]


def import_model(source: Path, checkpoints_folder: str, how: ModelConfig) -> Imported:
    """Converts a folder in Hugging Face's format into the checkpoint of step 0.

    Nothing is written until the headers of all files have been checked.

    Raises:
        UserError: the folder is not of this architecture, or tensors are missing, extra, misshapen or cut off.
    """
    model = read_architecture(source, how)
    parameters = tensor_parameters(model)
    files = read_layout(source, {name: parameter.hf_shape for name, (parameter, _) in parameters.items()})
    tensors = {tensor.name: (file, tensor) for file in files for tensor in file.tensors}
    progress = tqdm(total=len(tensors), desc="convert", unit="tensor", disable=None)
    arrays = {
        parameter.path: streamed_parameter(parameter, model, source, tensors, progress.update)
        for parameter in parameter_table(model)
    }
    with progress:
        fingerprints = save_streamed(checkpoints_folder, 0, RUN_KEY, arrays)
    kept = {name: (source / name).read_bytes() for name in KEPT if (source / name).is_file()}
    return Imported(model, fingerprints, kept | {LAYOUT: _layout_json(files)})


def export_model(
    checkpoints_folder: str,
    step: int,
    model: ModelConfig,
    kept: Mapping[str, bytes],
    target: Path,
    config: ConvertConfig,
) -> tuple[TensorFile, ...]:
    """Writes a checkpoint as a folder in Hugging Face's format; `kept` is what an import kept, or a tokenizer alone.

    Raises:
        UserError: the checkpoint is damaged, or a number is too large for the type asked for.
    """
    parameters = tensor_parameters(model)
    if config.export_dtype == "as_imported" and LAYOUT in kept:
        files = _read_layout_json(
            kept[LAYOUT], {name: parameter.hf_shape for name, (parameter, _) in parameters.items()}
        )
        beside = {name: content for name, content in kept.items() if name != LAYOUT}
    else:
        dtype = "float32" if config.export_dtype == "as_imported" else config.export_dtype
        header_name = next(name for name, kind in DTYPES.items() if kind.name == dtype)
        tensors = [Tensor(name, header_name, parameter.hf_shape) for name, (parameter, _) in parameters.items()]
        files = split_into_files(tensors, config.max_file_bytes)
        beside = {name: content for name, content in kept.items() if name not in _WEIGHTS_ONLY}
        beside[CONFIG] = write_architecture(model, dtype, int(Special.END_OF_TEXT))
        if len(files) > 1:
            beside[INDEX] = index_json(files)
    sums: dict[str, int] = {}
    checkpoints = Checkpoints(checkpoints_folder)
    progress = tqdm(total=len(parameters), desc="convert", unit="tensor", disable=None)

    def rows(tensor: Tensor) -> Iterator[np.ndarray]:
        parameter, layer = parameters[tensor.name]
        yield from tensor_rows(parameter, layer, checkpoints, step, DTYPES[tensor.dtype], sums)
        progress.update()

    try:
        for file in files:
            write_file(target, file, rows)
        expected = checkpoints.read_fingerprints(step)
    finally:
        checkpoints.close()
        progress.close()
    wrong = sorted(path for path, total in expected.items() if sums.get(path) != total)
    if wrong:
        raise UserError(
            f"the checkpoint {checkpoints_folder}/{step} is damaged: {len(wrong)} of its arrays are not what was "
            f"saved, {wrong[0]} among them; nothing was written"
        )
    for name, content in beside.items():
        storage.write_whole(str(target / name), content)
    return files


def _layout_json(files: tuple[TensorFile, ...]) -> bytes:
    return (json.dumps([dataclasses.asdict(file) for file in files], indent=1) + "\n").encode()


def _read_layout_json(content: bytes, expected: Mapping[str, tuple[int, ...]]) -> tuple[TensorFile, ...]:
    def tensor(fields: dict) -> Tensor:
        return Tensor(fields["name"], fields["dtype"], tuple(fields["shape"]))

    try:
        files = tuple(
            TensorFile(fields["name"], tuple(map(tensor, fields["tensors"])), fields["metadata"])
            for fields in json.loads(content)
        )
        tensors = [tensor for file in files for tensor in file.tensors]
        is_whole = (
            sorted((tensor.name, tensor.shape) for tensor in tensors) == sorted(expected.items())
            and all(tensor.dtype in DTYPES for tensor in tensors)
            and all(Path(file.name).name == file.name for file in files)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{_DAMAGED_LAYOUT} ({error!r})") from error
    if not is_whole:
        raise UserError(f"{_DAMAGED_LAYOUT} (it does not list the model's tensors)")
    return files
