"""Files and folders, local or in an object store: the one place that joins paths and opens, writes and deletes files.

A path may be local or a URL such as gs://bucket/run; fsspec opens either, and nothing else here imports it. A file is
written whole or not at all: readers see the old content or the new. Checkpoints are the exception: Orbax writes them.
Whatever goes wrong between here and an object store is one `StoreError`, but for a file that is not there, or that is.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sc2jax.errors import UserError
from sc2jax.stores import file_system, is_store, reaches, remote_file, unreachable

_UNFINISHED = ".unfinished"
_BLOCK_BYTES = 2**20


def join(folder: str, path: str) -> str:
    """A path or URL below a folder."""
    return f"{folder.rstrip('/')}/{path}"


def inside(folder: str, path: str) -> str:
    """A path that comes out of a file (a manifest, an index, an archive), below the folder that it is relative to.

    Raises:
        UserError: it is absolute, climbs with `..`, or leaves the folder over a link.
    """
    refuse_outside(folder, [path])
    return join(folder, path)


def refuse_outside(folder: str, paths: Iterable[str]) -> None:
    """The same check of many paths, which looks at each folder among them once: a corpus may have 100,000 parts.

    Raises:
        UserError: one of them is absolute, climbs with `..`, or leaves the folder over a link.
    """
    root = "" if is_url(folder) else os.path.realpath(folder)
    within = {""}
    for path in paths:
        if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise UserError(
                f"{folder} names a file {path!r}, which is no path below it; nothing of it was read or written"
            )
        if not root:
            continue
        joined, above = join(folder, path), path.rpartition("/")[0]
        # A file that is no link lies where its folder does.
        followed = [] if above in within else [join(folder, above)]
        followed += [joined] if os.path.islink(joined) else []  # noqa: PTH114 (many times as fast)
        if any(os.path.commonpath([root, os.path.realpath(place)]) != root for place in followed):
            raise UserError(f"{joined} is a link that leaves {folder}; nothing of it was read or written")
        within.add(above)


def is_url(path: str) -> bool:
    """Whether a path names an object store, not the local disk."""
    return "://" in path


def is_text(path: str) -> bool:
    """Whether a path is all characters; others stand for bytes that are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def absolute(path: str) -> str:
    """A URL as it is, a local path from the root on: Orbax takes no other."""
    if is_url(path):
        return path
    # What `..` leads to over a link only the system knows; TensorStore takes no path with one in it.
    return os.path.realpath(path) if ".." in Path(path).parts else str(Path(path).absolute())


KINDS = ("file", "local", "gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "hdfs")
"""Of URLs whose files can be written and outlive the process: fsspec's others are archives, views, caches, memory."""


def refuse_unknown_kind(path: str) -> None:
    """Makes sure that a path is of a kind that can be opened here, and keeps what is written there.

    Raises:
        UserError: it is not, or the package that opens it is not installed.
    """
    kind = path.partition("://")[0]
    if "::" in path:
        raise UserError(f"{path} cannot be opened: '::' chains file systems; name a folder or URL without it")
    if is_url(path) and kind not in KINDS:
        raise UserError(
            f"{path} cannot be opened: {kind} keeps no files; use a local folder or a URL of {', '.join(KINDS)}"
        )
    try:
        fsspec.core.url_to_fs(path)
    except Exception as error:  # what opens an object store is another's package and may fail in any way
        raise UserError(f"{path} cannot be opened: {error}") from error


def refuse_no_folder(path: str, name: str = "") -> None:
    """Makes sure that a local path is a folder that can be read, or that one can be made there.

    Args:
        path: of the folder; an object store has none, and takes any.
        name: what the user calls it, such as a key of the config.

    Raises:
        UserError: something else is there, or above it.
    """
    place = Path(path).absolute()
    while not is_url(path):
        found = _instead_of_a_folder(place)
        if found is None:
            place = place.parent
            continue
        if found:
            below = "" if place == Path(path).absolute() else f" and cannot hold {path}"
            raise UserError(f"{f'{name}: ' if name else ''}{place} is {found}{below}; name a folder, or a new one")
        return


def _instead_of_a_folder(path: Path) -> str | None:
    """What a path is, if it is no folder that can be read; "" for one, None for nothing at all."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to what does not exist" if path.is_symlink() else None
    except OSError as error:
        return f"no path that can be followed ({error.strerror})"
    if not stat.S_ISDIR(mode):
        return _KINDS_OF_FILES.get(stat.S_IFMT(mode), "no folder")
    return "" if os.access(path, os.R_OK | os.X_OK) else "a folder that this user may not read"


def why_unmovable(source: str, target: str) -> str:
    """What keeps files of one local folder from being moved into another; "" if nothing does, or it is not there."""
    found = _instead_of_a_folder(Path(target))
    if found is None or found:
        return found or ""
    if not os.access(target, os.W_OK | os.X_OK):
        return "a folder in which this user may not write"
    return "" if Path(source).stat().st_dev == Path(target).stat().st_dev else "on another disk"


def refuse_irregular(folder: str) -> None:
    """Makes sure that what lies below a local folder is regular files, before another library opens them.

    Raises:
        UserError: something else is there: a pipe would be waited for without end.
    """
    for path in [] if is_url(folder) else files_below(folder):
        with contextlib.suppress(OSError):  # it is gone by now, or a link to nothing, which nobody waits for
            if not stat.S_ISREG(Path(folder, path).stat().st_mode):
                raise UserError(
                    f"{join(folder, path)} is no regular file; bring that file back, or remove what is there"
                )


_KINDS_OF_FILES = {stat.S_IFREG: "a file", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


@reaches
def open_file(path: str) -> BinaryIO:
    """A regular file for reading.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no regular file: a pipe would be waited for without end.
    """
    fs, local = file_system(path)
    if isinstance(fs, LocalFileSystem) and not stat.S_ISREG(Path(local).stat().st_mode):
        raise UserError(f"{path} is no regular file; put a file there, or name another")
    file = cast("BinaryIO", fs.open(local, "rb"))
    return remote_file(path, file) if is_store(path) else file


def read_bytes(path: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
    """
    with open_file(path) as file:
        return file.read()


@reaches
def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    fs, local = file_system(path)
    return fs.exists(local)


def is_there(path: str) -> bool:
    """Whether anything has this local name, be it a link to nothing."""
    return os.path.lexists(path)


def is_file(path: str) -> bool:
    """Whether there is a regular file of this local name, and no link to one."""
    return is_there(path) and stat.S_ISREG(Path(path).lstat().st_mode)


@reaches
def is_folder(path: str) -> bool:
    """Whether there is a folder of this name, and no link to one."""
    fs, local = file_system(path)
    return fs.isdir(local) and not (isinstance(fs, LocalFileSystem) and Path(local).is_symlink())


@reaches
def file_sizes(folder: str) -> dict[str, int]:
    """The files directly in a folder, by name, with their bytes, from one listing; none if there is no such folder."""
    fs, local = file_system(folder)
    if not fs.isdir(local):
        return {}
    entries = fs.ls(local, detail=True)
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}


@reaches
def names(folder: str) -> list[str]:
    """The names of the files and folders directly in a folder, sorted; none if there is no such folder."""
    fs, local = file_system(folder)
    if not fs.isdir(local):
        return []
    return sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(local, detail=False))


@reaches
def files_below(folder: str) -> list[str]:
    """The files at any depth below a folder, relative to it and sorted; a link is one file, wherever it leads."""
    fs, root = file_system(folder)
    if not isinstance(fs, LocalFileSystem):
        return sorted(path.removeprefix(root.rstrip("/") + "/") for path in fs.find(root))
    found = []
    for parent, folders, files in os.walk(root):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found += [Path(parent, name).relative_to(root).as_posix() for name in (*files, *links)]
    return sorted(found)


@reaches
def sizes_below(folder: str) -> dict[str, int]:
    """The bytes of the regular files at any depth below a folder, by their paths relative to it, from one listing."""
    fs, root = file_system(folder)
    if not isinstance(fs, LocalFileSystem):
        above = root.rstrip("/") + "/"
        return {path.removeprefix(above): entry["size"] for path, entry in fs.find(root, detail=True).items()}
    found = {}
    for path in files_below(folder):
        with contextlib.suppress(FileNotFoundError):  # a link to nothing, or a file that is gone by now
            about = Path(root, path).stat()
            if stat.S_ISREG(about.st_mode):
                found[path] = about.st_size
    return found


def sha256_of_file(path: str) -> str:
    """The sha256 of a file's content, read a block at a time.

    Raises:
        FileNotFoundError: there is none.
    """
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@reaches
def make_folder(folder: str) -> None:
    """Makes a folder and those above it; an object store has none to make, and a bucket is not for us to make."""
    fs, local = file_system(folder)
    if isinstance(fs, LocalFileSystem):
        fs.makedirs(local, exist_ok=True)


@reaches
def write_whole(path: str, content: bytes, *, durable: bool = True) -> None:
    """Writes a whole file or nothing, on local disk and object stores; what is not `durable` is lost with the machine.

    An object store shows an object when its upload is complete. On a local disk the bytes go to a file beside the
    target, and take its name in one step; fsspec's own transactions may copy a file, and a kill would leave half of it.

    Raises:
        UserError: a link or something else that is no regular file has its name on the local disk.
    """
    fs, target = file_system(path)
    if not isinstance(fs, LocalFileSystem):
        _put(path, fs, target, content)
        return
    _refuse_no_file(target)
    fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    with new_file(Path(target), durable=durable) as file:
        file.write(content)


def append(path: str, content: bytes) -> None:
    """Adds to the end of a local file, which is made, with the folders above it, if there is none.

    Raises:
        UserError: a link or something else that is no regular file has its name.
    """
    _refuse_no_file(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("ab") as file:
        file.write(content)


def _refuse_no_file(path: str) -> None:
    """Makes sure that what a local file is written over is one, and no link, which would be lost."""
    if is_there(path) and not is_file(path):
        raise UserError(f"{path} is no regular file; remove what is there")


@reaches
def create_file(path: str, content: bytes) -> None:
    """Writes a file that must not exist: of several processes that try, one succeeds.

    Raises:
        FileExistsError: there is one.
    """
    fs, target = file_system(path)
    _put(path, fs, target, content, mode="create")


def _put(path: str, fs: Any, target: str, content: bytes, **how: str) -> None:
    try:
        fs.pipe_file(target, content, **how)
    except FileNotFoundError as error:  # a file to be written cannot be missing; its bucket is
        raise unreachable(path, error) from error


@contextlib.contextmanager
def new_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file on the local disk to write into, which takes its name at the end, synced if durable, or leaves nothing."""
    # A name that nobody can have given: what is written over or deleted here is never somebody else's.
    unfinished = path.with_name(f".{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        with unfinished.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # a full disk does not say what it refused
        raise


def is_unfinished(name: str) -> bool:
    """Whether a file's name is one that `new_file` gives to what it has not finished."""
    return re.fullmatch(rf"\.[0-9a-f]{{16}}{_UNFINISHED}", name) is not None


@reaches
def delete_file(path: str) -> None:
    """Deletes a file."""
    fs, local = file_system(path)
    fs.rm_file(local)


@reaches
def delete_if_empty(folder: str) -> None:
    """Deletes a local folder in which nothing is left; an object store has none."""
    fs, local = file_system(folder)
    if isinstance(fs, LocalFileSystem):
        with contextlib.suppress(OSError):
            Path(local).rmdir()


@reaches
def delete_empty_folders(folder: str) -> None:
    """Deletes a local folder and those below it as far as nothing else is left in them; an object store has none."""
    fs, local = file_system(folder)
    if isinstance(fs, LocalFileSystem):
        for parent, _, _ in os.walk(local, topdown=False):
            delete_if_empty(parent)


@reaches
def delete_folder(folder: str) -> None:
    """Deletes a folder with all that is in it, if there is one; a link in it goes, and not what it leads to."""
    fs, local = file_system(folder)
    if fs.exists(local):
        fs.rm(local, recursive=True)


@contextlib.contextmanager
def new_folder(folder: str) -> Iterator[Path]:
    """A local folder to write into, whose content `folder` has at the end; it is deleted if anything goes wrong.

    An empty folder that is there is filled and not replaced: it may be a mount point, or one that a shell stands in.

    Raises:
        UserError: there is something of that name already, other than an empty folder, or a file above it; or
            something came into the folder meanwhile.
    """
    target = Path(os.path.realpath(folder))
    refuse_no_folder(folder if target.exists() else str(target))
    is_there = target.exists()
    if is_there and any(target.iterdir()):
        raise UserError(f"{folder} exists and is not empty; name another folder, or delete it")
    parents = [parent for parent in target.absolute().parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = (target if is_there else target.parent) / f".{secrets.token_hex(8)}{_UNFINISHED}"
    unfinished.mkdir()
    try:
        yield unfinished
        if is_there:
            _move_up(unfinished)
        else:
            unfinished.replace(target)
    except BaseException:
        shutil.rmtree(unfinished)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _move_up(unfinished: Path) -> None:
    """Moves all that is in a folder into the one above it, in which nothing else may be."""
    target = unfinished.parent
    others = sorted(path.name for path in target.iterdir() if path != unfinished)
    if others:
        raise UserError(f"{target} was empty and holds {others[0]} now; name another folder, or empty it")
    moved: list[Path] = []
    try:
        for path in sorted(unfinished.iterdir()):
            path.replace(target / path.name)
            moved.append(target / path.name)
    except BaseException:
        for path in moved:
            path.replace(unfinished / path.name)  # to be deleted with the rest
        raise
    unfinished.rmdir()
