"""The objects of a git repository, read by git itself without anything that the repository says to it.

`git cat-file --batch` is several times as fast as the libraries that could be asked instead, and knows every format of
packs and both hashes. It runs with a git folder and an environment of our own, so that no config, hook, replacement,
graft or promise of the repository is followed, and nothing is fetched; all it is shown is a folder of objects, which
holds regular files alone.
"""

import atexit
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from sc2jax.corpus.sources.left_out import SourceError, as_text
from sc2jax.corpus.sources.walk import lies_in, read_bytes
from sc2jax.errors import UserError

_ASKED_AT_ONCE = 512
"""Names of objects that fit the pipe to git (64 KiB) while nothing is read from the other one."""

_MOST_DEATHS = 16
"""Git ends at some damaged objects and is begun again; after so many times the others count as damaged too."""

_MOST_MEMORY = 4 << 30
"""Bytes that git may take: a few megabytes of deltas can stand for any size."""

_MOST_IDLE = 16
_ALTERNATES_BYTES = 1 << 20
_ALTERNATES_DEPTH = 5  # as git itself
_FOLDER_OF_OBJECTS = re.compile("[0-9a-f]{2}|pack")

_CONFIG = """[core]
	bare = true
	multiPackIndex = false
	commitGraph = false
	packedGitWindowSize = 32m
	packedGitLimit = 1g
	repositoryformatversion = """
_CONFIGS = {"sha1": f"{_CONFIG}0\n", "sha256": f"{_CONFIG}1\n[extensions]\n\tobjectFormat = sha256\n"}
"""Hash -> the config of a git folder of our own."""


@dataclasses.dataclass(frozen=True)
class ObjectStore:
    """Where a repository's objects lie.

    Attributes:
        folder: with the packs and the loose objects.
        bound: nothing outside of this folder is read.
        hash: `sha1` or `sha256`, by which the objects are named.
    """

    folder: str
    bound: str
    hash: str


class GitObjects:
    """The objects of one store; one thread at a time reads them."""

    def __init__(self, store: ObjectStore):
        """Looks the store's folders through.

        Raises:
            SourceError: one is missing, leads out of the bound, or holds what is no regular file.
        """
        _check_folder(store.folder, store.bound, _ALTERNATES_DEPTH)
        self._store = store
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._deaths = 0

    def sizes(self, names: Sequence[str]) -> Iterator[tuple[str, int] | SourceError]:
        """The kind of each object and its number of bytes, in order; or why it cannot be told."""
        return self._asked("--batch-check", names, lambda _, kind, size: (kind, size))

    def read(self, names: Sequence[str], limit: int) -> Iterator[bytes | SourceError]:
        """The content of each object, in order; or why there is none, as for one of more than `limit` bytes."""

        def content(output: IO[bytes], _: str, size: int) -> bytes | SourceError:
            if size > limit:
                self._end("--batch")
                return self._fault("unreadable_file", f"more than {limit:,} bytes")
            found = output.read(size + 1)
            if len(found) <= size:
                raise EOFError
            return found[:size]

        return self._asked("--batch", names, content)

    def close(self) -> None:
        """Ends git."""
        for how in list(self._processes):
            self._end(how)

    def _asked(self, how: str, names: Sequence[str], answer) -> Iterator:
        at = 0
        while at < len(names):
            asked = names[at : at + _ASKED_AT_ONCE]
            if self._deaths >= _MOST_DEATHS:
                yield from itertools.repeat(self._fault("damaged_object"), len(asked))
                at += len(asked)
                continue
            process = self._process(how)
            for found in self._answers(process, asked, answer):
                yield found
                at += 1
                if isinstance(found, SourceError) and self._processes.get(how) is not process:
                    break  # the others have not been answered

    def _answers(self, process: subprocess.Popen[bytes], asked: Sequence[str], answer) -> Iterator:
        given, output = process.stdin, process.stdout
        assert given is not None and output is not None
        try:
            given.write("".join(f"{name}\n" for name in asked).encode())
            given.flush()
        except OSError:  # it ended before it was asked, or at the first
            yield self._died(process)
            return
        for answered, name in enumerate(asked):
            words = output.readline().decode("utf-8", "replace").split()
            try:
                if len(words) == 2 and words[1] == "missing":
                    found = self._fault("missing_object")
                elif len(words) == 3 and words[0] == name:
                    found = answer(output, words[1], int(words[2]))
                else:
                    raise EOFError
            except EOFError:
                yield self._died(process)
                return
            try:
                yield found
            except GeneratorExit:
                if answered + 1 < len(asked):  # the next to ask would be given these answers
                    self._end_process(process)
                raise

    def _died(self, process: subprocess.Popen[bytes]) -> SourceError:
        self._deaths += 1
        self._end_process(process)
        return self._fault("damaged_object")

    def _end_process(self, process: subprocess.Popen[bytes]) -> None:
        for how, running in list(self._processes.items()):
            if running is process:
                self._end(how)

    def _fault(self, reason: str, detail: str = "") -> SourceError:
        return SourceError(reason, self._store.folder, detail)

    def _process(self, how: str) -> subprocess.Popen[bytes]:
        if how not in self._processes:
            # Git looks at its folder before it answers the first time; gone by then, it is left behind by no kill.
            with _git_folder(self._store.hash) as folder:
                process = self._processes[how] = self._begin(how, folder)
                assert process.stdin is not None and process.stdout is not None
                with contextlib.suppress(OSError):  # whoever asks next is told that it ended
                    process.stdin.write(b"%s\n" % (b"0" * hashlib.new(self._store.hash).digest_size * 2))
                    process.stdin.flush()
                    process.stdout.readline()
        return self._processes[how]

    def _begin(self, how: str, git_folder: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_DIR": git_folder,
            "GIT_OBJECT_DIRECTORY": self._store.folder,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        process = subprocess.Popen(
            [git_program(), "cat-file", how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            bufsize=1 << 17,
            start_new_session=True,  # Ctrl-C is for us
        )
        if sys.platform == "linux":
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        return process

    def _end(self, how: str) -> None:
        process = self._processes.pop(how)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was written, and not read
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess]
        process.wait()


class _IdleStores:
    """Stores that are open and not in use, so that a repository's next files need no new process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[ObjectStore, GitObjects]] = []

    def take(self, store: ObjectStore) -> GitObjects:
        with self._lock:
            for at, (known, objects) in enumerate(self._idle):
                if known == store:
                    del self._idle[at]
                    return objects
        return GitObjects(store)

    def give_back(self, store: ObjectStore, objects: GitObjects) -> None:
        with self._lock:
            self._idle.append((store, objects))
            old = [self._idle.pop(0)[1]] if len(self._idle) > _MOST_IDLE else []
        for each in old:
            each.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, objects in idle:
            objects.close()


_IDLE = _IdleStores()
atexit.register(_IDLE.close)


@contextlib.contextmanager
def opened(store: ObjectStore) -> Iterator[GitObjects]:
    """A store's objects for one thread, from now on until the context is left.

    Raises:
        SourceError: its folders cannot be read; see `GitObjects`.
    """
    objects = _IDLE.take(store)
    try:
        yield objects
    except BaseException:
        objects.close()  # it may not have been asked for all that it was told to say
        raise
    _IDLE.give_back(store, objects)


def close_stores() -> None:
    """Ends every git that waits for more to read."""
    _IDLE.close()


@functools.cache
def git_program() -> str:
    """Where git is.

    Raises:
        UserError: it is not installed.
    """
    program = shutil.which("git")
    if program is None:
        raise UserError("a source holds git repositories, and git is not installed; install it, or name other sources")
    return program


@contextlib.contextmanager
def _git_folder(hash_: str) -> Iterator[str]:
    """A git folder without objects, refs or settings but the hash, until the context is left."""
    folder = Path(tempfile.mkdtemp(prefix="sc2jax-git-"))
    folders = [folder / "refs", folder / "objects"]
    files = {folder / "HEAD": "ref: refs/heads/main\n", folder / "config": _CONFIGS[hash_]}
    try:
        for inner in folders:
            inner.mkdir()
        for file, content in files.items():
            file.write_text(content, encoding="ascii")
        yield str(folder)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        for inner in [*folders, folder]:
            with contextlib.suppress(FileNotFoundError):
                inner.rmdir()


def _check_folder(folder: str, bound: str, depth: int) -> None:
    """Looks through a folder of objects and those that it names as alternates.

    Raises:
        SourceError: see `GitObjects`.
    """
    if not lies_in(bound, os.path.realpath(folder)):
        raise SourceError("git_elsewhere", folder, f"to {as_text(os.path.realpath(folder))}")
    try:
        with os.scandir(folder) as entries:
            inner = [entry for entry in entries if _FOLDER_OF_OBJECTS.fullmatch(entry.name)]
        for entry in inner:
            _require_inside(entry, bound)
            with os.scandir(entry.path) as objects:
                for each in objects:
                    _require_inside(each, bound)
                    if not each.is_file():
                        raise SourceError("unreadable_git", folder, f"{as_text(each.path)} is no regular file")
    except OSError as error:
        raise SourceError("unreadable_git", folder, f"its objects: {error.strerror or error}") from error
    for other in _alternates(folder, bound):
        if not depth:
            raise SourceError("unreadable_git", folder, "its alternates name each other without end")
        _check_folder(other, bound, depth - 1)


def _require_inside(entry: os.DirEntry[str], bound: str) -> None:
    if entry.is_symlink() and not lies_in(bound, os.path.realpath(entry.path)):
        raise SourceError("git_elsewhere", entry.path, f"to {as_text(os.path.realpath(entry.path))}")


def _alternates(folder: str, bound: str) -> list[str]:
    """The folders of objects that git looks at beside this one."""
    note = os.path.realpath(os.path.join(folder, "info", "alternates"))  # noqa: PTH118
    if not os.path.lexists(note):
        return []
    if not lies_in(bound, note):
        raise SourceError("git_elsewhere", folder, f"to {as_text(note)}")
    try:
        lines = read_bytes(note, _ALTERNATES_BYTES).splitlines()
    except SourceError as fault:
        raise SourceError("unreadable_git", folder, f"its alternates: {fault.detail}") from fault
    named = [line for line in lines if line and not line.startswith(b"#")]
    if any(line.startswith(b'"') or b"\0" in line for line in named):
        raise SourceError("unreadable_git", folder, "its alternates are quoted")
    return [os.path.realpath(os.path.join(folder, os.fsdecode(line))) for line in named]  # noqa: PTH118
