"""Checkpoints of a run: exact on any mesh, the newest ones kept, damage named, failures in the background raised."""

import contextlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

KERNEL = (rules.LAYERS, rules.EMBED, rules.MLP)
STACKED = {"layers": {"kernel": True}, "scale": False}


@pytest.fixture(scope="module")
def mesh():
    return create_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def arrays(mesh, seed=0):
    """Parameters and moments with the places that the mesh gives them."""
    kernel, scale = (jax.random.normal(jax.random.key(seed), shape) for shape in ((2, 4, 8), (4,)))
    places = rules.sharding(mesh, KERNEL, kernel.shape), rules.sharding(mesh, (rules.EMBED,), scale.shape)
    params = {"layers": {"kernel": jax.device_put(kernel, places[0])}, "scale": jax.device_put(scale, places[1])}
    return params, {"count": jnp.int32(seed), "mu": jax.tree.map(lambda x: x / 3, params)}


def abstract(tree, mesh):
    def placed(x):
        axes = {3: KERNEL, 1: (rules.EMBED,), 0: ()}[x.ndim]
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rules.sharding(mesh, axes, x.shape))

    return jax.tree.map(placed, tree)


@contextlib.contextmanager
def opened(folder, kept=2):
    checkpoints = Checkpoints(str(folder), kept)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, mesh):
    """A folder in which the steps 1 to 4 were saved and two kept."""
    folder = tmp_path_factory.mktemp("saved")
    with opened(folder) as checkpoints:
        for step in range(1, 5):
            checkpoints.save(Progress(step, f"key {step}", f"log {step}"), *arrays(mesh, step), STACKED)
        checkpoints.wait()
    return folder


def test_the_newest_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["3", "4"]
    with opened(saved) as checkpoints:
        assert checkpoints.latest_step() == 4


@pytest.mark.parametrize("kept", [0, 2])
def test_an_empty_folder_has_no_step(tmp_path, kept):
    with opened(tmp_path / "new", kept) as checkpoints:
        assert checkpoints.latest_step() is None
    assert (tmp_path / "new").is_dir() == bool(kept)


def test_a_writer_deletes_what_an_interrupted_save_left_and_nothing_else(tmp_path):
    (tmp_path / "20.orbax-checkpoint-tmp" / "params" / "ocdbt.process_0").mkdir(parents=True)
    (tmp_path / "mine.orbax-checkpoint-tmp").mkdir()
    with opened(tmp_path, kept=0):
        assert len(list(tmp_path.iterdir())) == 2  # a reader may look while another process writes
    with opened(tmp_path):
        assert [entry.name for entry in tmp_path.iterdir()] == ["mine.orbax-checkpoint-tmp"]


@pytest.mark.parametrize("sizes", [{"data": 1, "fsdp": 4, "tensor": 2}, {"data": 8, "fsdp": 1}], ids=str)
def test_all_is_restored_exactly_onto_another_mesh(saved, mesh, sizes):
    params, optimizer = arrays(mesh, 3)
    other = create_mesh(MeshConfig(**sizes))
    with opened(saved) as checkpoints:
        progress, *restored = checkpoints.restore(3, abstract(params, other), abstract(optimizer, other))
        alone = checkpoints.restore_params(3, abstract(params, other))
        assert checkpoints.read_key(3) == "key 3"
    jax.tree.map(np.testing.assert_array_equal, restored, [params, optimizer])
    jax.tree.map(np.testing.assert_array_equal, alone, params)
    assert alone["layers"]["kernel"].sharding == rules.sharding(other, KERNEL, (2, 4, 8))
    assert progress == Progress(3, "key 3", "log 3")


def test_a_shape_that_was_not_saved_is_refused(saved, mesh):
    params, _ = arrays(mesh)
    wrong = abstract(params | {"scale": jnp.zeros(6)}, create_mesh(MeshConfig(data=4, fsdp=2)))
    with opened(saved) as checkpoints, pytest.raises(UserError, match=r"/4 cannot be restored.*go on from step 3"):
        checkpoints.restore_params(4, wrong)


def test_training_goes_on_with_the_types_and_shapes_that_were_saved_and_no_others(saved, mesh):
    params, optimizer = arrays(mesh)
    like = abstract(params, mesh), abstract(optimizer, mesh)
    narrow = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16 if x.ndim == 3 else x.dtype, sharding=x.sharding), like
    )
    wide = abstract(optimizer | {"count": jnp.ones((), jnp.float32)}, mesh)
    long = abstract(params | {"scale": jnp.ones(8)}, mesh)
    with opened(saved) as checkpoints:
        for wanted, message in (
            ((narrow[0], like[1]), r"params/layers/kernel as float32\[2,4,8\], and bfloat16\[2,4,8\] is wanted"),
            ((like[0], narrow[1]), r"optimizer/mu/layers/kernel as float32\[2,4,8\], and bfloat16"),
            ((like[0], wide), r"optimizer/count as int32\[\], and float32\[\] is wanted"),
            ((long, like[1]), r"params/scale as float32\[4\], and float32\[8\] is wanted"),
        ):
            with pytest.raises(UserError, match=message):
                checkpoints.restore(4, *wanted)


@pytest.mark.parametrize("part", ["params", "optimizer"])
def test_an_array_that_was_exchanged_is_named(saved, mesh, tmp_path, part):
    """Each array is read without an error and is none of those that were saved: the fingerprints alone can tell."""
    shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/4" / part)
    shutil.copytree(saved / "3" / part, tmp_path / "copy/4" / part)
    params, optimizer = arrays(mesh)
    message = {"params": "2 arrays of its params .* layers/kernel among", "optimizer": "3 arrays of its optimizer"}
    with opened(tmp_path / "copy") as checkpoints, pytest.raises(UserError, match=message[part]):
        checkpoints.restore(4, abstract(params, mesh), abstract(optimizer, mesh))


def test_a_checkpoint_without_its_json_is_damaged(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/4/progress")
    with (
        opened(tmp_path / "copy") as checkpoints,
        pytest.raises(UserError, match=r"holds no checkpoint of step 4: .* moved away; run"),
    ):
        checkpoints.read_key(4)
