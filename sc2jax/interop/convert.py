"""Converts models from Hugging Face's format to a checkpoint and back, with one block of a tensor in memory at a time.

The other files of a folder are kept beside the checkpoint, with a list of which tensor, of which type, was in which
file. So exporting an imported model writes the same files again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sc2jax import storage
from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.streamed import save_streamed
from sc2jax.errors import UserError
from sc2jax.interop.architecture import CONFIG, read_architecture, with_dtype, write_architecture
from sc2jax.interop.config import ConvertConfig
from sc2jax.interop.folder import find_file, path_in
from sc2jax.interop.generation import GENERATION_CONFIG, read_generation
from sc2jax.interop.peft import StoredAdapters
from sc2jax.interop.tensors import (
    DTYPES,
    INDEX,
    Tensor,
    TensorFile,
    index_json,
    read_layout,
    refuse_other_files,
    split_into_files,
    write_file,
)
from sc2jax.interop.weights import (
    copied_tensors,
    refuse_other_copies,
    refuse_other_sums,
    streamed_parameter,
    tensor_parameters,
    tensor_rows,
)
from sc2jax.json_files import decode_json
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Parameter, parameter_table
from sc2jax.progress import progress
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
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    "NOTICE.txt",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    GENERATION_CONFIG,
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files kept beside the checkpoint and written out again, byte for byte; among them what a licence asks to pass on."""

_LAYOUT_REMEDY = "convert the model again, or name a type to write with --config.convert.export_dtype"
_OF_THE_FILES = (INDEX, LAYOUT)
"""What is true of the files that were read alone, and not of others with the same weights."""
OF_ONE_MODEL = (CONFIG, "README.md", *_OF_THE_FILES)
"""What is not true of a model that was trained further; the others, such as its licence, go with that as well."""


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
        UserError: the folder is not of this architecture, or tensors are missing, extra, misshapen, cut off or not
            finite.
    """
    model, kept = read_architecture(source, how), kept_files(source)
    read_generation(kept, str(source), model.vocab_size)
    table = parameter_table(model)
    files = read_layout(source, _shapes(tensor_parameters(table)), _shapes(copied_tensors(model)))
    tensors = {tensor.name: (file, tensor) for file in files for tensor in file.tensors}
    refuse_other_copies(model, source, tensors)
    bar = progress(total=len(tensors), desc="convert", unit="tensor")
    arrays = {parameter.path: streamed_parameter(parameter, source, tensors, bar.update) for parameter in table}
    with bar:
        fingerprints = save_streamed(checkpoints_folder, 0, RUN_KEY, arrays)
    return Imported(model, fingerprints, kept | {LAYOUT: _layout_json(files)})


def kept_files(source: Path) -> dict[str, bytes]:
    """The content of the files beside the weights that an export writes out again.

    Raises:
        UserError: one of them is a link that leaves the folder, or no regular file.
    """
    found = {name: find_file(source, name) for name in KEPT}
    return {name: path.read_bytes() for name, path in found.items() if path}


def _shapes(tensors: Mapping[str, tuple[Parameter, int]]) -> dict[str, tuple[int, ...]]:
    return {name: parameter.hf_shape for name, (parameter, _) in tensors.items()}


def export_model(
    checkpoints_folder: str,
    step: int,
    model: ModelConfig,
    kept: Mapping[str, bytes],
    target: Path,
    config: ConvertConfig,
    adapters: StoredAdapters | None = None,
) -> tuple[TensorFile, ...]:
    """Writes a checkpoint as a folder in Hugging Face's format; `kept` is what an import kept, or a tokenizer alone.

    Adapters of the model are merged into its parameters.

    Raises:
        UserError: the checkpoint is damaged, or a number is too large for the type asked for.
    """
    parameters, copies = tensor_parameters(parameter_table(model)), copied_tensors(model)
    if config.export_dtype == "as_imported" and LAYOUT in kept:
        files = _read_layout_json(kept[LAYOUT], target, _shapes(parameters), _shapes(copies))
        beside = {name: content for name, content in kept.items() if name != LAYOUT}
    else:
        dtype = "float32" if config.export_dtype == "as_imported" else config.export_dtype
        header_name = next(name for name, kind in DTYPES.items() if kind.name == dtype)
        tensors = [Tensor(name, header_name, parameter.hf_shape) for name, (parameter, _) in parameters.items()]
        files = split_into_files(tensors, config.max_file_bytes)
        beside = {name: content for name, content in kept.items() if name not in _OF_THE_FILES}
        beside[CONFIG] = (
            with_dtype(kept[CONFIG], f"the kept {CONFIG}", dtype)
            if CONFIG in kept
            else write_architecture(model, dtype, int(Special.END_OF_TEXT))
        )
        if len(files) > 1:
            beside[INDEX] = index_json(files)
    sums: dict[str, int] = {}
    added = {"added": adapters.products(parameter_table(model))} if adapters else {}
    checkpoints = Checkpoints(checkpoints_folder)
    bar = progress(total=len(parameters), desc="convert", unit="tensor")

    def rows(tensor: Tensor) -> Iterator[np.ndarray]:
        is_copy = tensor.name not in parameters
        parameter, layer = (copies if is_copy else parameters)[tensor.name]
        counted = {} if is_copy else sums
        yield from tensor_rows(parameter, layer, checkpoints, step, DTYPES[tensor.dtype], counted, **added)
        bar.update()

    try:
        for file in files:
            write_file(target, file, rows)
        refuse_other_sums(checkpoints, checkpoints_folder, step, sums)
    finally:
        checkpoints.close()
        bar.close()
    for name, content in beside.items():
        storage.write_whole(str(path_in(target, name)), content)
    return files


def _layout_json(files: tuple[TensorFile, ...]) -> bytes:
    return (json.dumps([dataclasses.asdict(file) for file in files], indent=1) + "\n").encode()


def _read_layout_json(
    content: bytes, target: Path, expected: Mapping[str, tuple[int, ...]], optional: Mapping[str, tuple[int, ...]]
) -> tuple[TensorFile, ...]:
    files = decode_json(content, tuple[TensorFile, ...], f"the kept {LAYOUT}", _LAYOUT_REMEDY)
    try:
        refuse_other_files(target, [file.name for file in files])
    except UserError as error:
        raise UserError(f"the kept {LAYOUT} is damaged: {error}; {_LAYOUT_REMEDY}") from error
    tensors = [tensor for file in files for tensor in file.tensors]
    found = {tensor.name: tensor.shape for tensor in tensors}
    is_whole = (
        len(found) == len(tensors)
        and len({file.name for file in files}) == len(files)
        and {**optional, **found} == {**optional, **expected}
        and all(tensor.dtype in DTYPES for tensor in tensors)
    )
    if not is_whole:
        raise UserError(f"the kept {LAYOUT} is damaged: it does not list the model's tensors; {_LAYOUT_REMEDY}")
    return files
