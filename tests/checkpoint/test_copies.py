"""Checkpoints that are written to a local disk first: the store has whole ones, and the newest of both is found."""

import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax import storage
from sc2jax.checkpoint import copies
from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.ownership import foreign_entries, own_steps
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError

PARAMS = {"layers": {"kernel": jax.random.normal(jax.random.key(0), (2, 300))}, "scale": jnp.ones(4)}
STACKED = {"layers": {"kernel": True}, "scale": False}


@pytest.fixture(params=["store", "disk"])
def store(request, tmp_path):
    """Where the run lies: behind a URL, where no folder is renamed, or on another disk, as one over the network."""
    folder = f"file://{tmp_path}/far" if request.param == "store" else str(tmp_path / "far")
    yield folder
    storage.delete_folder(folder)


@pytest.fixture
def open_both(store, tmp_path):
    opened: list[Checkpoints] = []

    def open_both(kept=1, **how):
        opened.append(Checkpoints(store, kept, local=str(tmp_path / "near"), **how))
        return opened[-1]

    yield open_both
    for checkpoints in opened:
        checkpoints.close()


def save(checkpoints, step, loss=None):
    params = jax.tree.map(lambda array: array * step, PARAMS)
    checkpoints.save(Progress(step, "key", evaluation_loss=loss), params, {"count": jnp.int32(step)}, STACKED)


def restored_scale(checkpoints):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), PARAMS)
    return float(np.asarray(checkpoints.restore_params(checkpoints.latest_step(), like)["scale"])[0])


def test_the_store_follows_and_keeps_what_the_disk_keeps(open_both, store, tmp_path):
    checkpoints = open_both(keep_best=1)
    for step, loss in ((1, 2.0), (2, 1.0), (3, 3.0), (4, 4.0)):
        save(checkpoints, step, loss)
    checkpoints.wait()
    assert own_steps(store) == [2, 4]
    save(checkpoints, 5)
    checkpoints.wait()
    assert own_steps(store) == own_steps(str(tmp_path / "near")) == [2, 5]
    assert foreign_entries(store) == []


def test_a_new_machine_goes_on_from_the_store(open_both, tmp_path):
    first = open_both()
    save(first, 3)
    first.wait()
    shutil.rmtree(tmp_path / "near")
    again = open_both()
    assert again.latest_step() == 3
    assert restored_scale(again) == 3
    again.verify_stored(3)


def test_the_same_machine_goes_on_from_its_disk_and_the_store_catches_up(open_both, store, monkeypatch):
    first = open_both(kept=3)
    save(first, 1)
    first.wait()
    with monkeypatch.context() as patched:
        patched.setattr(copies, "copy_file", refuse)
        save(first, 2)
        save(first, 3)
        with pytest.raises(UserError, match="unplugged"):
            first.wait()
        told = first.failed()
    assert "the checkpoint of step" in told
    assert f"could not be copied to {store} (unplugged)" in told
    assert own_steps(store) == [1]
    again = open_both(kept=3)
    assert restored_scale(again) == 3
    again.wait()
    assert own_steps(store) == [1, 2, 3]


def refuse(*_):
    raise UserError("unplugged")


def test_a_copy_that_was_cut_off_at_any_file_is_never_chosen(open_both, store, monkeypatch, tmp_path):
    checkpoints = open_both(kept=2)
    save(checkpoints, 1)
    checkpoints.wait()
    copy_file, left = copies.copy_file, [0]

    def cut_off(source, target):
        if not left[0]:
            raise UserError("unplugged")
        left[0] -= 1
        copy_file(source, target)

    monkeypatch.setattr(copies, "copy_file", cut_off)
    save(checkpoints, 2)
    with pytest.raises(UserError, match="unplugged"):
        checkpoints.wait()
    files = len(storage.files_below(str(tmp_path / "near/2")))
    for count in range(1, files):
        copies.sweep(store)
        left[0] = count
        with pytest.raises(UserError, match="unplugged"):
            copies.copy_checkpoint(str(tmp_path / "near"), store, 2)
        assert own_steps(store) == [1]
        assert foreign_entries(store) == []
    copies.sweep(store)
    left[0] = files
    copies.copy_checkpoint(str(tmp_path / "near"), store, 2)
    assert own_steps(store) == [1, 2]


def test_the_training_goes_on_while_a_copy_is_under_way_and_the_newest_is_next(open_both, store, monkeypatch):
    go_on, copied, copy = threading.Event(), list[int](), copies.copy_checkpoint

    def slowly(source, target, step):
        go_on.wait()
        copied.append(step)
        copy(source, target, step)

    monkeypatch.setattr(copies, "copy_checkpoint", slowly)
    checkpoints = open_both(kept=2)
    for step in (1, 2, 3, 4):
        save(checkpoints, step)  # each waits for the save before it, and not for a copy
    checkpoints.settle()
    assert checkpoints.steps()[-2:] == [3, 4]
    go_on.set()
    checkpoints.wait()
    assert copied in ([1, 4, 3], [2, 4, 3])
    assert own_steps(store) == [3, 4]
