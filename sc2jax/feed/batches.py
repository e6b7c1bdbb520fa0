"""Training batches, prepared in the background: batch s holds the rows s * batch_size to (s + 1) * batch_size."""

import queue
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.rows import COUNTS, Packed, Rows
from sc2jax.feed.sources import FeedInputs

_LAST_READ_SECONDS = 10.0
"""How long the end waits for a read under way; one that never comes back, as of a lost mount, must not hold it up."""

HostBatch = dict[str, np.ndarray]

_PLANNED_ROWS = 4096
"""Rows whose places are computed at a time: a few cost as much as many."""


def open_batches(
    inputs: FeedInputs, batch_size: int, *, rows: Sequence[int] | None = None, source: str = ""
) -> "Batches":
    """The batches of `batch_size` rows of a run, from the first on.

    A process that reads only some of the `rows` of each batch gets them as they are in the whole batch. With a
    `source`, rows are those of a mixture of that one alone.

    Raises:
        UserError: the tokens or the mixture cannot be used.
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} rows is empty; use 1 or more")
    chosen = np.arange(batch_size) if rows is None else np.asarray(rows, np.int64)
    if not len(chosen) or not 0 <= chosen.min() <= chosen.max() < batch_size:
        raise ValueError(f"rows {chosen.tolist()} are not rows of a batch of {batch_size}")
    return Batches(Rows(inputs, source), batch_size, chosen, inputs.config.prefetch)


class Batches:
    """An iterator of batches: for each name of `packing.FEATURES` an array of (rows, row_length).

    Its position is the number of batches returned, whichever process returned them. `wait_seconds` is how long the
    caller waited for the last batch. Use as a context manager, or call `close`.
    """

    def __init__(self, rows: Rows, batch_size: int, chosen: np.ndarray, prefetch: int) -> None:
        self.rows = rows
        self._batch_size, self._chosen, self._prefetch = batch_size, chosen, prefetch
        self._step = 0
        self._counts = np.zeros((batch_size, len(COUNTS)), np.int64)
        self._background: _Background | None = None
        self._closed = False
        self.wait_seconds = 0.0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> HostBatch:
        if self._closed:
            raise ValueError("the feed is closed")
        started = time.perf_counter()
        if self._background is None:
            made = _make(self.rows, self._batch_size, self._chosen, self._step)
            self._background = _Background(made, self._prefetch)
        batch, counts = self._background.take()
        self._counts = np.zeros_like(self._counts)
        self._counts[self._chosen] = counts
        self._step += 1
        self.wait_seconds = time.perf_counter() - started
        return batch

    def counts(self) -> np.ndarray:
        """What is counted of the last batch: int64 (batch_size, `COUNTS`), zero in rows that are not read here.

        The element-wise maximum over all processes is that of the whole batch.
        """
        return self._counts

    def statistics(self, step: int, counts: Sequence[int], before: Mapping[str, Any]) -> dict[str, Any]:
        """What all processes had read after `step` batches, and what was counted of all rows.

        Args:
            step: the number of batches.
            counts: of the rows of all processes since the statistics `before` were taken, by `COUNTS`.
            before: earlier statistics of the run, or nothing.
        """
        ever = {name: before.get(name, 0) + count for name, count in zip(COUNTS, counts, strict=True)}
        return ever | {"sources": self.rows.statistics(step * self._batch_size)}

    def seek(self, step: int) -> None:
        """Continues after the first `step` batches; nothing before them is read."""
        self._stop()
        self._step = step

    def close(self) -> None:
        """Ends the background thread."""
        self._stop()
        self._closed = True

    def _stop(self) -> None:
        if self._background is not None:
            self._background.stop()
            self._background = None

    def __enter__(self) -> "Batches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make(rows: Rows, batch_size: int, chosen: np.ndarray, step: int) -> Iterator[Packed]:
    """The chosen rows of the batches from `step` on."""
    while True:
        ahead = max(1, _PLANNED_ROWS // batch_size)
        last = min(step + ahead, max(step + 1, rows.schedule.rows // batch_size))
        wanted = np.add.outer(np.arange(last - step) * batch_size, chosen).ravel()
        places = rows.places(step * batch_size, last * batch_size, wanted)
        for at in range(0, len(places), len(chosen)):
            yield rows.read(places[at : at + len(chosen)])
        step = last


class _Background:
    """A thread that keeps `depth` batches ready; if it fails, its exception is raised in place of a batch.

    The thread ends when this object is stopped or no longer referenced, and at the end of the program.
    """

    def __init__(self, made: Iterator[Packed], depth: int) -> None:
        self._ready: queue.SimpleQueue[Packed | BaseException] = queue.SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._error: BaseException | None = None
        ending = threading.Event()
        arguments = (made, self._ready, self._free, ending)
        thread = threading.Thread(target=_fill, args=arguments, name="sc2jax-feed", daemon=True)
        self.stop = weakref.finalize(self, _end, thread, self._free, ending)
        thread.start()

    def take(self) -> Packed:
        if self._error is None:
            item = self._ready.get()
            if not isinstance(item, BaseException):
                self._free.release()
                return item
            self._error = item
        raise self._error


def _fill(
    made: Iterator[Packed],
    ready: "queue.SimpleQueue[Packed | BaseException]",
    free: threading.Semaphore,
    ending: threading.Event,
) -> None:
    try:
        while True:
            free.acquire()
            if ending.is_set():
                return
            ready.put(next(made))
    except BaseException as error:  # raised by `take`
        ready.put(error)


def _end(thread: threading.Thread, free: threading.Semaphore, ending: threading.Event) -> None:
    ending.set()
    free.release()
    thread.join(_LAST_READ_SECONDS)
