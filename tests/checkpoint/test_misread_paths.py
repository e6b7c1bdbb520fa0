"""A path that Orbax or TensorStore would read otherwise is refused before anything is written; any other one holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import refuse_misread_path
from sc2jax.checkpoint.progress import Progress
from sc2jax.checkpoint.streamed import StreamedArray, save_streamed
from sc2jax.errors import UserError
from sc2jax.storage import files_below

PARAMS = {"layers": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "scale": jnp.ones(4)}
STACKED = {"layers": {"kernel": True}, "scale": False}
MERGED_WRONGLY = ("run[1]", "[", "star*", "q?m")
READ_WRONGLY = ("back\\slash", "gs:", "logs:", "\udce9")
HELD = (
    "per%cent",
    "ha#sh",
    "x:y",
    "s3:",
    "file:",
    "{b}",
    "a]",
    "~",
    "$HOME",
    "new\nline",
    "'\"",
    " ",
    "é",
    "...",
    "!^-+@&;|",
)


def save(folder) -> None:
    checkpoints = Checkpoints(str(folder), 1)
    try:
        checkpoints.save(Progress(1, "key"), PARAMS, {"count": jnp.int32(0)}, STACKED)
        checkpoints.wait()
    finally:
        checkpoints.close()


def restored(folder):
    checkpoints = Checkpoints(str(folder))
    try:
        checkpoints.verify_stored(1)
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), PARAMS)
        return checkpoints.restore_params(1, like)
    finally:
        checkpoints.close()


def streamed(folder, name: str = "scale") -> None:
    def blocks(_):
        yield (slice(0, 4),), np.ones(4, np.float32)

    save_streamed(str(folder), 1, "key", {(name,): StreamedArray((4,), np.dtype("f4"), False, blocks)})


@pytest.mark.parametrize("name", HELD)
def test_an_odd_path_holds(tmp_path, name):
    save(tmp_path / name / "run")
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / name / "run"), PARAMS)
    streamed(tmp_path / name / "other")


@pytest.mark.parametrize("name", [*MERGED_WRONGLY, *READ_WRONGLY])
def test_a_path_that_is_misread_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot hold checkpoints: .* means something else to Orbax; rename"):
        save(tmp_path / name / "run")
    assert not list(tmp_path.iterdir())
    if name in READ_WRONGLY:
        with pytest.raises(UserError, match="cannot hold checkpoints"):
            streamed(tmp_path / name / "run")
        with pytest.raises(UserError, match="cannot hold checkpoints"):
            Checkpoints(str(tmp_path / name / "run"))
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MERGED_WRONGLY)
def test_what_was_copied_there_is_read_all_the_same_and_a_link_helps_to_write(tmp_path, name):
    save(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / name)
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / name), PARAMS)
    streamed(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    (tmp_path / name / "1").rename(tmp_path / "old")
    save(tmp_path / "link")
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / name), PARAMS)


@pytest.mark.parametrize("name", ["gs", "s3", "az", "hf"])
def test_a_first_folder_that_is_the_scheme_of_a_url_is_refused(name):
    with pytest.raises(UserError, match=f"/{name}/ in a path"):
        refuse_misread_path(f"/{name}/run", merged=False)
    for other in (f"/data/{name}/run", f"/{name}x/run"):
        refuse_misread_path(other, merged=True)


def test_a_url_of_the_store_that_both_libraries_know_is_taken():
    refuse_misread_path("gs://bucket/run[1]", merged=True)


@pytest.mark.parametrize("scheme", ["file", "local", "s3", "s3a", "az", "abfs", "hdfs", "memory"])
def test_a_url_of_another_store_is_refused_before_anything_is_read_or_written(scheme):
    with pytest.raises(UserError, match=f"^{scheme}://.* cannot hold checkpoints, which lie on a local disk or"):
        Checkpoints(f"{scheme}:///data/run")


def test_a_local_url_names_the_path_to_use_instead():
    with pytest.raises(UserError, match=r"name it by its path, /data/run$"):
        refuse_misread_path("file:///data/run", merged=True)


def test_what_was_saved_and_is_not_found_again_ends_the_work_and_older_ones_stay(tmp_path, monkeypatch):
    """As when Orbax found none of the parts that it should have merged."""
    save(tmp_path)
    before = files_below(str(tmp_path / "1"))
    monkeypatch.setattr("orbax.checkpoint._src.serialization.ocdbt_utils.merge_ocdbt_per_process_files", nothing)
    monkeypatch.setattr("sc2jax.checkpoint.checkpoints.refuse_misread_path", lambda *_, **__: None)
    checkpoints = Checkpoints(str(tmp_path), 1)
    checkpoints.save(Progress(2, "key"), PARAMS, {"count": jnp.int32(0)}, STACKED)
    with pytest.raises(UserError, match=r"/2 cannot be restored: .*; delete that folder to go on from step 1"):
        checkpoints.wait()
    assert files_below(str(tmp_path / "1")) == before


async def nothing(*_, **__) -> None:
    pass


def test_a_streamed_array_that_went_elsewhere_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("sc2jax.checkpoint.streamed.refuse_misread_path", lambda *_, **__: None)
    with pytest.raises(UserError, match="holds 0 files of 2 that were written there"):
        streamed(tmp_path / "back\\slash")
    assert not [path for path in (tmp_path / "back\\slash").rglob("*") if path.is_file()]
