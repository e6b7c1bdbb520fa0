"""The manifest of a stage: written last, it is the commit of everything that the stage wrote.

A folder without a manifest is an unfinished one, whatever lies in it. The key names what the outputs depend on: the
stage and its version, its config, and the digests of its inputs; a stage whose folder holds a manifest with the key at
hand has nothing to do.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.storage import join

MANIFEST = "manifest.json"
_READ_WHOLE = 4 * 2**20


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
    """What a stage was given and what it wrote.

    `config` holds the settings that the outputs depend on; `operation` those that only say how the work was done.
    """

    stage: str
    key: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    outputs: tuple[Output, ...]
    statistics: Mapping[str, Any]
    version: int = 0
    operation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The sha256 of the outputs: what a later stage depends on. Equal bytes give an equal digest."""
        return sha256_of([dataclasses.asdict(output) for output in self.outputs])

    def under(self, prefix: str) -> list[Output]:
        """The outputs in the sub-folder `prefix`, in order of their paths."""
        found = [output for output in self.outputs if output.path.startswith(prefix.rstrip("/") + "/")]
        return sorted(found, key=lambda output: output.path)


def stage_key(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The sha256 of all that a stage's outputs depend on; `version` is raised when its code changes them."""
    return sha256_of({"stage": stage, "version": version, "config": config, "inputs": inputs})


def read_manifest(folder: str) -> Manifest:
    """The manifest of a complete folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = join(folder, MANIFEST)
    try:
        fields = json.loads(storage.read_bytes(path))
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
    return storage.exists(join(folder, MANIFEST))


def completed(folder: str, key: str) -> Manifest | None:
    """The manifest of `folder` if it is complete for `key` and its outputs are whole, else None.

    Small outputs are read and their digests compared. Larger ones carry checksums of their own, which are verified when
    they are read; here only their sizes are compared.
    """
    if not is_finished(folder):
        return None
    manifest = read_manifest(folder)
    if manifest.key != key:
        return None
    sizes = {parent: storage.file_sizes(join(folder, parent)) for parent in _parents(manifest)}
    for output in manifest.outputs:
        parent, _, name = output.path.rpartition("/")
        if sizes[parent].get(name) != output.bytes:
            return None
        if output.bytes <= _READ_WHOLE:
            content = storage.read_bytes(join(folder, output.path))
            if hashlib.sha256(content).hexdigest() != output.sha256:
                return None
    return manifest


def commit(folder: str, manifest: Manifest) -> Manifest:
    """Writes the manifest in one atomic step, then removes parts of earlier runs that it does not list."""
    storage.write_whole(join(folder, MANIFEST), canonical_json(dataclasses.asdict(manifest), indent=1).encode())
    kept = {output.path for output in manifest.outputs}
    for parent in _parents(manifest) | {""}:
        for name in storage.file_sizes(join(folder, parent)):
            path = join(parent, name) if parent else name
            if path not in kept and (name.startswith("part-") or storage.is_unfinished(name)):
                storage.delete_file(join(folder, path))
    return manifest


def _parents(manifest: Manifest) -> set[str]:
    """The folders that hold outputs, below that of the manifest."""
    return {output.path.rpartition("/")[0] for output in manifest.outputs}


def write_output(folder: str, path: str, content: bytes) -> Output:
    """Writes one file of a stage and returns its entry for the manifest."""
    storage.write_whole(join(folder, path), content)
    return Output(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def canonical_json(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """The sha256 of a value in canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
