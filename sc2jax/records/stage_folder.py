"""The folder of a stage: whose it is, what is under way in it, and how that is committed.

The first thing in the folder is a mark, `.sc2jax/mark.json`, with the stage's name and a random id. Beside it lies the
lock of the one process that may write, and the folder of that id, which holds all that is not finished; so what an
interrupted run left is found and deleted, and nothing is taken for ours because of what it is called. A commit is
itself resumed: once the manifest lies among the unfinished files, whoever comes next finishes the move.

In an object store nothing can be moved: there files are written in their places, and the manifest makes them count.
"""

import contextlib
import dataclasses
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypedDict

from sc2jax import storage
from sc2jax.display import name_foreign
from sc2jax.errors import UserError
from sc2jax.json_files import read_json
from sc2jax.locks import is_lock, locked
from sc2jax.records.manifest import (
    MANIFEST,
    Manifest,
    Output,
    canonical_json,
    commit,
    delete_obsolete,
    folders_above,
    is_finished,
    manifest_json,
    read_manifest,
)
from sc2jax.storage import inside, join

OURS = ".sc2jax"
"""The folder within a stage's that holds its mark, its lock and what is under way."""

LOCK = join(OURS, "lock")
MARK = join(OURS, "mark.json")
_BEFORE_WORK = [path.partition("/")[2] for path in (LOCK, MARK)]
"""What lies in that folder before the work begins."""

_EARLIER = "earlier"
"""The folder, in that of what is under way, of the manifest that a commit replaces."""

_LAST = "last.json"
_NOTES = join(OURS, "done")
"""The folder, in that of what is under way, of what a stage notes of its finished parts, below the stage's key."""
_NAMED_AT_MOST = 3


@dataclasses.dataclass(frozen=True)
class Mark:
    """Says which stage a folder belongs to; `id` names the folder of what is under way."""

    stage: str
    id: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A stage's folder while this process may write in it: files go into `unfinished`, and `commit` moves them out."""

    folder: str
    unfinished: str
    still_ours: Callable[[], None]

    def commit(self, manifest: Manifest, keeps: Collection[str]) -> None:
        """Publishes what lies in `unfinished`; `keeps` names what else in the folder belongs to the stage.

        Raises:
            UserError: a file of somebody else lies where an output has to go, or the folder was taken over.
        """
        self.still_ours()
        if self.unfinished != self.folder:
            if is_finished(self.folder):
                earlier = manifest_json(read_manifest(self.folder))
                storage.write_whole(join(self.unfinished, f"{_EARLIER}/{MANIFEST}"), earlier)
            _refuse_occupied(self.folder, self.unfinished, manifest, keeps)
            storage.write_whole(join(self.unfinished, MANIFEST), manifest_json(manifest))
        _publish(self.folder, self.unfinished, manifest)
        name_foreign(self.folder, foreign_files(self.folder, manifest, keeps))


@contextlib.contextmanager
def claimed(
    folder: str, stage: str, adopts: Callable[[str], bool] = lambda _: False, resumed: str = ""
) -> Iterator[Claim]:
    """Holds a folder for a stage: nobody else writes in it, and nothing is under way at first.

    With the key of a stage that can be `resumed`, what an interrupted run of that very key left stays.

    Raises:
        UserError: the folder holds something else, which is not touched, or another process is writing in it.
    """
    refuse_foreign(folder, stage, adopts)
    made = [] if storage.is_url(folder) else [at for at in (Path(folder), *Path(folder).parents) if not at.exists()]
    storage.make_folder(join(folder, OURS))
    try:
        with locked(join(folder, LOCK), folder) as still_ours:
            mark = read_mark(folder) or _leave_mark(folder, stage)
            unfinished = folder if storage.is_url(folder) else _unfinished(folder, mark)
            _delete_unnamed_marks(folder)
            notes = notes_folder(unfinished, resumed)
            if unfinished != folder:
                _finish_commit(folder, unfinished)
                if not (resumed and storage.names(notes)):
                    storage.delete_folder(unfinished)
                storage.make_folder(unfinished)
            try:
                yield Claim(folder, unfinished, still_ours)
            finally:
                if unfinished != folder and not is_finished(unfinished) and not (resumed and storage.names(notes)):
                    storage.delete_folder(unfinished)
                # Nothing came of it, and nothing but ours is there.
                if storage.names(folder) == [OURS] and storage.names(join(folder, OURS)) == _BEFORE_WORK:
                    for ours in (MARK, LOCK):
                        storage.delete_file(join(folder, ours))
                    storage.delete_if_empty(join(folder, OURS))
    finally:
        for at in made:
            with contextlib.suppress(OSError):
                at.rmdir()


def notes_folder(unfinished: str, key: str) -> str:
    """Where a stage that can be resumed notes, while it works in `unfinished`, which of its parts are done."""
    return join(unfinished, f"{_NOTES}/{key}")


def leads_to_stages(path: str) -> bool:
    """Whether a path is a link to the folder of a stage or a dataset, or to one that holds such."""
    if storage.is_url(path) or not Path(path).is_symlink():
        return False
    return _is_stage(path) or any(_is_stage(join(path, name)) for name in storage.names(path))


def _is_stage(folder: str) -> bool:
    return is_finished(folder) or storage.exists(join(folder, MARK))


def is_half_committed(folder: str) -> bool:
    """Whether a commit was interrupted there, which the next claim of the folder ends."""
    mark = read_mark(folder)
    return mark is not None and not storage.is_url(folder) and is_finished(_unfinished(folder, mark))


def _unfinished(folder: str, mark: Mark) -> str:
    return inside(folder, f"{OURS}/{mark.id}")


def delete_unfinished(folder: str) -> None:
    """Deletes what an interrupted run left in a folder of ours that is complete, unless somebody is at work there."""
    mark = read_mark(folder)
    if mark is None or storage.is_url(folder) or not storage.exists(_unfinished(folder, mark)):
        return
    # A folder that can be read only, or that another process writes in, stays as it is.
    with contextlib.suppress(UserError, OSError), locked(join(folder, LOCK), folder):
        if not is_half_committed(folder):
            storage.delete_folder(_unfinished(folder, mark))


def hidden_files(folder: str) -> tuple[list[str], list[str]]:
    """What lies in the hidden folder beside mark and lock: what is not finished, and what is not ours."""
    mark, hidden = read_mark(folder), join(folder, OURS)
    others = [name for name in storage.files_below(hidden) if name not in _BEFORE_WORK]
    ours = [name for name in others if (mark and name.startswith(f"{mark.id}/")) or _is_unnamed_mark(folder, name)]
    foreign = sorted(set(others).difference(ours))
    return [join(OURS, name) for name in ours], [join(OURS, name) for name in foreign]


def read_mark(folder: str) -> Mark | None:
    """The mark of a folder; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = inside(folder, MARK)
    try:
        mark = read_json(path, Mark, f"delete {folder} and run its stage again")
    except FileNotFoundError:
        return None
    if not re.fullmatch(r"[0-9a-f]{16}", mark.id):
        raise UserError(f"{path} is damaged: {mark.id!r} is no id; delete {folder} and run its stage again")
    return mark


def _leave_mark(folder: str, stage: str) -> Mark:
    mark = Mark(stage, secrets.token_hex(8))
    storage.write_whole(join(folder, MARK), _mark_json(mark))
    return mark


def _mark_json(mark: Mark) -> bytes:
    return canonical_json(dataclasses.asdict(mark)).encode()


_MARK_BEGINS = _mark_json(Mark("", "")).partition(b'""')[0]


def _is_unnamed_mark(folder: str, name: str) -> bool:
    """Whether a file in the hidden folder is a mark, or the beginning of one, whose writer was killed in the act."""
    path = join(folder, f"{OURS}/{name}")
    if not storage.is_unfinished(name) or not storage.is_file(path):
        return False
    begins = storage.read_bytes(path)[: len(_MARK_BEGINS)]
    return _MARK_BEGINS.startswith(begins)


def _delete_unnamed_marks(folder: str) -> None:
    if not storage.is_url(folder):
        for name in storage.names(join(folder, OURS)):
            if _is_unnamed_mark(folder, name):
                storage.delete_file(join(folder, f"{OURS}/{name}"))


def refuse_foreign(folder: str, stage: str, adopts: Callable[[str], bool] = lambda _: False) -> None:
    """Makes sure that a folder is empty or the stage's own, by its mark or a manifest, before any work is done.

    Of a folder with neither `adopts` says whether what lies in it is the stage's all the same.

    Raises:
        UserError: it holds something else, or is no folder.
    """
    storage.refuse_no_folder(folder)
    storage.refuse_no_folder(join(folder, OURS))
    storage.refuse_outside(folder, [LOCK, MARK])
    mark = read_mark(folder)
    if mark is None and is_finished(folder):
        with contextlib.suppress(UserError):  # somebody else's, if it cannot be read
            mark = Mark(read_manifest(folder).stage, "")  # copied without the hidden folder
    if mark is not None:
        if mark.stage != stage:
            raise UserError(f"{folder} holds what `{mark.stage}` wrote; name another folder for `{stage}`")
        return
    # A kill before the mark was there leaves the lock, and perhaps a mark that has not got its name.
    hidden = [name for name in storage.names(join(folder, OURS)) if not _is_before_work(folder, name)]
    found = [*(join(OURS, name) for name in hidden), *(name for name in storage.names(folder) if name != OURS)]
    if found and (hidden or not adopts(folder)):
        raise UserError(
            f"{folder} holds files that are not ours ({', '.join(found[:_NAMED_AT_MOST])}"
            f"{', ...' if len(found) > _NAMED_AT_MOST else ''}) and no mark of a stage; name an empty or a new folder, "
            f"or if it is a copy of an unfinished stage, copy its hidden folder {OURS} too"
        )


def _is_before_work(folder: str, name: str) -> bool:
    return is_lock(join(folder, LOCK)) if join(OURS, name) == LOCK else _is_unnamed_mark(folder, name)


def foreign_files(folder: str, manifest: Manifest, keeps: Collection[str] = ()) -> list[str]:
    """What lies in a stage's folder and is not its own; a dataset or stage with a folder of its own is named as one.

    `keeps` are the names of files and folders that belong to the stage and stand in no manifest.
    """
    known = {output.path for output in manifest.outputs} | {MANIFEST}
    found = [path for path in storage.files_below(folder) if path.partition("/")[0] not in (OURS, *keeps)]
    datasets = {path.removesuffix(end) for path in found for end in (f"/{MANIFEST}", f"/{MARK}") if path.endswith(end)}
    foreign = set()
    for path in found:
        if path not in known:
            linked = f"{path}/" if leads_to_stages(join(folder, path)) else path
            foreign.add(next((f"{parent}/" for parent in folders_above(path) if parent in datasets), linked))
    return sorted(foreign)


def _refuse_occupied(folder: str, unfinished: str, manifest: Manifest, keeps: Collection[str] = ()) -> None:
    """An output goes where nothing is, or where an output was, or where it lies already, and never over a link.

    All places are looked at before the first move: a commit is possible whole, or refused whole.
    """
    earlier = _outputs_of(join(unfinished, _EARLIER))
    listed = set(keeps) | {output.path for output in earlier}
    waiting = [output for output in manifest.outputs if storage.exists(join(unfinished, output.path))]
    storage.refuse_outside(folder, [output.path for output in (*earlier, *manifest.outputs)])
    above = {parent for output in waiting for parent in folders_above(output.path)}
    for place in (folder, *(join(folder, parent) for parent in sorted(above))):
        found = storage.why_unmovable(unfinished, place)
        if found:
            raise _occupied(place, found)
    for output in waiting:
        target = join(folder, output.path)
        if storage.is_file(target) and (output.path in listed or storage.sha256_of_file(target) == output.sha256):
            continue
        if storage.is_there(target):
            raise _occupied(target)


def _occupied(path: str, what: str = "") -> UserError:
    is_what = f"is {what}" if what else "is not ours"
    return UserError(f"{path} {is_what} and lies where an output has to go; move it away and run again")


def _outputs_of(folder: str) -> tuple[Output, ...]:
    return read_manifest(folder).outputs if is_finished(folder) else ()


def _finish_commit(folder: str, unfinished: str) -> None:
    """Ends a commit that was interrupted."""
    if is_finished(unfinished):
        manifest = read_manifest(unfinished)
        _refuse_occupied(folder, unfinished, manifest)
        _publish(folder, unfinished, manifest)


class _Noted(TypedDict):
    """What every note of a finished part says: which files it wrote."""

    outputs: list[Output]


def _delete_noted(folder: str, manifest: Manifest) -> None:
    """Deletes notes, and what they list that is not the manifest's: parts of interrupted runs with other settings."""
    kept = {output.path for output in manifest.outputs}
    notes = join(folder, _NOTES)
    for path in storage.files_below(notes):
        noted = read_json(join(notes, path), _Noted, f"delete {join(notes, path)}")
        for output in noted["outputs"]:
            if output.path not in kept and storage.exists(inside(folder, output.path)):
                storage.delete_file(join(folder, output.path))
    storage.delete_folder(notes)


def _publish(folder: str, unfinished: str, manifest: Manifest) -> None:
    """Moves the outputs into their places, then the manifest, and deletes what only older runs wrote.

    Done again after it was interrupted anywhere, it comes to the same.
    """
    if unfinished == folder:
        commit(folder, manifest)
        _delete_noted(folder, manifest)
        return
    for output in manifest.outputs:
        source, target = Path(unfinished, output.path), Path(folder, output.path)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    earlier = join(unfinished, _EARLIER)
    storage.write_whole(join(unfinished, _LAST), manifest_json(manifest))
    Path(unfinished, _LAST).replace(Path(folder, MANIFEST))
    delete_obsolete(folder, manifest, read_manifest(earlier) if is_finished(earlier) else None)
    storage.delete_folder(unfinished)
