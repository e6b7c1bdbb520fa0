"""Checkpoints written block by block: restored as any other, onto any mesh, wide or as stored."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.checkpoint.streamed import StreamedArray, save_streamed
from sc2jax.errors import UserError
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import abstract_params, init_params, parameter_table, stacked_mask
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

TINY = ModelConfig(vocab_size=64, context_length=16, embed_dim=16, num_layers=2, num_heads=4, num_kv_heads=2, window=8)
TABLE = parameter_table(TINY)
UP = ("layers", "mlp", "up", "kernel")


@pytest.fixture(scope="module")
def params():
    return init_params(TABLE, jax.random.key(0))


def streamed(array, dtype, path=UP) -> StreamedArray:
    stored = np.asarray(array).astype(dtype)

    def blocks(chunk):
        for row in range(0, stored.shape[0], chunk[0]):
            index = (slice(row, min(row + chunk[0], stored.shape[0])), *(slice(0, size) for size in stored.shape[1:]))
            yield index, stored[index]

    return StreamedArray(stored.shape, stored.dtype, path[0] == "layers", blocks)


def save(folder, step, key, params, dtype=np.float32):
    return save_streamed(
        str(folder), step, key, {path: streamed(leaf, dtype, path) for path, leaf in flat(params).items()}
    )


def flat(tree):
    return {tuple(entry.key for entry in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_restored_onto_any_mesh_wide_or_as_stored(tmp_path, params, dtype):
    fingerprints = save(tmp_path, 7, "key", params, dtype)
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    assert fingerprints == fingerprint(narrow)
    checkpoints = Checkpoints(str(tmp_path), 1)
    assert (checkpoints.latest_step(), checkpoints.read_key(7)) == (7, "key")
    assert checkpoints.read_fingerprints(7) == fingerprints
    for sizes in ({"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 8}):
        abstract = abstract_params(TABLE, create_mesh(MeshConfig(**sizes)))
        wide = checkpoints.restore_params(7, abstract)
        jax.tree.map(np.testing.assert_array_equal, wide, jax.tree.map(lambda leaf: leaf.astype(np.float32), narrow))
        assert wide["embedding"].sharding == abstract["embedding"].sharding
        as_stored = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), abstract)
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore_params(7, as_stored), narrow)
    checkpoints.close()


def test_parts_are_read_from_both_kinds_of_checkpoint(tmp_path, params):
    expected = np.asarray(flat(params)[UP])
    checkpoints = Checkpoints(str(tmp_path), 2)
    checkpoints.save(Progress(1, "trained"), params, {"count": jnp.zeros(2)}, stacked_mask(TABLE))
    checkpoints.wait()
    checkpoints.close()
    save(tmp_path, 2, "converted", params)
    other = Checkpoints(str(tmp_path), 2)
    for step in (1, 2):
        store = other.open_array(step, UP)
        assert store.spec().to_json()["metadata"]["chunks"][0] == 1  # one layer is read without the others
        np.testing.assert_array_equal(store[1, 3:5].read().result(), expected[1, 3:5])
    with pytest.raises(UserError, match="layers/mlp/none cannot be opened"):
        other.open_array(2, ("layers", "mlp", "none"))
    other.close()


def test_damage_is_found(tmp_path, params):
    save(tmp_path, 0, "key", params)
    chunk = next((tmp_path / "0" / "params" / ".".join(UP)).glob("1.*"))
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    checkpoints = Checkpoints(str(tmp_path), 1)
    with pytest.raises(UserError, match="layers/mlp/up/kernel among them"):
        checkpoints.restore_params(0, abstract_params(TABLE, create_mesh(MeshConfig())))
    checkpoints.close()


def test_a_failure_leaves_no_checkpoint(tmp_path, params):
    def broken(chunk):
        yield from streamed(params["embedding"], np.float32).blocks(chunk)
        raise RuntimeError("stopped")

    array = StreamedArray((64, 16), np.dtype(np.float32), False, broken)
    with pytest.raises(RuntimeError, match="stopped"):
        save_streamed(str(tmp_path), 0, "key", {("embedding",): array})
    assert Checkpoints(str(tmp_path), 1).latest_step() is None
    assert not list(tmp_path.iterdir())
