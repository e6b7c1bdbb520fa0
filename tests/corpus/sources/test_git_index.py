import contextlib
import hashlib
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from git_repositories import FILE, FOLDER, LINK, SUBMODULE, index_bytes
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.sources.git_index import DamagedIndexError, tracked_paths

GIT = shutil.which("git")
PATHS = st.lists(st.binary(min_size=1, max_size=300).filter(lambda path: b"\0" not in path), unique=True, max_size=20)


@given(PATHS, st.sampled_from([2, 3, 4]))
def test_paths_of_any_bytes(paths: list[bytes], version: int) -> None:
    entries = [(path, (FILE, LINK, SUBMODULE, FOLDER)[len(path) % 4]) for path in sorted(paths)]
    kinds = {FILE: "file", LINK: "link", SUBMODULE: "submodule", FOLDER: "folder"}
    assert tracked_paths(index_bytes(entries, version)) == {path: kinds[mode] for path, mode in entries}


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("length", [127, 128, 4094, 4095, 4096, 20_000])
def test_long_paths(version: int, length: int) -> None:
    """The field for the length ends at 4,095, and shortening by 128 takes two bytes."""
    paths = sorted([b"a" * length, b"b", b"c" * 200, b"d" * length])
    assert list(tracked_paths(index_bytes([(path, FILE) for path in paths], version))) == paths


@pytest.mark.skipif(GIT is None, reason="needs git")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_git_writes(tmp_path: Path, version: int) -> None:
    names = [f"{'deep/' * (number % 40)}file{number}.py" for number in range(80)] + ["grüß dich", "new\nline"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    def git(*arguments: str) -> bytes:
        return subprocess.run([str(GIT), *arguments], cwd=tmp_path, check=True, capture_output=True).stdout

    git("init", "-q")
    git("add", ".")
    if version == 3:
        git("update-index", "--skip-worktree", "file0.py")
    else:
        git("update-index", "--index-version", str(version))
    content = (tmp_path / ".git/index").read_bytes()
    assert struct.unpack(">L", content[4:8]) == (version,)
    assert [path for path, kind in tracked_paths(content).items() if kind == "file"] == git("ls-files", "-z").split(
        b"\0"
    )[:-1]
    git("update-index", "--split-index")
    with pytest.raises(DamagedIndexError, match="--no-split-index"):
        tracked_paths((tmp_path / ".git/index").read_bytes())


def test_a_conflict_counts_as_a_file_if_one_side_is_one() -> None:
    sides = [(b"a", LINK, 1), (b"a", FILE, 2), (b"a", LINK, 3), (b"b", LINK, 2), (b"b", LINK, 3)]
    assert tracked_paths(index_bytes(sides)) == {b"a": "file", b"b": "link"}


def test_extensions() -> None:
    def extension(name: bytes, size: int, content: bytes) -> bytes:
        return name + struct.pack(">L", size) + content

    entries = [(b"a", FILE)]
    known = extension(b"TREE", 3, b"abc") + extension(b"sdir", 0, b"")
    assert tracked_paths(index_bytes(entries, extensions=known)) == {b"a": "file"}
    for name, what in ((b"link", "split in two"), (b"what", "unknown here")):
        with pytest.raises(DamagedIndexError, match=what):
            tracked_paths(index_bytes(entries, extensions=known + extension(name, 1, b"x")))
    for size in (2, 4):
        with pytest.raises(DamagedIndexError, match="cut off"):
            tracked_paths(index_bytes(entries, extensions=extension(b"TREE", size, b"abc")))


def test_what_git_would_refuse() -> None:
    def unchecked(content: bytes) -> bytes:
        return content[:-20] + b"\0" * 20  # as with index.skipHash

    good = index_bytes([(b"a", FILE), (b"b", FILE)])
    assert tracked_paths(unchecked(good)) == {b"a": "file", b"b": "file"}
    damaged = {
        "checksum": good[:-1] + bytes([good[-1] ^ 1]),
        "none of version": unchecked(b"DIRD" + good[4:]),
        "none of version 2, 3": unchecked(good[:7] + b"\5" + good[8:]),
        "cut off or": unchecked(good[:11] + b"\3" + good[12:]),
        "out of order": index_bytes([(b"b", FILE), (b"a", FILE)]),
        "paths are out": index_bytes([(b"a", FILE), (b"a", FILE)]),
        "longer or shorter": unchecked(good[:73] + b"\2" + good[74:]),
        "damaged": index_bytes([(b"a", 0o010000)]),
        "checksum does": b"",
    }
    for what, content in damaged.items():
        with pytest.raises(DamagedIndexError, match=what):
            tracked_paths(content)
    body = index_bytes([(b"a", FILE)], version=4)[:-20].replace(b"\0a\0", b"\5a\0")
    with pytest.raises(DamagedIndexError, match="shortened"):
        tracked_paths(body + hashlib.sha1(body).digest())


@given(st.data())
def test_damaged_bytes_are_refused_or_give_other_paths_and_raise_nothing_else(data: st.DataObject) -> None:
    """Without a checksum nobody can tell whether a letter of a path was another one."""
    content = bytearray(
        index_bytes([(b"a/b.py", FILE), (b"c", LINK), (b"d" * 200, FILE)], data.draw(st.sampled_from([2, 4])))
    )
    content[-20:] = b"\0" * 20
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 21))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DamagedIndexError):
        assert len(tracked_paths(bytes(content))) <= 3


def test_a_repository_in_sha256() -> None:
    """Whether its checksum was written or left zero."""
    entry = struct.pack(">10L", 0, 0, 0, 0, 0, 0, FILE, 0, 0, 0) + b"\1" * 32 + struct.pack(">H", 4) + b"a.py"
    body = struct.pack(">4sLL", b"DIRC", 2, 1) + entry + b"\0" * (8 - len(entry) % 8)
    for checksum in (hashlib.sha256(body).digest(), b"\0" * 32):
        assert tracked_paths(body + checksum) == {b"a.py": "file"}


def test_many_entries_take_little_time() -> None:
    content = index_bytes([(b"f%07d" % number, FILE) for number in range(100_000)])
    begin = time.process_time()
    assert len(tracked_paths(content)) == 100_000
    assert time.process_time() - begin < 2
