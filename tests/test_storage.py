"""Files and folders appear whole or not at all, on local disk and in an object store."""

import ast
import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.dataset import open_part, read_row_group, write_part
from sc2jax.storage import (
    absolute,
    append,
    create_file,
    delete_folder,
    delete_if_empty,
    file_sizes,
    files_below,
    inside,
    join,
    names,
    new_folder,
    read_bytes,
    refuse_outside,
    sha256_of_file,
    write_whole,
)
from sc2jax.stores import StoreError


def test_a_folder_takes_its_name_at_the_end(tmp_path):
    target = tmp_path / "a/b"
    with new_folder(str(target)) as folder:
        assert not target.exists()
        (tmp_path / folder / "file").write_text("x")
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_failure_leaves_what_was_there_before(tmp_path):
    (tmp_path / "kept").mkdir()
    for target in (tmp_path / "a/b/c", tmp_path / "kept/c"):
        with pytest.raises(KeyboardInterrupt), new_folder(str(target)) as folder:
            (tmp_path / folder / "file").write_text("x")
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept"]


def test_what_came_beside_it_meanwhile_stays_after_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(str(tmp_path / "a/b/c")):
        (tmp_path / "a/notes").write_text("x")
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "notes"]


def test_nothing_beside_a_new_folder_is_touched(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    (tmp_path / "a.unfinished/theirs").write_text("x")
    with new_folder(str(tmp_path / "a")) as folder:
        (folder / "file").write_text("x")
    for name, said in (
        ("a", "a exists and is not empty"),
        ("a/file", "file is a file; name"),
        ("a/file/b", "cannot hold"),
    ):
        with pytest.raises(UserError, match=said), new_folder(str(tmp_path / name)):
            pass
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["a.unfinished/theirs", "a/file"]


def test_an_empty_folder_is_filled_and_stays_itself(tmp_path, monkeypatch):
    """A mount point cannot be replaced, and of a current folder that was, the shell in it sees nothing."""
    target = tmp_path / "there"
    target.mkdir(mode=0o750)
    before = target.stat()
    monkeypatch.chdir(target)
    with new_folder(".") as folder:
        (folder / "below").mkdir()
        (folder / "below/file").write_text("x")
        (folder / "other").write_text("y")
        assert [path.stat().st_dev for path in (folder, target)] == [before.st_dev] * 2
    assert (target.stat().st_ino, target.stat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(str(path) for path in Path().rglob("*")) == ["below", "below/file", "other"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_folder_is_empty_again_after_a_failure(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), new_folder(str(tmp_path)) as folder:
        (folder / "file").write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "b" and target.parent == tmp_path:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), new_folder(str(tmp_path)) as folder:
        for name in "abc":
            (folder / name).write_text("x")
    assert not list(tmp_path.iterdir())


def test_what_comes_into_an_empty_folder_meanwhile_is_not_written_over(tmp_path):
    with pytest.raises(UserError, match="was empty and holds file now"), new_folder(str(tmp_path)) as folder:
        (folder / "file").write_text("ours")
        (tmp_path / "file").write_text("theirs")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_paths_below_a_folder_have_one_slash_between():
    assert join("a/", "b") == join("a", "b") == "a/b"
    assert join("gs://bucket/run", "corpus") == "gs://bucket/run/corpus"


@pytest.mark.parametrize("root", ["", "memory://files"])
def test_files_are_written_listed_and_read_back(tmp_path, root):
    folder = root or str(tmp_path)
    assert file_sizes(f"{folder}/nowhere") == {}
    write_whole(f"{folder}/deep/down/file", b"content")
    write_whole(f"{folder}/deep/other", b"")
    write_whole(f"{folder}/deep/down/file", b"changed!")
    assert read_bytes(f"{folder}/deep/down/file") == b"changed!"
    assert file_sizes(f"{folder}/deep") == {"other": 0}
    assert file_sizes(f"{folder}/deep/down") == {"file": 8}
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{folder}/deep/none")


def test_a_write_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    write_whole(str(path), b"old")
    with pytest.raises(TypeError):
        write_whole(str(path), None)  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_whole(str(tmp_path / "file"), b"x")
    assert error.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_the_whole_content_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(os.fstat(number).st_size))
    write_whole(str(tmp_path / "file"), b"content")
    assert synced == [7]


@pytest.mark.parametrize("root", ["", "memory://exclusive"])
def test_of_several_that_create_a_file_one_succeeds(tmp_path, root):
    path = f"{root or tmp_path}/lock"
    create_file(path, b"first")
    with pytest.raises(FileExistsError):
        create_file(path, b"second")
    assert read_bytes(path) == b"first"


@pytest.mark.parametrize("root", ["", "memory://walked"])
def test_what_lies_in_a_folder(tmp_path, root):
    folder = root or str(tmp_path / "walked")
    for name in ("a/b/c", "a/d", "e"):
        write_whole(f"{folder}/{name}", b"x")
    assert names(folder) == ["a", "e"]
    assert files_below(folder) == ["a/b/c", "a/d", "e"]
    assert names(f"{folder}/none") == files_below(f"{folder}/none") == []
    if not root:
        (tmp_path / "walked/link").symlink_to(tmp_path)
        assert files_below(folder) == ["a/b/c", "a/d", "e", "link"]


def test_a_folder_is_deleted_and_not_what_its_links_lead_to(tmp_path):
    write_whole(f"{tmp_path}/kept/file", b"x")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/link").symlink_to(tmp_path / "kept")
    delete_folder(str(tmp_path / "gone"))
    delete_folder(str(tmp_path / "gone"))
    delete_if_empty(str(tmp_path / "kept"))
    assert files_below(str(tmp_path)) == ["kept/file"]


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1])
def test_the_digest_of_a_file_is_read_block_by_block(tmp_path, size):
    write_whole(f"{tmp_path}/file", bytes(size))
    assert sha256_of_file(f"{tmp_path}/file") == hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "..", "a\0b"])
def test_a_path_from_a_file_that_climbs_is_refused(tmp_path, path):
    for folder in (str(tmp_path), "memory://bucket/run"):
        with pytest.raises(UserError, match="no path below it"):
            inside(folder, path)


def test_a_path_from_a_file_is_below_its_folder(tmp_path):
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert inside(str(tmp_path), "a/b.txt") == f"{tmp_path}/a/b.txt"
    assert inside(str(tmp_path), "linked/b.txt") == f"{tmp_path}/linked/b.txt"
    assert inside("memory://bucket/run", "a..b/c") == "memory://bucket/run/a..b/c"
    (tmp_path / "alias").symlink_to(tmp_path / "a")  # the folder itself may be reached over a link
    assert inside(str(tmp_path / "alias"), "b") == f"{tmp_path}/alias/b"


@pytest.mark.parametrize("target", ["/etc", "..", "../sibling"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(target)
    with pytest.raises(UserError, match="is a link that leaves"):
        inside(str(tmp_path / "folder"), "link/passwd")


def test_of_many_paths_each_is_followed(tmp_path):
    """A folder is looked at once, yet no file in it passes that is a link, or lies behind one."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (root / "out").symlink_to(outside)
    (outside / "back").symlink_to(root / "a/file")
    (root / "a/away").symlink_to(outside / "file")
    (root / "a/near").symlink_to(root / "a/file")
    refuse_outside(str(root), ["top", "a/file", "a/near", "a/missing"])
    for paths in (["a/file", "a/away"], ["a/away"], ["out/back", "out/file"], ["top", "out/back"], ["out/file"]):
        with pytest.raises(UserError, match="is a link that leaves"):
            refuse_outside(str(root), paths)
    with pytest.raises(UserError, match="no path below it"):
        refuse_outside("memory://bucket/run", ["a", "a/../b"])


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match="no regular file"):
            read_bytes(str(path))


@pytest.mark.parametrize("write", [append, write_whole])
def test_only_a_file_is_written_over_or_added_to(tmp_path, write):
    path = tmp_path / "log"
    for content in (b"a\n", b"", b"b\n"):
        append(str(path), content)
    assert path.read_bytes() == b"a\nb\n"
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("link", "pipe", "nowhere", "."):
        with pytest.raises(UserError, match="no regular file"):
            write(str(tmp_path / name), b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert not (tmp_path / "gone").exists()
    assert path.read_bytes() == b"a\nb\n"


def test_a_path_with_dots_is_the_one_that_it_leads_to(tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path / "a")
    assert absolute("../a/b") == f"{tmp_path}/a/b"
    assert absolute(f"{tmp_path}/link/../c") == f"{tmp_path}/a/c"  # as the system reads it
    assert absolute("b") == f"{tmp_path}/a/b"
    assert absolute(f"{tmp_path}/link") == f"{tmp_path}/link"
    assert absolute("gs://bucket/../x") == "gs://bucket/../x"


def test_a_new_folder_may_be_named_by_a_link(tmp_path):
    (tmp_path / "link").symlink_to("there")
    with new_folder(str(tmp_path / "link")) as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "there/file").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


class ExpiredError(Exception):
    """What a package raises that derives from nothing but Exception, as botocore's and google.auth's errors do."""


class FailingStore(MemoryFileSystem):
    """An object store that fails from a call on, as the packages of real ones do."""

    protocol = "failing"
    error: ClassVar[Exception | None] = None

    def __getattribute__(self, name: str) -> Any:
        reaches = name in ("info", "exists", "isdir", "ls", "find", "pipe_file", "open", "rm", "rm_file", "makedirs")
        if reaches and FailingStore.error is not None:
            raise FailingStore.error
        return super().__getattribute__(name)


@pytest.fixture
def failing(monkeypatch) -> type[FailingStore]:
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    monkeypatch.setattr(FailingStore, "error", None)
    return FailingStore


CAUSES = [
    ExpiredError("The provided token has expired.\nRequest ID: 7"),
    PermissionError("Forbidden"),
    TimeoutError(),
    OSError("Connection reset"),
    ConnectionRefusedError(111, "Connection refused"),
    ValueError("Missing credentials in config"),
]
REACHES = [
    (storage.open_file, ()), (storage.read_bytes, ()), (storage.exists, ()), (storage.file_sizes, ()),
    (storage.names, ()), (storage.files_below, ()), (storage.sha256_of_file, ()), (storage.write_whole, (b"",)),
    (storage.create_file, (b"",)), (storage.delete_file, ()), (storage.delete_folder, ()),
]  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES, ids=repr)
def test_whatever_keeps_from_a_store_is_one_message(failing, monkeypatch, cause):
    monkeypatch.setattr(failing, "error", cause)
    for function, arguments in REACHES:
        with pytest.raises(StoreError) as error:
            function("failing://bucket/run", *arguments)
        message = str(error.value)
        assert message.startswith(f"failing://bucket/run cannot be reached ({type(cause).__name__}")
        assert "credentials" in message and "\n" not in message
        assert error.value.__cause__ is cause


def test_every_function_that_opens_a_path_is_such_a_one():
    for node in ast.parse(Path(storage.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and "file_system(" in "".join(map(ast.unparse, node.body)):
            assert [ast.unparse(decorator) for decorator in node.decorator_list] == ["reaches"], node.name


def test_a_store_that_fails_in_the_middle_of_a_file_is_no_damage(failing, tmp_path, monkeypatch):
    table = pa.table({"text": ["a" * 1000]})
    output = write_part("failing://bucket", "train", 0, [table, table], table.schema)
    part = open_part("failing://bucket", output)
    assert part.read_row_group(0) == table
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", lambda *_: raise_(OSError("reset")))
    for read in (lambda: part.read_row_group(1), lambda: read_row_group("failing://bucket", output, 0)):
        with pytest.raises(StoreError, match=r"^failing://bucket/train/part-.* cannot be reached \(OSError: reset\)"):
            read()


def raise_(error: Exception) -> None:
    raise error


class CachingStore(MemoryFileSystem):
    """An object store whose package keeps listings, unless it is told not to, as those of real ones do."""

    protocol = "caching"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        found: Any = self.dircache[path] if path in self.dircache else super().ls(path, detail=True)
        return found if detail else [entry["name"] for entry in found]


def test_what_other_processes_write_is_seen():
    fsspec.register_implementation("caching", CachingStore, clobber=True)
    storage.write_whole("caching://seen/run/one", b"1")
    assert storage.file_sizes("caching://seen/run") == {"one": 1}
    MemoryFileSystem().pipe_file("caching://seen/run/two", b"22")  # another process's
    assert storage.file_sizes("caching://seen/run") == {"one": 1, "two": 2}


def test_a_file_that_is_missing_and_one_that_is_there_stay_what_they_are(failing):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("failing://bucket/none")
    storage.create_file("failing://bucket/one", b"1")
    with pytest.raises(FileExistsError):
        storage.create_file("failing://bucket/one", b"2")
    assert storage.read_bytes("failing://bucket/one") == b"1"


def test_a_bucket_that_is_not_there_is_not_made_and_takes_no_file(failing, monkeypatch):
    monkeypatch.setattr(failing, "error", FileNotFoundError("The specified bucket does not exist"))
    storage.make_folder("failing://bucket/run")
    for write in (storage.write_whole, storage.create_file):
        with pytest.raises(StoreError, match="FileNotFoundError: The specified bucket does not exist"):
            write("failing://bucket/run/file", b"")


@pytest.mark.parametrize("root", ["", "file://"])
def test_errors_of_the_local_disk_stay_what_they_are(root, tmp_path, monkeypatch):
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.exists", lambda *_: raise_(PermissionError(13)))
    with pytest.raises(PermissionError):
        storage.exists(f"{root}{tmp_path}")
