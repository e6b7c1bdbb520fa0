"""The 3B model with adapters fits one chip of 16 GiB, by the TPU's own compiler, for chips that are not there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sc2jax.plan.environment import ENVIRONMENT

SCRIPT = Path(__file__).parents[2] / "perf/tpu_finetune.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)
def test_adapters_of_rank_16_train_in_less_than_14_gib():
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), *sys.path])}
    command = [sys.executable, str(SCRIPT), "4096"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    length, arguments, beside, together, by_hand = (
        float(cell) for cell in done.stdout.splitlines()[-1].split("|")[1:-1]
    )
    assert length == 4096
    # Frozen weights have neither gradients nor moments: the arguments are the state, and nothing of its size is beside.
    assert arguments == pytest.approx(by_hand, abs=0.02)
    assert 0 < beside < 2.5
    assert together < 14
