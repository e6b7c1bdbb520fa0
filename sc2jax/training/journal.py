"""What is written and shown of finished steps: their metrics, read one step late, the lines of the logs, the bar."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from sc2jax.checkpoint.progress import Progress
from sc2jax.parallel.memory import peak_device_bytes
from sc2jax.training.config import TrainingConfig
from sc2jax.training.evaluation import BitsPerByte
from sc2jax.training.global_batch import whole_counts
from sc2jax.training.goodput import Bucket, GoodputLog, Stopwatch, shares
from sc2jax.training.live_progress import LiveProgress, Step
from sc2jax.training.log_files import LogFiles
from sc2jax.training.metrics import MetricsLog
from sc2jax.training.step import Metrics
from sc2jax.training.tensorboard import EventFile, scalars
from sc2jax.training.utilisation import Utilisation

TENSORBOARD = "tensorboard"
"""The folder of TensorBoard's event file, beside the log."""


class NotFiniteError(Exception):
    """A step whose loss or gradient is infinite or not a number."""

    def __init__(self, step: int, loss: float, gradient_norm: float) -> None:
        super().__init__(
            f"the loss or its gradient is not finite at step {step} (loss {loss}, gradient norm {gradient_norm})"
        )


class CountedFeed(Protocol):
    """What is asked of a feed about the rows that it gave."""

    def counts(self) -> np.ndarray:
        """What is counted of the newest batch, int64 (global rows, kinds); rows of other processes are zero."""
        ...

    def statistics(self, step: int, counts: Sequence[int], before: Mapping[str, Any]) -> dict[str, Any]:
        """What was read up to a step, given the counts since the statistics `before`, which may be empty."""
        ...


class Journal:
    """Follows the steps of a run; use it as a context manager. Each process has one; one process writes and speaks.

    A step's metrics are read after the next step was dispatched, so that the devices never wait for us.
    """

    def __init__(
        self,
        folder: str,
        feed: CountedFeed,
        training: TrainingConfig,
        reached: Progress,
        positions: int,
        stopwatch: Stopwatch,
        utilisation: Utilisation,
        *,
        writes: bool,
    ) -> None:
        """Goes on from what a checkpoint says, or from nothing, in steps of so many `positions`.

        Raises:
            UserError: what lies in the folder is not the log up to there.
        """
        self._feed, self._training, self._positions = feed, training, positions
        self._stopwatch, self._utilisation = stopwatch, utilisation
        self._first = reached.step + 1
        self._carried = reached.counts
        self._counts: np.ndarray | None = None
        self._unread: tuple[int, Metrics, np.ndarray, float] | None = None
        self._timed: list[Step] = []
        self._evaluated: tuple[int, BitsPerByte] | None = None
        self._logs = _Logs(folder, reached) if writes else None
        self._live = LiveProgress(reached.step, training.steps, utilisation, shows=writes)

    def __enter__(self) -> "Journal":
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def dispatched(self, step: int, metrics: Metrics, waited: float) -> None:
        """Takes what a step will come to, and how long it waited for its batch, in seconds; reads the step before.

        Raises:
            NotFiniteError: as `read`.
        """
        self.read()
        self._unread = step, metrics, self._feed.counts(), waited

    def evaluated(self, step: int, found: BitsPerByte) -> None:
        """Takes what the parameters after the newest step came to on held-out rows, which ends a line of the log."""
        self._evaluated = step, found

    def read(self) -> None:
        """Waits for the newest step that was dispatched, and writes and shows what it came to.

        Raises:
            NotFiniteError: its loss or its gradient is not finite.
        """
        if self._unread is None:
            return
        step, metrics, counts, waited = self._unread
        self._unread = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            raise NotFiniteError(step, values["loss"], values["gradient_norm"])
        self._counts = counts if self._counts is None else self._counts + counts
        finished = Step(step, values["loss"], values["tokens"], self._positions, waited)
        if step != self._first:  # whose time is that of its compilation
            self._timed.append(finished)
        if self._logs is not None:
            self._logs.metrics.add(values)
        if step % self._training.log_every == 0 or step == self._training.steps or self._evaluation_of(step):
            self._write(step)
        self._live.step(finished)

    def reached(self, step: int, key: str) -> Progress:
        """What a checkpoint of the newest step says, with what belongs to a line that is not complete."""
        self._carried, self._counts = self._counted(), None
        found = self._evaluation_of(step)
        loss = found["bits_per_byte"] if found else None
        if self._logs is None:
            return Progress(step, key, counts=self._carried, evaluation_loss=loss)
        log = self._logs.metrics
        return Progress(step, key, log.sha256, log.pending, self._carried, loss)

    def publish(self) -> None:
        """Copies the logs to where they belong, if they are not written there; any thread may do it."""
        if self._logs is not None:
            self._logs.files.publish()

    def complete(self, step: int) -> None:
        """Takes down the end of the run."""
        if self._logs is not None:
            self._logs.goodput.end(step, self._stopwatch.take())

    def say(self, message: str) -> None:
        """Says something beside the bar, if this process speaks and there is something to say."""
        if self._logs is not None and message:
            self._live.say(message)

    def _write(self, step: int) -> None:
        counts = self._counted()
        self._carried, self._counts = (), None
        if self._logs is not None:
            spent = self._stopwatch.take()
            statistics = self._feed.statistics(step, counts, self._logs.metrics.feed)
            self._logs.write(step, statistics, self._evaluation_of(step), self._figures(spent), spent)
        self._timed = []

    def _figures(self, spent: Mapping[str, float]) -> dict[str, float]:
        """How fast the steps since the newest line were, and what they needed, which no two runs have in common."""
        seconds = spent.get(Bucket.STEP, 0.0) + spent.get(Bucket.DATA, 0.0)
        figures = {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(sum(timed.tokens for timed in self._timed) / max(seconds, 1e-9), 1),
            "feed_wait_seconds": round(sum(timed.waited for timed in self._timed), 4),
        }
        utilisation = self._utilisation.of(sum(timed.positions for timed in self._timed), seconds)
        figures |= {} if utilisation is None else {"model_flops_utilisation": round(utilisation, 6)}
        return figures | _memory()

    def _evaluation_of(self, step: int) -> BitsPerByte | None:
        return self._evaluated[1] if self._evaluated is not None and self._evaluated[0] == step else None

    def _counted(self) -> tuple[int, ...]:
        """The counts of all rows since the newest line; all processes take part, for each knows its own rows alone."""
        if self._counts is None:
            return self._carried
        counts = whole_counts(self._counts)
        return tuple(map(sum, zip(self._carried, counts, strict=True))) if self._carried else counts


class _Logs:
    """The files that the steps of a run are written to."""

    def __init__(self, folder: str, reached: Progress) -> None:
        self.files = LogFiles(folder)
        self.metrics = MetricsLog(self.files, reached.step, reached.log_sha256, reached.pending)
        self.goodput = GoodputLog(self.files, reached.key, reached.step)
        timing = self.metrics.timing()
        rows = [(row["step"], scalars({**timing.get(row["step"], {}), **row})) for row in self.metrics.rows()]
        self._events = EventFile(self.files.open_folder(TENSORBOARD), rows)

    def write(
        self,
        step: int,
        statistics: Mapping[str, Any],
        evaluation: BitsPerByte | None,
        figures: Mapping[str, Any],
        spent: Mapping[str, float],
    ) -> None:
        """Writes of the steps up to one; `spent` is where the time since the last call went."""
        self.goodput.add(step, dict(spent))
        parts = {bucket: round(share, 4) for bucket, share in shares(self.goodput.totals()).items()}
        timing = {**figures, "goodput": parts}
        row = self.metrics.write(step, statistics, timing, evaluation)
        self._events.add(step, scalars({**timing, **row}))


def _memory() -> dict[str, float]:
    """The most memory that one of this process's devices has held, where they tell it."""
    peak = peak_device_bytes()
    return {"peak_device_bytes": peak} if peak else {}
