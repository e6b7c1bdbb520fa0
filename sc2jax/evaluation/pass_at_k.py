"""Pass@k of tasks, means over tasks with bootstrap intervals, and differences paired by task.

Pass@k is the chance that at least one of k samples of a task passes. Its estimate from n samples is unbiased for k <= n
(Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, section 2.1); it is taken a task at
a time, never from counts that were pooled over tasks.

An interval is that of the percentile bootstrap over tasks: it says how the mean would vary with other tasks of the same
kind, which is most of what is not known where a task has one greedy sample. Where all tasks have the same value it has
no width: resampling cannot see a task that would differ.

Everything here gives the same bits on every machine: whole numbers are divided once, and sums are of fixed-point
numbers, whose order does not matter.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from sc2jax.json_files import Count

KS = (1, 10, 100)
"""Of pass@k, where a task has as many samples and its benchmark names no others."""
CONFIDENCE = 0.95
RESAMPLES = 9999
"""So that both ends of the interval are draws: (RESAMPLES + 1) * 0.025 is a whole number (Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 5.2)."""

_ONE = 2**40  # in fixed point; 2^22 tasks can be summed in 63 bits
_AT_ONCE = 2**21  # values that are drawn at once


class Estimate(TypedDict):
    """A mean over `tasks` tasks and the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    tasks: Count


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """1 - C(samples - correct, k) / C(samples, k): the share of all choices of k samples that hold a correct one."""
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} correct among {samples} samples")
    every = math.comb(samples, k)
    return (every - math.comb(samples - correct, k)) / every


def mean_over_tasks(values: Sequence[float], seed: int) -> Estimate:
    """The mean of a value of each task, at least one, and its interval over tasks.

    The draws follow from the seed and the number of tasks. The order of the values matters to the interval (in what
    chance gives to the last digits), so that callers put tasks in an order of their own.
    """
    if not len(values):
        raise ValueError("no task has a value")
    fixed = np.array([round(value * _ONE) for value in values], np.int64)
    sums = np.sort(_resampled_sums(fixed, seed))
    tail = round((RESAMPLES + 1) * (1 - CONFIDENCE) / 2)
    whole = len(values) * _ONE
    return Estimate(
        value=int(fixed.sum()) / whole,
        low=int(sums[tail - 1]) / whole,
        high=int(sums[-tail]) / whole,
        tasks=len(values),
    )


def paired_difference(values: Mapping[str, float], reference: Mapping[str, float], seed: int) -> Estimate | None:
    """The mean of the differences to a reference over the tasks that both have; None where they have none in common.

    Both models meet the same tasks in every draw, so that what makes a task hard for either cancels.
    """
    shared = sorted(values.keys() & reference.keys())
    return mean_over_tasks([values[task] - reference[task] for task in shared], seed) if shared else None


def excludes_zero(difference: Estimate) -> bool:
    """Whether all of the interval lies on one side of 0."""
    return difference["low"] > 0 or difference["high"] < 0


def _resampled_sums(fixed: np.ndarray, seed: int) -> np.ndarray:
    """The sum of as many draws with replacement as there are values, `RESAMPLES` times.

    The generator's own numbers are taken, whose stream numpy keeps from version to version; that one index is drawn
    less often than another by one in 2^64 / tasks times is no difference.
    """
    tasks = len(fixed)
    bits = np.random.Philox(key=seed)
    rows = max(1, _AT_ONCE // tasks)
    sums = np.empty(RESAMPLES, np.int64)
    for start in range(0, RESAMPLES, rows):
        part = sums[start : start + rows]
        drawn = bits.random_raw(len(part) * tasks) % np.uint64(tasks)
        part[:] = fixed[drawn.astype(np.int64)].reshape(len(part), tasks).sum(axis=1)
    return sums
