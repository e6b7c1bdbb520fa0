"""Which checkpoints stay, against the rule written out one step at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.checkpoint.retention import Retention


def stays(step, saved, newest, every, best):
    """Whether a step is among the newest, a multiple, or has fewer than `best` others that are better."""
    newer = sum(other > step for other in saved)
    loss = saved[step]
    better = sum(
        other is not None and loss is not None and (other < loss or (other == loss and that > step))
        for that, other in saved.items()
    )
    return newer < newest or (every > 0 and step % every == 0) or (loss is not None and better < best)


@given(
    saved=st.dictionaries(st.integers(0, 30), st.none() | st.sampled_from([1.0, 1.5, 2.0, 2.5]), max_size=12),
    newest=st.integers(1, 4),
    every=st.integers(0, 6),
    best=st.integers(0, 4),
)
def test_the_rule(saved, newest, every, best):
    expected = [step for step in sorted(saved) if not stays(step, saved, newest, every, best)]
    assert Retention(newest, every, best).outdated(saved) == expected


@pytest.mark.parametrize(
    ("retention", "gone"),
    [
        (Retention(2), [2, 4, 6]),
        (Retention(1, every=4), [2, 6]),
        (Retention(1, best=2), [6, 8]),  # 2 and 4, the lowest; 10 is the newest
        (Retention(1, best=9), [6]),  # 6 was not evaluated
        (Retention(9), []),
    ],
    ids=str,
)
def test_examples(retention, gone):
    assert retention.outdated({2: 1.0, 4: 1.2, 6: None, 8: 1.4, 10: 1.3}) == gone
