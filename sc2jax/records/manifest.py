"""The manifest of a stage: written last, it is the commit of everything that the stage wrote.

A folder without a manifest is an unfinished one, whatever lies in it. The key names what the outputs depend on: the
stage and its version, its config, and the digests of its inputs; a stage whose folder holds a manifest with the key at
hand has nothing to do.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import decode_json
from sc2jax.storage import inside, join, refuse_outside

MANIFEST = "manifest.json"
_READ_WHOLE = 4 * 2**20
_CONTENT_NAMED = re.compile(r"part-\d+-([0-9a-f]{16})\.\w+")


@dataclasses.dataclass(frozen=True)
class Output:
    """One file that a stage wrote: its path relative to the stage's folder, and what is needed to check it.

    `rows`, `row_groups` and `footer_sha256` are those of a Parquet part: a dataset of many parts can be addressed by
    row group without opening them, and pages carry checksums, but a footer does not. A file that is no `result` says
    how the work was done, on which machine or how fast; nothing follows from it.
    """

    path: str
    bytes: int
    sha256: str
    rows: int = 0
    row_groups: int = 0
    footer_sha256: str = ""
    result: bool = True


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a stage was given and what it wrote.

    `config` holds the settings that the outputs depend on; `operation` those that only say how the work was done.
    """

    stage: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    outputs: tuple[Output, ...]
    statistics: Mapping[str, Any]
    version: int = 0
    operation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The digest of all that the outputs depend on."""
        return stage_key(self.stage, self.version, self.config, self.inputs)

    @property
    def digest(self) -> str:
        """The sha256 of the results: what a later stage depends on. Equal bytes give an equal digest."""
        return sha256_of([dataclasses.asdict(output) for output in self.outputs if output.result])

    def under(self, prefix: str) -> list[Output]:
        """The outputs in the sub-folder `prefix`, in order of their paths."""
        found = [output for output in self.outputs if output.path.startswith(prefix.rstrip("/") + "/")]
        return sorted(found, key=lambda output: output.path)


def stage_key(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The sha256 of all that a stage's outputs depend on; `version` is raised when its code changes them."""
    return sha256_of({"stage": stage, "version": version, "config": config, "inputs": inputs})


@dataclasses.dataclass(frozen=True)
class _Sealed(Manifest):
    """A manifest as it lies on disk, with the sha256 of all that it says."""

    sha256: str = ""


def manifest_json(manifest: Manifest) -> bytes:
    """The content of a manifest's file."""
    said = dataclasses.asdict(manifest)
    return (canonical_json(said | {"sha256": sha256_of(said)}, indent=1) + "\n").encode()


def read_manifest(folder: str) -> Manifest:
    """The manifest of a complete folder.

    Raises:
        UserError: there is none or no folder, it cannot be read, or it is not the one that was written.
    """
    path = inside(folder, MANIFEST)
    remedy = f"delete {folder} and run its stage again"
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        storage.refuse_no_folder(folder)
        if not isinstance(error, FileNotFoundError):
            raise
        raise UserError(
            f"{folder} holds no {MANIFEST}: the stage that writes it was not run or did not finish; run it (again)"
        ) from error
    sealed = decode_json(content, _Sealed, path, remedy)
    manifest = Manifest(**{field.name: getattr(sealed, field.name) for field in dataclasses.fields(Manifest)})
    # To the byte: a default may stand for a key that was damaged, or a number be written in another way.
    if manifest_json(manifest) != content:
        raise UserError(f"{path} is not what its stage wrote: its sha256 is another; {remedy}")
    refuse_outside(folder, [output.path for output in manifest.outputs])
    return manifest


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
    return None if changed_output(folder, manifest) else manifest


def changed_output(folder: str, manifest: Manifest) -> str:
    """The path of an output that is not what the stage wrote, as far as `completed` looks; "" if there is none."""
    return next(_changed(folder, manifest.outputs), "")


def changed_outputs(folder: str, outputs: Sequence[Output]) -> set[str]:
    """The paths of all such outputs."""
    return set(_changed(folder, outputs))


def _changed(folder: str, outputs: Sequence[Output]) -> Iterator[str]:
    parents = {output.path.rpartition("/")[0] for output in outputs}
    sizes = {parent: storage.file_sizes(join(folder, parent)) for parent in parents}
    for output in outputs:
        parent, _, name = output.path.rpartition("/")
        is_small = output.bytes <= _READ_WHOLE
        if sizes[parent].get(name) != output.bytes or (
            is_small and storage.sha256_of_file(join(folder, output.path)) != output.sha256
        ):
            yield output.path


def read_output(folder: str, manifest: Manifest, path: str) -> bytes:
    """One small file of a stage.

    Raises:
        UserError: the stage wrote none of that name, or it is not what was written.
    """
    full = join(folder, path)
    output = next((output for output in manifest.outputs if output.path == path), None)
    if output is None:
        raise UserError(f"{join(folder, MANIFEST)} lists no {path}; delete {folder} and run its stage again")
    try:
        content = storage.read_bytes(full)
    except FileNotFoundError as error:
        raise UserError(f"{full} is missing; run the stage that wrote it again") from error
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise UserError(f"{full} is not what its stage wrote; bring it back, or run the stage again")
    return content


def commit(folder: str, manifest: Manifest) -> Manifest:
    """Writes the manifest in one atomic step, then deletes what only earlier runs wrote."""
    earlier = read_manifest(folder) if is_finished(folder) else None
    storage.write_whole(join(folder, MANIFEST), manifest_json(manifest))
    delete_obsolete(folder, manifest, earlier)
    return manifest


def delete_obsolete(folder: str, manifest: Manifest, earlier: Manifest | None) -> None:
    """Deletes what an earlier manifest lists and this one does not, and parts that none ever listed.

    Those are known by their names, which carry the digest of what is in them, so that no file of somebody else is taken
    for one.
    """
    kept = {output.path for output in manifest.outputs}
    listed = {output.path for output in earlier.outputs} if earlier else set()
    parents = _parents(manifest) | (_parents(earlier) if earlier else set())
    for parent in parents:
        below = join(folder, parent) if parent else folder
        for name in storage.file_sizes(below):
            path = join(parent, name) if parent else name
            if path not in kept and (path in listed or _is_our_part(join(below, name))):
                storage.delete_file(join(folder, path))
    outputs = (*manifest.outputs, *(earlier.outputs if earlier else ()))
    for above in sorted({above for output in outputs for above in folders_above(output.path)}, reverse=True):
        storage.delete_if_empty(join(folder, above))


def _is_our_part(path: str) -> bool:
    named = _CONTENT_NAMED.fullmatch(path.rpartition("/")[2])
    return named is not None and storage.sha256_of_file(path).startswith(named[1])


def folders_above(path: str) -> list[str]:
    """The folders that hold an output, outermost first, relative to the stage's, which is not among them."""
    return [path[: slash.start()] for slash in re.finditer("/", path)]


def _parents(manifest: Manifest) -> set[str]:
    """The folders that hold outputs, below that of the manifest."""
    return {output.path.rpartition("/")[0] for output in manifest.outputs}


def write_output(folder: str, path: str, content: bytes, *, result: bool = True) -> Output:
    """Writes one file of a stage and returns its entry for the manifest."""
    storage.write_whole(join(folder, path), content)
    return Output(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), result=result)


def canonical_json(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """The sha256 of a value in canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
