"""Small programs that the TPU's compiler has compiled."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sc2jax.plan.environment import ENVIRONMENT


@pytest.fixture(scope="session")
def tpu_programs() -> dict[str, dict[str, Any]]:
    """By name: the text, the compiler's own count of operations and the bytes of the arguments."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, str(Path(__file__).with_name("tpu_programs.py"))]
    done = subprocess.run(command, check=False, env=inherited | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
