"""The judge in the strongest sandbox that can be reached here."""

import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.judging.calibration import time_scale
from sc2jax.evaluation.judging.python_judge import CANDIDATE, JUDGE, PythonJudge
from sc2jax.evaluation.sandbox import Limits, open_sandbox

LIMITS = Limits(
    memory_bytes=1 << 30, disk_bytes=1 << 20, processes=8, open_files=32, frame_bytes=1 << 26, output_bytes=1 << 28
)


@pytest.fixture(scope="session")
def candidates():
    """A sandbox of candidates."""
    try:
        with open_sandbox(CANDIDATE, LIMITS) as sandbox:
            yield sandbox
    except UserError as error:
        pytest.skip(f"no sandbox can be reached here: {error}")


@pytest.fixture(scope="session")
def judge(candidates):
    """A judge of Python, at this machine's speed."""
    with open_sandbox(JUDGE, LIMITS) as judges:
        yield PythonJudge(candidates, judges, time_scale(candidates))
