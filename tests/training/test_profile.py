"""Which steps are traced, and a trace that the profiler leaves."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from sc2jax.training.profile import Profile


@pytest.fixture
def calls(monkeypatch) -> list[Any]:
    """What the profiler was asked, in order, with the steps between."""
    made: list[Any] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: made.append(f"start {folder}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: made.append("stop"))
    monkeypatch.setattr(jax, "block_until_ready", lambda results: made.append(f"{results} is there"))
    return made


def run(calls: list[Any], first: int, steps: int, of: range) -> list[Any]:
    with Profile("folder", first, steps) as profile:
        for step in of:
            profile.before(step)
            calls.append(step)
            profile.after(step, f"result {step}")
    return calls


@pytest.mark.parametrize(
    ("first", "steps", "of", "expected"),
    [
        (2, 2, range(1, 6), [1, "start folder", 2, 3, "result 3 is there", "stop", 4, 5]),
        (1, 1, range(1, 3), ["start folder", 1, "result 1 is there", "stop", 2]),
        (2, 9, range(1, 4), [1, "start folder", 2, 3, "stop"]),  # the run ends before
        (2, 3, range(3, 7), ["start folder", 3, 4, "result 4 is there", "stop", 5, 6]),  # it goes on in the middle
        (2, 2, range(4, 6), [4, 5]),  # or behind
        (9, 2, range(1, 3), [1, 2]),
        (0, 5, range(1, 3), [1, 2]),
    ],
)
def test_the_steps_asked_for_are_traced(calls, first, steps, of, expected):
    assert run(calls, first, steps, of) == expected


def test_a_trace_is_kept_when_the_run_fails(calls):
    with pytest.raises(KeyError), Profile("folder", 1, 5) as profile:
        profile.before(1)
        raise KeyError
    assert calls == ["start folder", "stop"]


def test_the_profiler_leaves_a_trace(tmp_path):
    with Profile(str(tmp_path), 1, 1) as profile:
        profile.before(1)
        profile.after(1, jax.jit(lambda x: x + 1)(jnp.zeros(())))
    assert [path.suffixes[-2:] for path in tmp_path.rglob("*.pb")] == [[".xplane", ".pb"]]
