"""What kept and offloaded activations cost in memory, by the real TPU compiler for chips that are not there."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sc2jax.plan.environment import ENVIRONMENT

SIZE = 8 * 2 * 2048 * 2048 * 2
"""Bytes of `mlp_up` on a device: layers, rows, positions, width of the MLP, bfloat16."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)
def test_what_is_kept_takes_memory_of_the_device_and_what_is_offloaded_of_the_host():
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    script = str(Path(__file__).parent / "tpu_memory.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    least = found["none"]["device"]
    assert found["kept"]["device"] - least == pytest.approx(SIZE, rel=0.1)
    # All of it leaves the device, but for the layers on their way; beside these a step holds other things at its peak.
    assert found["kept"]["device"] - found["offloaded"]["device"] > 0.45 * SIZE
    assert {name: case["host"] for name, case in found.items()} == {
        "none": 0,
        "kept": 0,
        "offloaded": SIZE,
        "dots": 0,
        "attention kept": 0,
    }
    # Forward, again for the backward pass, backward: what is kept spares the second.
    assert [found[name]["kernels"] for name in ("none", "attention kept", "dots")] == [3, 2, 2]
