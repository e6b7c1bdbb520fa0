"""A save keeps the training for the copy alone, and what it fails of ends nothing but itself."""

import contextlib
import resource
import shutil
import subprocess
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError

PARAMS = {"layers": {"kernel": jax.random.normal(jax.random.key(0), (1, 600, 600))}, "scale": jnp.ones(4)}
STACKED = {"layers": {"kernel": True}, "scale": False}
OPTIMIZER = {"count": jnp.int32(0)}
TOO_LITTLE = 100_000
"""Bytes, where the checkpoint takes over a million."""


def save(checkpoints, step, loss=None, **how) -> float:
    return checkpoints.save(Progress(step, "key", evaluation_loss=loss), PARAMS, OPTIMIZER, STACKED, **how)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(str(tmp_path), 2)
    yield opened
    opened.close()


@contextlib.contextmanager
def files_limited(limit=TOO_LITTLE):
    """Files may not be longer, which stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def restored(folder, step):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), PARAMS)
    reader = Checkpoints(str(folder))
    try:
        return reader.restore_params(step, like)
    finally:
        reader.close()


def test_training_goes_on_before_the_checkpoint_is_complete_and_the_next_save_waits_for_it(checkpoints):
    go_on, second = threading.Event(), threading.Event()
    waited = [save(checkpoints, 1, before=go_on.wait)]

    def save_again():
        waited.append(save(checkpoints, 2))
        second.set()

    other = threading.Thread(target=save_again)
    other.start()
    assert not second.wait(0.3), "two saves were under way"
    assert checkpoints.steps() == [], "complete before what it needs beside it"
    go_on.set()
    other.join()
    assert waited[0] < 0.1
    assert waited[1] > 0.2
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]


def test_what_overwrites_the_state_does_not_reach_the_checkpoint(checkpoints, tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    params = jax.tree.map(jnp.copy, PARAMS)
    go_on = threading.Event()
    checkpoints.save(Progress(1, "key"), params, OPTIMIZER, STACKED, before=go_on.wait)
    jax.block_until_ready(step(params))
    go_on.set()
    checkpoints.wait()
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path, 1), PARAMS)


def test_a_failed_save_is_told_once_and_the_next_one_tries_again(checkpoints, tmp_path):
    save(checkpoints, 1)
    checkpoints.wait()
    assert checkpoints.failed() == ""
    with files_limited():
        save(checkpoints, 2)
        checkpoints.save(Progress(3, "key"), {"scale": jnp.ones(4)}, OPTIMIZER, {"scale": False})  # it waits for that
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3]
    assert "step 2 could not be saved" in checkpoints.failed()
    with files_limited():
        save(checkpoints, 4)
        checkpoints.settle()
    told = checkpoints.failed()
    assert told == (
        f"the checkpoint of step 4 could not be saved ({tmp_path}: File too large); the checkpoint of step 3 is good, "
        "and the next save tries again"
    )
    assert checkpoints.failed() == ""
    checkpoints.settle()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"], "half a checkpoint was left"
    save(checkpoints, 5)
    checkpoints.wait()
    assert checkpoints.steps() == [3, 5]
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path, 5), PARAMS)


def test_the_last_save_raises_what_it_failed_of_even_when_that_was_told(checkpoints, tmp_path):
    with files_limited():
        save(checkpoints, 1)
        checkpoints.settle()
        told = checkpoints.failed()
        with pytest.raises(OSError, match="too large") as raised:
            checkpoints.wait()
    assert raised.value.filename == str(tmp_path)
    assert "there is no checkpoint yet" in told
    checkpoints.wait()  # it is raised once
    assert list(tmp_path.iterdir()) == []


def test_closing_waits_and_raises_nothing(tmp_path):
    opened = Checkpoints(str(tmp_path), 2)
    with files_limited():
        save(opened, 1)
        opened.close()
    assert opened.steps() == []


def test_a_full_disk(tmp_path):
    """A file system of two mebibytes: the second checkpoint does not fit, and does when there is room."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2200k", "none", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system that is full soon")
    opened = Checkpoints(str(mounted / "checkpoints"), 1)
    try:
        save(opened, 1)
        save(opened, 2)
        opened.settle()
        told = opened.failed()
        assert "No space left on device); the checkpoint of step 1 is good" in told
        opened.verify_stored(1)
        shutil.rmtree(mounted / "checkpoints/1")
        save(opened, 3)
        opened.wait()
        assert opened.steps() == [3]
        opened.verify_stored(3)
    finally:
        opened.close()
        subprocess.run(["umount", str(mounted)], check=True)


def test_what_has_to_be_there_with_a_checkpoint_fails_it(checkpoints):
    def broken():
        raise RuntimeError("the log is lost")

    save(checkpoints, 1, before=broken)
    with pytest.raises(RuntimeError, match="the log is lost"):
        checkpoints.wait()
    assert checkpoints.steps() == []


def test_the_best_and_every_second_stay_beside_the_newest(tmp_path):
    opened = Checkpoints(str(tmp_path), 1, keep_every=4, keep_best=1)
    for step, loss in ((1, 2.0), (2, 1.0), (3, 1.5), (4, 3.0), (5, None), (6, 1.1)):
        save(opened, step, loss)
    opened.wait()
    assert opened.steps() == [2, 4, 6]
    opened.close()


def test_what_is_not_ours_is_not_overwritten(checkpoints, tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(UserError, match="lies where the checkpoint of step 3"):
        save(checkpoints, 3)


def test_a_store_that_refuses_ends_nothing_but_the_save(monkeypatch):
    monkeypatch.setattr("sc2jax.checkpoint.checkpoints.refuse_misread_path", lambda *_, **__: None)
    opened = Checkpoints("memory://refusing/checkpoints", 1)

    def refuse(*_, **__):
        raise PermissionError("403 quota")

    with monkeypatch.context() as patched:
        patched.setattr("orbax.checkpoint.AsyncCheckpointer.save", refuse)
        save(opened, 1)
        assert "step 1 could not be saved (memory://refusing/checkpoints cannot be reached" in opened.failed()
        patched.setattr(MemoryFileSystem, "isdir", refuse)
        save(opened, 2)
        assert "step 2 could not be saved" in opened.failed()
    with pytest.raises(UserError, match=r"cannot be reached .*403 quota"):
        opened.wait()
    opened.close()
