"""What `verify_stored` finds whole can be restored, and nothing in a checkpoint is waited for that is no file."""

import json
import os
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError

PARAMS = {"layers": {"kernel": jax.random.normal(jax.random.key(0), (2, 600))}, "scale": jnp.ones(4)}
OPTIMIZER = ({"count": jnp.int32(0)}, {"mu": jax.random.normal(jax.random.key(1), (600,))})
STACKED = {"layers": {"kernel": True}, "scale": False}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(str(folder), 1)
    checkpoints.save(Progress(1, "key"), PARAMS, OPTIMIZER, STACKED)
    checkpoints.wait()
    checkpoints.close()
    return folder


def like(tree):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), tree)


def holds(folder) -> bool:
    """Whether the checkpoint is found whole; if so, it must come back as it was saved."""
    try:
        checkpoints = Checkpoints(str(folder))
    except UserError:
        return False
    try:
        checkpoints.verify_stored(1)
    except UserError as error:
        assert str(folder) in str(error)
        return False
    else:
        _, *restored = checkpoints.restore(1, like(PARAMS), like(OPTIMIZER))
        jax.tree.map(np.testing.assert_array_equal, restored, [PARAMS, OPTIMIZER])
        return True
    finally:
        checkpoints.close()


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


OURS = [f"1/{part}/{name}" for part in ("params", "optimizer") for name in ("_METADATA", "array_metadatas/process_0")]


def test_a_whole_one_holds(saved):
    assert holds(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
@pytest.mark.parametrize("name", OURS)
def test_what_orbax_says_of_its_arrays_is_looked_at(saved, tmp_path, name, content):
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(content)
    assert not holds(tmp_path / "copy")
    with_it = Checkpoints(str(tmp_path / "copy"))
    with pytest.raises(UserError, match=f"{name} is damaged: .*delete {tmp_path}/copy/1"):
        with_it.restore(1, like(PARAMS), like(OPTIMIZER))
    if "params" in name:
        with pytest.raises(UserError, match=f"{name} is damaged: "):
            with_it.restore_params(1, like(PARAMS))


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_a_checkpoint_that_says_it_holds_other_arrays_is_damaged(saved, tmp_path, change):
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy/1/params/_METADATA"
    said = json.loads(path.read_text())
    tree = said["tree_metadata"]
    scale = tree.pop("('scale',)")
    if change == "one more":
        tree |= {
            name: scale | {"key_metadata": [{"key": name[2:-3], "key_type": 2}]} for name in ("('scale',)", "('x',)")
        }
    path.write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"its params hold other arrays than were saved|files of it cannot be read"):
        Checkpoints(str(tmp_path / "copy")).verify_stored(1)


@pytest.mark.parametrize("name", OURS[::2])
def test_a_checkpoint_that_does_not_say_which_arrays_it_holds_is_damaged(saved, tmp_path, name):
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    assert not holds(tmp_path / "copy")
    with pytest.raises(UserError, match=f"{name} is missing; bring it back"):
        Checkpoints(str(tmp_path / "copy")).restore(1, like(PARAMS), like(OPTIMIZER))


@pytest.mark.parametrize("part", ["params", "optimizer"])
def test_the_array_that_cannot_be_read_is_named(saved, tmp_path, part):
    shutil.copytree(saved, tmp_path / "copy")
    for chunk in (tmp_path / "copy/1" / part / "ocdbt.process_0/d").iterdir():
        chunk.unlink()
    with pytest.raises(UserError, match=f"{part}/[a-z0-9/]+ cannot be (read|opened); bring it back"):
        Checkpoints(str(tmp_path / "copy")).verify_stored(1)


def test_whatever_is_damaged_or_missing_what_holds_is_restored(saved, tmp_path):
    chance = random.Random(0)
    found = []
    for name in files(saved):
        for how in ("gone", "empty", "flipped"):
            shutil.copytree(saved, tmp_path / "copy")
            path = tmp_path / "copy" / name
            content = bytearray(path.read_bytes() or b"\0")
            path.unlink()
            if how != "gone":
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
                path.write_bytes(content if how == "flipped" else b"")
            found.append(holds(tmp_path / "copy"))
            shutil.rmtree(tmp_path / "copy")
    assert found.count(False) > len(found) // 3


def test_a_pipe_is_refused_wherever_it_lies(saved, tmp_path):
    """Also in a folder that is no checkpoint of ours, yet has a number for a name, which Orbax looks into."""
    for name in [*files(saved), "7/_CHECKPOINT_METADATA", "1/metrics/metrics", "1/params/new/deep"]:
        shutil.copytree(saved, tmp_path / "copy")
        path = tmp_path / "copy" / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        for kept in (0, 1):
            with pytest.raises(UserError, match=f"{name} is no regular file; bring that file back"):
                Checkpoints(str(tmp_path / "copy"), kept)
        shutil.rmtree(tmp_path / "copy")


def test_a_pipe_that_nobody_opens_is_left_alone(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy/notes").mkdir()
    os.mkfifo(tmp_path / "copy/notes/pipe")
    (tmp_path / "copy/1/nowhere").symlink_to("gone")
    assert holds(tmp_path / "copy")


@pytest.mark.parametrize("part", ["params", "1"])
def test_a_link_to_a_folder_hides_no_pipe(saved, tmp_path, part):
    """A checkpoint may have been moved and linked; a part of one is not looked for elsewhere."""
    shutil.copytree(saved, tmp_path / "copy")
    moved = tmp_path / "copy/1" if part == "1" else tmp_path / "copy/1/params"
    moved.rename(tmp_path / "moved")
    moved.symlink_to(tmp_path / "moved")
    assert holds(tmp_path / "copy") == (part == "1")
    os.mkfifo(tmp_path / "moved/pipe")
    assert not holds(tmp_path / "copy")
