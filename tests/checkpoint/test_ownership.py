"""What lies among checkpoints and is not ours stays as it is; what is ours is known whole and deleted whole."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax import storage
from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.ownership import delete_checkpoint, foreign_entries, own_steps, refuse_occupied, sweep
from sc2jax.checkpoint.progress import Progress
from sc2jax.checkpoint.streamed import StreamedArray, save_streamed
from sc2jax.errors import UserError

PARAMS = {"layers": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "scale": np.ones(4, np.float32)}
STACKED = {"layers": {"kernel": True}, "scale": False}
HALF_WRITTEN = (
    "_CHECKPOINT_METADATA",
    "progress.orbax-checkpoint-tmp/metadata",
    "optimizer.orbax-checkpoint-tmp/_sharding",
    "optimizer.orbax-checkpoint-tmp/array_metadatas/process_0",
    "params.orbax-checkpoint-tmp/ocdbt.process_11/d/0123456789abcdef0123456789abcdef",
    "params.orbax-checkpoint-tmp/ocdbt.process_0/manifest.ocdbt",
    "params.orbax-checkpoint-tmp/ocdbt.process_0/manifest.ocdbt.__lock",
    "params/layers.kernel/.zarray",
    "params/layers.kernel/1.0",
)
"""What was seen after saves that were killed."""
FOREIGN = (
    "notes.txt",
    "params/notes.txt",
    "params/d/0123456789abcdef",
    "params/d/0123456789abcdef0123456789abcdef.txt",
    "params/backup/1.0",
    "params/process_0",
    "progress/metadata.bak",
    "mine/_CHECKPOINT_METADATA",
    "default/_METADATA",
    "commit_success_txt",
)


def write(folder, names):
    files = {folder / name: name.encode() for name in names}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(Progress(step, "key"), PARAMS, {"count": jnp.int32(0)}, STACKED)


@pytest.fixture
def writer(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), 1)
    yield checkpoints
    checkpoints.close()


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_that_is_written_is_ours_and_is_deleted_whole(tmp_path, writer):
    save(writer, 3)
    writer.wait()

    def blocks(chunk):
        yield (slice(0, 4),), PARAMS["scale"]

    save_streamed(str(tmp_path / "other"), 0, "key", {("scale",): StreamedArray((4,), np.dtype("f4"), False, blocks)})
    for folder, step in ((tmp_path / "other", 0), (tmp_path, 3)):
        assert own_steps(str(folder)) == [step]
        assert foreign_entries(str(folder)) == (["other"] if step else [])
        delete_checkpoint(str(folder), str(step))
        assert not (folder / str(step)).exists()


def test_what_an_interrupted_save_left_is_deleted_and_nothing_else_in_it(tmp_path):
    write(tmp_path / "20.orbax-checkpoint-tmp", HALF_WRITTEN)
    write(tmp_path / "20.orbax-checkpoint-tmp-3", HALF_WRITTEN)
    foreign = write(tmp_path / "40.orbax-checkpoint-tmp", FOREIGN)
    foreign |= write(tmp_path, ["020.orbax-checkpoint-tmp/x", "mine.orbax-checkpoint-tmp/x", "60.orbax-checkpoint-tmp"])
    write(tmp_path / "40.orbax-checkpoint-tmp", HALF_WRITTEN)
    sweep(str(tmp_path))
    assert files_of(tmp_path) == foreign
    assert not list(tmp_path.glob("20.*"))


def test_retention_leaves_what_is_foreign_in_a_checkpoint_and_names_it_once(tmp_path, writer, caplog):
    save(writer, 1)
    writer.wait()
    foreign = write(tmp_path / "1", FOREIGN)
    with caplog.at_level(logging.WARNING, "sc2jax"):
        writer.close()
        again = Checkpoints(str(tmp_path), 1)
    (line,) = [record.message for record in caplog.records if "not ours" in record.message]
    assert f"{tmp_path} also holds files that are not ours; they stay as they are: 1/" in line
    assert f"and {len(FOREIGN) - 3} more" in line
    save(again, 2, 3)
    again.wait()
    again.close()
    after = files_of(tmp_path)
    assert {path: after[path] for path in after if path.is_relative_to(tmp_path / "1")} == foreign
    assert own_steps(str(tmp_path)) == [3]


def test_the_newest_are_kept_and_no_sooner(tmp_path, writer):
    save(writer, 1, 2)  # until the second is whole, the first has to stay
    writer.wait()
    assert own_steps(str(tmp_path)) == [2]


def test_a_foreign_folder_with_a_number_is_no_checkpoint_and_in_nobodys_way(tmp_path, writer, caplog):
    foreign = write(tmp_path, ["7/notes.txt", "9/default/_METADATA", "08/progress/metadata", "x/progress/metadata"])
    writer.close()
    with caplog.at_level(logging.WARNING, "sc2jax"):
        again = Checkpoints(str(tmp_path), 2)
    assert sum("not ours" in record.message for record in caplog.records) == 1
    assert again.latest_step() is None
    save(again, 5, 6, 8)
    again.wait()
    foreign |= write(tmp_path, ["8.orbax-checkpoint-tmp/notes.txt"])
    assert again.steps() == [6, 8]
    assert again.latest_step() == 8
    with pytest.raises(UserError, match="/9 is not ours and lies where the checkpoint of step 9 has to go; move it"):
        again.refuse_occupied(lambda step: step > 8)
    again.refuse_occupied(lambda step: step > 9)
    with pytest.raises(UserError, match="lies where the checkpoint of step 9"):
        save(again, 9)
    again.close()
    assert {path: path.read_bytes() for path in foreign} == foreign


@pytest.mark.parametrize("name", ["8", "8.orbax-checkpoint-tmp", "8.orbax-checkpoint-tmp-2"])
def test_a_file_or_what_stayed_of_an_interrupted_save_is_in_the_way_too(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="step 8"):
        refuse_occupied(str(tmp_path), lambda step: step == 8)
    assert (tmp_path / name).read_text() == "mine"


def test_a_checkpoint_that_was_moved_and_linked_is_read_and_not_deleted(tmp_path, writer):
    save(writer, 1)
    writer.wait()
    (tmp_path / "1").rename(tmp_path / "elsewhere")
    (tmp_path / "1").symlink_to(tmp_path / "elsewhere")
    before = files_of(tmp_path / "elsewhere")
    assert writer.read_key(1) == "key"
    save(writer, 2)
    writer.wait()
    assert files_of(tmp_path / "elsewhere") == before
    assert (tmp_path / "1").is_symlink()


def test_an_interrupted_deletion_is_ended_by_the_next(tmp_path, writer, monkeypatch):
    save(writer, 1)
    writer.wait()
    delete = storage.delete_file

    def one_and_no_more(path):
        delete(path)
        raise KeyboardInterrupt

    files = len(files_of(tmp_path / "1"))
    for name in ["1", *["1.orbax-checkpoint-tmp"] * (files - 1)]:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(storage, "delete_file", one_and_no_more)
            delete_checkpoint(str(tmp_path), name)
        assert own_steps(str(tmp_path)) == []
        assert foreign_entries(str(tmp_path)) == []
    sweep(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_streamed_save_replaces_its_own_step_and_refuses_a_foreign_one(tmp_path):
    def blocks(chunk):
        yield (slice(0, 4),), PARAMS["scale"]

    arrays = {("scale",): StreamedArray((4,), np.dtype("f4"), False, blocks)}
    for key in ("first", "second"):
        save_streamed(str(tmp_path), 0, key, arrays)
    assert Checkpoints(str(tmp_path)).read_key(0) == "second"
    (tmp_path / "0/notes.txt").write_text("mine")
    (tmp_path / "1").mkdir()
    for step in (0, 1):
        with pytest.raises(UserError, match=f"lies where the checkpoint of step {step}"):
            save_streamed(str(tmp_path), step, "third", arrays)
    assert (tmp_path / "0/notes.txt").read_text() == "mine"
    assert Checkpoints(str(tmp_path)).read_key(0) == "second"
