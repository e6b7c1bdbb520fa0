"""Names and places that files get, on the local disk and in object stores."""

import random

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sc2jax import storage, transfers
from sc2jax.stores import StoreError


def test_a_folder_is_renamed_where_that_takes_one_step(tmp_path):
    (tmp_path / "a/below").mkdir(parents=True)
    (tmp_path / "taken").mkdir()
    assert transfers.try_rename(str(tmp_path / "a"), str(tmp_path / "taken")) == str(tmp_path / "a")
    assert transfers.try_rename(str(tmp_path / "a"), str(tmp_path / "b")) == str(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "below", "taken"]
    assert transfers.try_rename("memory://renamed/a", "memory://renamed/b") == "memory://renamed/a"


@pytest.mark.parametrize("root", ["memory://copied", "file://{}/store"])
def test_a_file_goes_to_a_store_and_comes_back(tmp_path, root):
    content = random.Random(0).randbytes(300_000)
    (tmp_path / "here").write_bytes(content)
    there = f"{root.format(tmp_path)}/some/where"
    transfers.copy_file(str(tmp_path / "here"), there)
    assert storage.read_bytes(there) == content
    (tmp_path / "here").write_bytes(b"other")
    transfers.copy_file(str(tmp_path / "here"), there)
    transfers.copy_file(there, str(tmp_path / "new/back"))
    assert (tmp_path / "new/back").read_bytes() == b"other"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["back"]


def test_a_store_that_refuses_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("quota")

    (tmp_path / "here").write_bytes(b"content")
    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with pytest.raises(StoreError, match=r"memory://refusing/x cannot be reached \(PermissionError: quota"):
        transfers.copy_file(str(tmp_path / "here"), "memory://refusing/x")


def test_what_is_cut_off_on_the_way_back_leaves_what_was_there(tmp_path, monkeypatch):
    storage.write_whole("memory://cut/x", b"content")
    (tmp_path / "x").write_bytes(b"before")

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", broken)
    with pytest.raises(OSError, match="No space left"):
        transfers.copy_file("memory://cut/x", str(tmp_path / "x"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"before")]
