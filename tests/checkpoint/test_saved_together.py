"""Two processes save together: what fails for one fails for both at once, and one process restores what both saved."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import run_two

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

PROGRAM = Path(__file__).with_name("saving_process.py")


@pytest.mark.slow
@pytest.mark.parametrize(("small", "longest"), [(0, 100_000), (1, 100_000), (0, 10), (0, 0)])
def test_a_disk_that_is_full_for_one_fails_the_save_of_both_and_no_other(tmp_path, small, longest):
    """Be it for long files, for the short ones that describe others, or for folders."""
    (tmp_path / "small").write_text(f"{small} {longest}")
    run_two(PROGRAM, tmp_path)
    found = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    for saves in found:
        assert [bool(save["raised"]) for save in saves] == [False, True, False]
        assert "step 2 could not be saved" in saves[1]["told"]
        assert "the checkpoint of step 1 is good" in saves[1]["told"]
        assert saves[1]["seconds"] < 30
    what = ": File too large" if longest else "/2.orbax-checkpoint-tmp: No space left on device"
    assert f"process {small} could not: {tmp_path}/checkpoints{what}" in found[1 - small][1]["raised"]
    reader = Checkpoints(str(tmp_path / "checkpoints"))
    assert reader.steps() == [1, 3]
    mesh = create_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    place = rules.sharding(mesh, (rules.LAYERS, rules.MLP, rules.EMBED), (2, 400, 900))
    like = {
        "kernel": jax.ShapeDtypeStruct((2, 400, 900), jnp.float32, sharding=place),
        "scale": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=rules.replicated(mesh)),
    }
    count = {"count": jax.ShapeDtypeStruct((), jnp.int32, sharding=rules.replicated(mesh))}
    _, params, rest = reader.restore(3, like, count)
    np.testing.assert_array_equal(params["kernel"], np.arange(720_000, dtype=np.float32).reshape(2, 400, 900) * 3)
    assert int(rest["count"]) == 3
    reader.close()
