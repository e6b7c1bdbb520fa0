"""The manifest of a stage: written last, it is the commit of everything that the stage wrote.

A folder without a manifest is an unfinished one, whatever lies in it. The key names what the outputs depend on: the
stage and its version, its config, and the digests of its inputs; a stage whose folder holds a manifest with the key at
hand has nothing to do.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sc2jax.errors import UserError

MANIFEST = "manifest.json"
_READ_WHOLE = 4 * 2**20
_UNFINISHED = ".unfinished"


@dataclasses.dataclass(frozen=True)
class Output:
    """One file that a stage wrote: its path relative to the stage's folder, and what is needed to check it.

    `rows`, `row_groups` and `footer_sha256` are those of a Parquet part: a dataset of many parts can be addressed by
    row group without opening them, and pages carry checksums, but a footer does not.
    """

    path: str
    bytes: int
    sha256: str
    rows: int = 0
    row_groups: int = 0
    footer_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a stage was given and what it wrote."""

    stage: str
    key: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    outputs: tuple[Output, ...]
    statistics: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The sha256 of the outputs: what a later stage depends on. Equal bytes give an equal digest."""
        return _sha256([dataclasses.asdict(output) for output in self.outputs])

    def under(self, prefix: str) -> list[Output]:
        """The outputs in the sub-folder `prefix`, in order of their paths."""
        found = [output for output in self.outputs if output.path.startswith(prefix.rstrip("/") + "/")]
        return sorted(found, key=lambda output: output.path)


def stage_key(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The sha256 of all that a stage's outputs depend on; `version` is raised when its code changes them."""
    return _sha256({"stage": stage, "version": version, "config": config, "inputs": inputs})


def read_manifest(folder: str) -> Manifest:
    """The manifest of a complete folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = join(folder, MANIFEST)
    try:
        fs, local = fsspec.core.url_to_fs(path)
        fields = json.loads(fs.cat_file(local))
        outputs = tuple(Output(**output) for output in fields.pop("outputs"))
        return Manifest(outputs=outputs, **fields)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no {MANIFEST}: the stage that writes it was not run or did not finish; run it (again)"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {folder} and run its stage again") from error


def is_finished(folder: str) -> bool:
    """Whether a folder holds a manifest; nothing of it is checked."""
    fs, path = fsspec.core.url_to_fs(join(folder, MANIFEST))
    return fs.exists(path)


def completed(folder: str, key: str) -> Manifest | None:
    """The manifest of `folder` if it is complete for `key` and its outputs are whole, else None.

    Small outputs are read and compared; of larger ones, which carry checksums of their own, the sizes are.
    """
    if not is_finished(folder):
        return None
    fs, root = fsspec.core.url_to_fs(folder)
    manifest = read_manifest(folder)
    if manifest.key != key:
        return None
    for output in manifest.outputs:
        path = join(root, output.path)
        if not fs.exists(path) or fs.size(path) != output.bytes:
            return None
        if output.bytes <= _READ_WHOLE and hashlib.sha256(fs.cat_file(path)).hexdigest() != output.sha256:
            return None
    return manifest


def commit(folder: str, manifest: Manifest) -> Manifest:
    """Writes the manifest in one atomic step, then removes files of earlier, uncommitted runs."""
    write_atomically(join(folder, MANIFEST), canonical_json(dataclasses.asdict(manifest), indent=1).encode())
    fs, root = fsspec.core.url_to_fs(folder)
    kept = {join(root, output.path) for output in manifest.outputs} | {join(root, MANIFEST)}
    folders = {path.rsplit("/", 1)[0] for path in kept}
    for path in (path for parent in folders for path in fs.ls(parent, detail=False)):
        if path not in kept and fs.isfile(path) and _is_part(path):
            fs.rm_file(path)
    return manifest


def _is_part(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.startswith("part-") or (name.startswith(".") and name.endswith(_UNFINISHED))


def write_output(folder: str, path: str, content: bytes) -> Output:
    """Writes one file of a stage and returns its entry for the manifest."""
    write_atomically(join(folder, path), content)
    return Output(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_atomically(path: str, content: bytes) -> None:
    """Writes a whole file or nothing: readers see the old content or the new, on local disk and object stores alike.

    An object store shows an object when its upload is complete. On a local disk the bytes go to a file beside the
    target, are synced, and take its name in one step; fsspec's own transactions go through the temporary folder of the
    machine, from where a file may have to be copied, and a kill would leave half of it.
    """
    fs, target = fsspec.core.url_to_fs(path)
    fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(target, content)
        return
    final = Path(target)
    unfinished = final.with_name(f".{final.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(final)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = path  # a full disk does not say what it refused
        raise


def join(folder: str, path: str) -> str:
    """A path or URL below a folder; any of them may be local, gs:// or s3://."""
    return f"{folder.rstrip('/')}/{path}"


def canonical_json(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
