"""What is written and shown of finished steps: their metrics, read one step late, the log's lines, the bar."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.progress import progress
from sc2jax.training.global_batch import whole_counts
from sc2jax.training.metrics import MetricsLog
from sc2jax.training.spoken_progress import SpokenProgress
from sc2jax.training.step import Metrics


class ReadFeed(Protocol):
    """What is asked of a feed about the rows that it gave."""

    def counts(self) -> np.ndarray:
        """What is counted of the newest batch, int64 (global rows, kinds); rows of other processes are zero."""
        ...

    def statistics(self, step: int, counts: Sequence[int], before: Mapping[str, Any]) -> dict[str, Any]:
        """What was read up to a step, given the counts since the statistics `before`, which may be empty."""
        ...


class Journal:
    """Follows the steps of a run. Each process has one; that of the first process writes and speaks.

    A step's metrics are read after the next step was dispatched, so that the devices never wait for us.
    """

    def __init__(self, feed: ReadFeed, log: MetricsLog | None, reached: Progress, last: int, log_every: int) -> None:
        """Goes on from what a checkpoint says, or from nothing, to the step `last`."""
        self._feed, self._log, self._last, self._log_every = feed, log, last, log_every
        self._carried = reached.counts
        self._counts: np.ndarray | None = None
        self._unread: tuple[int, Metrics, np.ndarray, float] | None = None
        self._bar = progress(initial=reached.step, total=last, desc="train", unit="step")
        self._spoken = SpokenProgress(reached.step, last) if self._bar.disable and log is not None else None
        self._started = time.monotonic()

    def dispatched(self, step: int, metrics: Metrics, waited: float) -> None:
        """Takes what a step will come to, and how long it waited for its batch, in seconds; reads the step before.

        Raises:
            UserError: as `read`.
        """
        self.read()
        self._unread = step, metrics, self._feed.counts(), waited

    def read(self) -> None:
        """Waits for the newest step that was dispatched, and writes and shows what it came to.

        Raises:
            UserError: its loss or its gradient is not finite.
        """
        if self._unread is None:
            return
        step, metrics, counts, waited = self._unread
        self._unread = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        _refuse_not_finite(step, values)
        now = time.monotonic()
        self._counts = counts if self._counts is None else self._counts + counts
        if self._log is not None:
            self._log.add(values, now - self._started, waited)
        self._started = now
        if step % self._log_every == 0 or step == self._last:
            self._write(step)
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        self._bar.update()
        if self._spoken is not None:
            self._spoken.step(step, values["loss"], values["tokens"])

    def reached(self, step: int, key: str) -> Progress:
        """What a checkpoint of the newest step says, with what belongs to a line that is not complete."""
        self._carried, self._counts = self._counted(), None
        if self._log is None:
            return Progress(step, key, counts=self._carried)
        return Progress(step, key, self._log.sha256, self._log.pending, self._carried)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _write(self, step: int) -> None:
        counts = self._counted()
        self._carried, self._counts = (), None
        if self._log is not None:
            self._log.write(step, self._feed.statistics(step, counts, self._log.feed))

    def _counted(self) -> tuple[int, ...]:
        """The counts of all rows since the newest line; all processes take part, for each knows its own rows alone."""
        if self._counts is None:
            return self._carried
        counts = whole_counts(self._counts)
        return tuple(map(sum, zip(self._carried, counts, strict=True))) if self._carried else counts


def _refuse_not_finite(step: int, metrics: Mapping[str, float]) -> None:
    loss, norm = metrics["loss"], metrics["gradient_norm"]
    if not math.isfinite(loss + norm):
        raise UserError(
            f"the loss or its gradient is not finite at step {step} (loss {loss}, gradient norm {norm}); the newest "
            "checkpoint is good: lower training.peak_learning_rate, or look at the data of that step with `sc2jax show`"
        )
