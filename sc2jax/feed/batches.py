"""Training batches: prepared in the background, and resumed exactly."""

import dataclasses
import hashlib
import itertools
import queue
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.mixtures import only, read_mixture
from sc2jax.feed.packing import FEATURES
from sc2jax.feed.rows import Rows
from sc2jax.feed.sources import FeedInputs, open_sources
from sc2jax.feed.statistics import summarize
from sc2jax.feed.streams import Source, Stream
from sc2jax.records.manifest import canonical_json
from sc2jax.settings import decisive

HostBatch = dict[str, np.ndarray]


def open_batches(
    inputs: FeedInputs, batch_size: int, *, rows: Sequence[int] | None = None, source: str = ""
) -> "Batches":
    """Endless batches of `batch_size` rows from the training split of a curated corpus.

    Each row has `config.streams_per_row` virtual streams of its own, which it reads in turn: row r reads stream
    r + i * batch_size for batch i, then starts over. A process that reads only some of the `rows` gets them as they are
    in the whole batch. With a `source`, only that one is read.

    Raises:
        UserError: the corpus or the mixture cannot be used.
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} rows is empty; use 1 or more")
    rows = range(batch_size) if rows is None else rows
    if not rows or not all(0 <= row < batch_size for row in rows):
        raise ValueError(f"rows {list(rows)} are not rows of a batch of {batch_size}")
    mixture = read_mixture(inputs.config.mixture)
    mixture = only(mixture, source) if source else mixture
    sources = open_sources(inputs, mixture)
    identity = {
        "mixture": [dataclasses.asdict(share) for share in mixture],
        "corpus": [[source.digest, len(source.documents)] for source in sources],
        "tokenizer": inputs.tokenizer.digest,
        "config": decisive(inputs.config),
        "row_length": inputs.row_length,
        "format": dataclasses.asdict(inputs.formats),
        "fim": dataclasses.asdict(inputs.fim),
        "batch_size": batch_size,
        "seed": inputs.seed,
    }
    producer = _Producer(sources, inputs, batch_size, rows)
    return Batches(producer, sources, batch_size, inputs.config.prefetch, _fingerprint(identity))


class Batches:
    """An endless iterator of batches: for each name of `FEATURES` an array of (rows, row_length).

    `wait_seconds` is how long the caller waited for the last batch. Use as a context manager, or call `close`.
    """

    def __init__(
        self, producer: "_Producer", sources: Sequence[Source], batch_size: int, prefetch: int, fingerprint: int
    ) -> None:
        self._producer = producer
        self._sources = sources
        self._batch_size = batch_size
        self._prefetch = prefetch
        self._fingerprint = fingerprint
        self._positions = producer.positions()
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
            self._background = _Background(self._producer, self._prefetch)
        batch, self._positions = self._background.take()
        self.wait_seconds = time.perf_counter() - started
        return batch

    def state(self) -> np.ndarray:
        """The position after the last batch returned: int64 (batch_size, fields), zero in rows that are not read here.

        The element-wise maximum over all processes is the state of the whole feed.
        """
        state = np.zeros((self._batch_size, 1 + len(self._positions[0])), np.int64)
        for row, position in zip(self._producer.rows, self._positions, strict=True):
            state[row] = [self._fingerprint, *position]
        return state

    def statistics(self, state: np.ndarray) -> dict[str, Any]:
        """What was read and lost by all processes, up to a state of the whole feed."""
        return summarize(state, self._sources)

    def restore(self, state: np.ndarray) -> None:
        """Continues after the batch at which `state` was taken, whichever process read which rows.

        Raises:
            UserError: the state belongs to another corpus, tokenizer, seed, batch or config.
        """
        rows = self._producer.rows
        expected = (self._batch_size, 1 + len(self._positions[0]))
        if state.shape != expected or (state[rows, 0] != self._fingerprint).any():
            raise UserError(
                "the checkpoint's place in the training data is that of another corpus, tokenizer, mixture, seed, "
                "batch size or feed, format and fim config; go on with those of the run, or start a new one in another "
                "folder"
            )
        self._stop()
        self._producer.seek(state[rows, 1:])
        self._positions = self._producer.positions()

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


class _Producer:
    """Makes batches one after the other; each of its `rows` reads its streams in turn."""

    def __init__(self, sources: Sequence[Source], inputs: FeedInputs, batch_size: int, rows: Sequence[int]) -> None:
        self.rows = list(rows)
        config = inputs.config
        count = batch_size * config.streams_per_row

        def create(stream: int) -> Rows:
            cut = config.long_documents == "cut"
            windows = Stream(sources, stream, count, inputs.seed, inputs.row_length, cut_documents=cut)
            return Rows(windows, inputs.tokenizer, config, inputs.fim, inputs.seed)

        self._streams = [[create(stream) for stream in range(row, count, batch_size)] for row in rows]
        self._batches = 0

    def produce(self) -> HostBatch:
        turn = self._batches % len(self._streams[0])
        rows = [of_row[turn].next_row() for of_row in self._streams]
        self._batches += 1
        return {name: np.stack([row[name] for row in rows]) for name in FEATURES}

    def positions(self) -> list[list[int]]:
        """For each row, the number of batches made so far and the positions of its streams."""
        return [
            [self._batches, *itertools.chain.from_iterable(stream.position() for stream in of_row)]
            for of_row in self._streams
        ]

    def seek(self, positions: np.ndarray) -> None:
        for of_row, (batches, *position) in zip(self._streams, positions.tolist(), strict=True):
            self._batches = batches
            size = len(position) // len(of_row)
            for index, stream in enumerate(of_row):
                stream.seek(position[index * size : (index + 1) * size])


class _Background:
    """A thread that keeps `depth` batches ready; if it fails, its exception is raised in place of a batch.

    The thread ends when this object is stopped or no longer referenced, and at the end of the program.
    """

    def __init__(self, producer: _Producer, depth: int) -> None:
        self._ready: queue.SimpleQueue[tuple[HostBatch, list[list[int]]] | BaseException] = queue.SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._error: BaseException | None = None
        ending = threading.Event()
        thread = threading.Thread(
            target=_fill, args=(producer, self._ready, self._free, ending), name="sc2jax-feed", daemon=True
        )
        self.stop = weakref.finalize(self, _end, thread, self._free, ending)
        thread.start()

    def take(self) -> tuple[HostBatch, list[list[int]]]:
        if self._error is None:
            item = self._ready.get()
            if not isinstance(item, BaseException):
                self._free.release()
                return item
            self._error = item
        raise self._error


def _fill(
    producer: _Producer,
    ready: "queue.SimpleQueue[tuple[HostBatch, list[list[int]]] | BaseException]",
    free: threading.Semaphore,
    ending: threading.Event,
) -> None:
    try:
        while True:
            free.acquire()
            if ending.is_set():
                return
            ready.put((producer.produce(), producer.positions()))
    except BaseException as error:  # raised by `take`
        ready.put(error)


def _end(thread: threading.Thread, free: threading.Semaphore, ending: threading.Event) -> None:
    ending.set()
    free.release()
    thread.join()


def _fingerprint(identity: Mapping[str, object]) -> int:
    """62 bits that tell feeds apart; never 0, which marks a row that is not read here."""
    digest = hashlib.sha256(canonical_json(identity).encode()).digest()
    return 1 + int.from_bytes(digest[:8], "little") % (2**62)
