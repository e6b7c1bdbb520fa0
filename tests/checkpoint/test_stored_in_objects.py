"""Checkpoints in an object store, where no folder takes its name in one step: whole is what has its last file."""

import json

import pytest

from sc2jax import storage
from sc2jax.checkpoint.ownership import delete_checkpoint, foreign_entries, own_steps, refuse_occupied, sweep
from sc2jax.checkpoint.progress import Progress, describe
from sc2jax.errors import UserError

FILES = (
    "_CHECKPOINT_METADATA",
    "params/_METADATA",
    "params/commit_success.txt",
    "params/d/0123456789abcdef0123456789abcdef",
    "params/manifest.ocdbt",
    "optimizer/_sharding",
    "optimizer/array_metadatas/process_0",
    "progress/metadata",
    "progress/commit_success.txt",
    "commit_success.txt",
)
"""What lies in a checkpoint, as it was seen in Google's store, in the order in which it may come."""


@pytest.fixture
def folder(request):
    url = f"memory://checkpoints/{request.node.name}"
    yield url
    storage.delete_folder(url)


def write(folder, step, files=FILES) -> None:
    described = json.dumps(describe(Progress(step, "key"), {"params": {}})).encode()
    for file in files:
        storage.write_whole(f"{folder}/{step}/{file}", described if file == "progress/metadata" else b"x")


def test_a_save_that_was_cut_off_at_any_file_is_no_checkpoint_and_is_swept(folder):
    write(folder, 1)
    for count in range(1, len(FILES)):
        write(folder, 2, FILES[:count])
        assert own_steps(folder) == [1]
        assert foreign_entries(folder) == []
        sweep(folder)
        assert {path.partition("/")[0] for path in storage.files_below(folder)} == {"1"}
    write(folder, 2)
    assert own_steps(folder) == [1, 2]
    write(folder, 3, [file for file in FILES if file != "progress/metadata"])
    assert own_steps(folder) == [1, 2]


def test_a_deletion_that_was_cut_off_leaves_no_checkpoint(folder, monkeypatch):
    delete = storage.delete_file

    def one_and_no_more(path):
        delete(path)
        raise KeyboardInterrupt

    write(folder, 1)
    write(folder, 2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(storage, "delete_file", one_and_no_more)
        delete_checkpoint(folder, "1")
    assert own_steps(folder) == [2]
    sweep(folder)
    assert not [path for path in storage.files_below(folder) if path.startswith("1/")]


def test_what_is_not_ours_stays_and_is_in_the_way(folder):
    write(folder, 1, [*FILES[:4], "notes.txt", "mine/commit_success.txt"])
    assert foreign_entries(folder) == ["1/mine/commit_success.txt", "1/notes.txt"]
    sweep(folder)
    assert storage.files_below(folder) == ["1/mine/commit_success.txt", "1/notes.txt"]
    with pytest.raises(UserError, match="lies where the checkpoint of step 1"):
        refuse_occupied(folder, lambda step: step == 1)
