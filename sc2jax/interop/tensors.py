"""Folders of safetensors files: their contents, checked before anything is written, and files written as a stream.

Tensors are read with the library safetensors, a range of rows at a time, and not through a memory map, whose pages
would count as memory. Files are written by our own code, because the library needs all tensors of a file in memory at
once; the format is eight bytes of length, a JSON header and the bytes of the tensors.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.interop.folder import find_file, path_in
from sc2jax.json_files import decode_json, read_json

SUFFIX = ".safetensors"
SINGLE_FILE = f"model{SUFFIX}"
INDEX = f"{SINGLE_FILE}.index.json"

DTYPES: dict[str, np.dtype] = {
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
"""The types that weights are released in, by their names in a safetensors header."""

MOST_LISTED = 20

_LONGEST_HEADER = 100_000_000
"""Bytes of a header at most, by the format's own rule."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    dtype: str  # as in the header
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclasses.dataclass(frozen=True)
class TensorFile:
    """A safetensors file: its tensors in the order of their bytes, and the header's free-form metadata."""

    name: str
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


class _Index(TypedDict):
    """The index of a model in several files: the file that holds each tensor."""

    weight_map: dict[str, str]


class _Entry(TypedDict, total=False):
    """What a header says of a tensor."""

    data_offsets: tuple[int, int]


def read_layout(
    folder: Path,
    expected: Mapping[str, tuple[int, ...]],
    optional: Mapping[str, tuple[int, ...]],
    described_by: str = "config.json",
    only: str = "",
) -> tuple[TensorFile, ...]:
    """The files of a folder, which must hold the expected tensors, may hold the optional ones, and no others.

    Args:
        folder: the folder.
        expected: the shapes of tensors that must be there.
        optional: those of tensors that may be there.
        described_by: the file that the expectation comes from.
        only: the one file to read; by default those that transformers would load.

    Raises:
        UserError: naming every tensor that is missing, extra, misshapen, cut off, there twice or of an unknown type;
            or a file is not one of the folder's own.
    """
    known = {**expected, **optional}
    problems: dict[str, list[str]] = {}
    files: list[TensorFile] = []
    found: dict[str, str] = {}
    gone: dict[str, set[str]] = {}
    for name, promised in ({only: set()} if only else _files(folder)).items():
        path = find_file(folder, name)
        if path is None:
            gone[name] = promised
            continue
        try:
            file = read_header(path)
        except SafetensorError as error:
            cut, whole = _cut_off(path)
            if not cut:
                problems.setdefault("unreadable files", []).append(f"{name} ({error})")
            problems.setdefault("truncated tensors", []).extend(f"{tensor} in {name}" for tensor in cut)
            found |= dict.fromkeys([*promised, *cut, *whole], name)
            continue
        files.append(file)
        for tensor in file.tensors:
            if tensor.name in found:
                problems.setdefault("tensors that are there twice", []).append(
                    f"{tensor.name} in {found[tensor.name]} and {name}"
                )
            found[tensor.name] = name
            if tensor.name not in known:
                problems.setdefault("extra tensors", []).append(f"{tensor.name} in {name}")
            elif tensor.shape != known[tensor.name]:
                problems.setdefault("misshapen tensors", []).append(
                    f"{tensor.name} is {list(tensor.shape)}, not {list(known[tensor.name])}"
                )
            elif tensor.dtype not in DTYPES:
                problems.setdefault(f"tensors of a type other than {', '.join(DTYPES)}", []).append(
                    f"{tensor.name} is {tensor.dtype}"
                )
            elif promised and tensor.name not in promised:
                problems.setdefault(f"tensors that {INDEX} places elsewhere", []).append(f"{tensor.name} in {name}")
    for name, promised in gone.items():
        problems[f"tensors of the missing file {name}"] = sorted(promised - found.keys())
        found |= dict.fromkeys(promised, name)
    problems.setdefault("missing tensors", []).extend(tensor for tensor in expected if tensor not in found)
    listed = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if listed:
        raise UserError(
            f"{folder} does not hold the tensors that its {described_by} describes; nothing was written\n  "
            + "\n  ".join(listed)
        )
    return tuple(files)


def _files(folder: Path) -> dict[str, set[str]]:
    """The files that transformers would load, each with the tensors that the index, if there is one, says it holds."""
    if find_file(folder, SINGLE_FILE):
        return {SINGLE_FILE: set()}
    index = find_file(folder, INDEX)
    if index:
        files: dict[str, set[str]] = {}
        for tensor, name in read_json(str(index), _Index, "get it again from where it came")["weight_map"].items():
            files.setdefault(name, set()).add(tensor)
        refuse_other_files(folder, files)
        return dict(sorted(files.items()))
    names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    if not names:
        raise UserError(f"{folder} holds no *{SUFFIX} file; weights in other formats are not read")
    return {name: set() for name in names}


def refuse_other_files(folder: Path, names: Iterable[str]) -> None:
    """Makes sure that names which come out of a file are those of safetensors files directly in the folder.

    Raises:
        UserError: naming the first that is not.
    """
    for name in names:
        if not path_in(folder, name).name.endswith(SUFFIX):
            raise UserError(f"{folder} names a file {name!r} for tensors; those are in *{SUFFIX}")


def read_header(path: Path) -> TensorFile:
    """A safetensors file without its tensors.

    Raises:
        SafetensorError: it is damaged.
    """
    with safe_open(path, framework="np", backend="pread") as file:
        tensors = []
        for name in file.offset_keys():
            part = file.get_slice(name)
            tensors.append(Tensor(name, part.get_dtype(), tuple(part.get_shape())))
        return TensorFile(path.name, tuple(tensors), file.metadata() or {})


def _cut_off(path: Path) -> tuple[list[str], list[str]]:
    """The tensors of a damaged file that lie past its end, and the others, as far as its header can be read."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            content = file.read(min(length, _LONGEST_HEADER))
        header = decode_json(content, dict[str, _Entry], str(path), "get it again from where it came")
    except UserError:
        return [], []
    ends = {name: 8 + length + entry["data_offsets"][1] for name, entry in header.items() if "data_offsets" in entry}
    return [name for name, end in ends.items() if end > size], [name for name, end in ends.items() if end <= size]


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + rest


def read_rows(path: Path, name: str, first: int, last: int) -> np.ndarray:
    """Some rows of a tensor, in the type that they are stored in.

    Raises:
        UserError: the file is no longer what its header was when it was checked.
    """
    try:
        with safe_open(path, framework="np", backend="pread") as file:
            return file.get_slice(name)[first:last]
    except SafetensorError as error:
        raise UserError(f"{path} changed while it was read ({error}); convert it again") from error


def write_file(folder: Path, file: TensorFile, rows: Callable[[Tensor], Iterable[np.ndarray]]) -> None:
    """Writes a safetensors file; `rows` yields a tensor's rows in order, in blocks of any size and of its type.

    With the order and metadata of a file that the library wrote, every byte is the same.

    Raises:
        OSError: the disk is full, for example.
    """
    with storage.new_file(folder / file.name) as out:
        out.write(_header(file))
        for tensor in file.tensors:
            start = out.tell()
            for block in rows(tensor):
                if block.dtype != DTYPES[tensor.dtype]:
                    raise ValueError(f"{tensor.name}: a block of type {block.dtype} for a tensor of {tensor.dtype}")
                # NumPy exports no buffer of bfloat16.
                out.write(np.ascontiguousarray(block).view(np.uint8).data)
            if out.tell() - start != tensor.bytes:
                raise ValueError(f"{tensor.name}: {out.tell() - start} bytes instead of {tensor.bytes}")


def _header(file: TensorFile) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(file.metadata)} if file.metadata else {}
    offset = 0
    for tensor in file.tensors:
        end = offset + tensor.bytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def split_into_files(tensors: Iterable[Tensor], max_bytes: int) -> tuple[TensorFile, ...]:
    """The tensors in order, in as few files as the limit allows, named as transformers names them."""
    groups: list[list[Tensor]] = []
    for tensor in tensors:
        if not groups or sum(other.bytes for other in groups[-1]) + tensor.bytes > max_bytes:
            groups.append([])
        groups[-1].append(tensor)
    return tuple(
        TensorFile(
            SINGLE_FILE if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}{SUFFIX}",
            tuple(group),
            {"format": "pt"},
        )
        for number, group in enumerate(groups, start=1)
    )


def index_json(files: Sequence[TensorFile]) -> bytes:
    """The index of a model in several files."""
    tensors: Iterator[tuple[Tensor, str]] = ((tensor, file.name) for file in files for tensor in file.tensors)
    weight_map = {tensor.name: name for tensor, name in tensors}
    total = sum(tensor.bytes for file in files for tensor in file.tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(index, indent=2) + "\n").encode()
