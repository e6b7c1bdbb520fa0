"""The judge in the sandboxes that can be reached here."""

import contextlib
from collections.abc import Iterator

import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.judging.calibration import time_scale
from sc2jax.evaluation.judging.python_judge import CANDIDATE, JUDGE, PythonJudge
from sc2jax.evaluation.sandbox import Guest, Limits, Sandbox, open_sandbox

LIMITS = Limits(
    memory_bytes=1 << 30, disk_bytes=1 << 20, processes=8, open_files=32, frame_bytes=1 << 26, output_bytes=1 << 28
)


@pytest.fixture(scope="session")
def candidates():
    """A sandbox of candidates."""
    with opened(CANDIDATE) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def judge(candidates):
    """A judge of Python, at this machine's speed."""
    with opened(JUDGE) as judges:
        yield PythonJudge(candidates, judges, time_scale(candidates))


@pytest.fixture(scope="session", params=[2, 3], ids=["bubblewrap", "landlock"])
def weaker_judge(request):
    """The same on each weaker rung that contains at all."""
    with opened(CANDIDATE, request.param) as candidates, opened(JUDGE, request.param) as judges:
        yield PythonJudge(candidates, judges, time_scale(candidates))


@contextlib.contextmanager
def opened(guest: Guest, rung: int = 0) -> Iterator[Sandbox]:
    with contextlib.ExitStack() as stack:
        try:
            sandbox = stack.enter_context(open_sandbox(guest, LIMITS, rung=rung))
        except UserError as error:
            pytest.skip(f"no such sandbox can be reached here: {error}")
        yield sandbox
