"""Folders that appear whole or not at all."""

import fsspec
import pytest

from sc2jax.errors import UserError
from sc2jax.interop.folders import new_folder


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


def test_leftovers_of_a_killed_run_are_removed_and_content_is_not(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    (tmp_path / "a.unfinished/old").write_text("x")
    with new_folder(str(tmp_path / "a")) as folder:
        assert not list((tmp_path / folder).iterdir())
        (tmp_path / folder / "file").write_text("x")
    with pytest.raises(UserError, match="exists and is not empty"), new_folder(str(tmp_path / "a")):
        pass
    assert (tmp_path / "a/file").exists()


def test_object_stores_are_written_in_place_and_cleaned(tmp_path):
    store = fsspec.filesystem("memory")
    with new_folder("memory://bucket/a") as folder:
        assert folder == "memory://bucket/a"
        store.pipe_file(f"{folder}/file", b"x")
    with pytest.raises(KeyboardInterrupt), new_folder("memory://bucket/b") as folder:
        store.pipe_file(f"{folder}/file", b"x")
        raise KeyboardInterrupt
    assert store.find("/bucket") == ["/bucket/a/file"]
