"""Training rows, each a function of its number: the same on any number of hosts, in any order, after any restart.

Row n belongs to the source whose turn it is (`schedule.py`); j rows of that source came before. The source's tokens lie
flat (`flat_tokens.py`) and are cut into windows of a row's length, W to an epoch, at edges that a draw shifts in every
epoch; so j tells the epoch, and a keyed permutation of its windows tells the window. Every window of an epoch is read
once before any is read again, and less than a row of an epoch is left over.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.feed.flat_tokens import DamagedTokensError, FlatTokens, Window, damaged_tokens
from sc2jax.feed.keyed_random import KeyedPermutation, keyed_generator
from sc2jax.feed.mixtures import SourceShare, only, read_mixture
from sc2jax.feed.packing import pack_rows
from sc2jax.feed.schedule import ENDLESS, Schedule
from sc2jax.feed.sources import FeedInputs, refuse_other_tokens, tokens_of_sources
from sc2jax.feed.units import report_skipped
from sc2jax.records.manifest import read_manifest
from sc2jax.storage import join
from sc2jax.text.fim import TransformedWindow, transform_window
from sc2jax.text.formats import is_infilled

COUNTS = ("cut_tokens", "padding", "replaced_characters", "damaged_rows", "text_bytes")
"""What is counted of rows: tokens that infilling at context level pushed or left out of them, padding in those that it
made shorter, characters that a window's edge had split, rows left empty because their tokens are damaged, and the bytes
of the text of the targets that count, which special tokens have none of."""


class Place(NamedTuple):
    """Where the tokens of a row lie: the source by its number, and a window of one of its epochs."""

    source: int
    epoch: int
    window: int
    rendering: int
    start: int  # the token of the rendering that the window begins with


class Packed(NamedTuple):
    """Rows: their features (`packing.FEATURES`), each (rows, row_length), and their counts (rows, `COUNTS`), int64."""

    features: dict[str, np.ndarray]
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class RowSource:
    """A source of rows: its renderings, and how they are cut.

    Epoch e reads rendering e modulo their number.
    """

    share: SourceShare
    renderings: Sequence[FlatTokens]
    row_length: int
    seed: int

    @functools.cached_property
    def windows(self) -> list[int]:
        """How many each rendering has: what is left over is less than one."""
        return [len(tokens) // self.row_length for tokens in self.renderings]

    def first_row(self, epoch: int) -> int:
        """How many rows of the source come before an epoch."""
        cycles, rest = divmod(epoch, len(self.windows))
        return cycles * sum(self.windows) + sum(self.windows[:rest])

    @property
    def limit(self) -> int:
        """How many rows it gives at most."""
        return self.first_row(self.share.max_epochs) if self.share.max_epochs else ENDLESS

    def epoch(self, row: int) -> int:
        """The epoch that a row of the source is in."""
        cycles, rest = divmod(row, sum(self.windows))
        epoch = cycles * len(self.windows)
        while self.first_row(epoch + 1) - self.first_row(cycles * len(self.windows)) <= rest:
            epoch += 1
        return epoch

    def epochs(self, rows: int) -> float:
        """How many epochs the first rows of the source are."""
        epoch = self.epoch(rows)
        return epoch + (rows - self.first_row(epoch)) / self.windows[epoch % len(self.windows)]

    def places(self, number: int, rows: np.ndarray) -> list[Place]:
        """Where rows of the source, by their ascending numbers among its own, lie; `number` is the source's."""
        places: list[Place] = []
        while len(rows):
            epoch = self.epoch(int(rows[0]))
            here = rows[: np.searchsorted(rows, self.first_row(epoch + 1))]
            rendering = epoch % len(self.renderings)
            windows = self._permutation(epoch)[here - self.first_row(epoch)]
            size, shift = len(self.renderings[rendering]), self._shift(epoch)
            starts = (shift + windows * self.row_length) % size
            places += [
                Place(number, epoch, window, rendering, start)
                for window, start in zip(windows.tolist(), starts.tolist(), strict=True)
            ]
            rows = rows[len(here) :]
        return places

    def _permutation(self, epoch: int) -> KeyedPermutation:
        windows = self.windows[epoch % len(self.windows)]
        return KeyedPermutation(windows, "windows", self.seed, self.share.name, epoch)

    def _shift(self, epoch: int) -> int:
        size = len(self.renderings[epoch % len(self.renderings)])
        return int(keyed_generator("shift", self.seed, self.share.name, epoch).integers(size))


class Rows:
    """All rows of a run.

    Args:
        inputs: what they follow from.
        source: the only source of the mixture to read; "" for all of them.
        most_epochs: how often a source is read at most, beside its own cap in the mixture; 0 for no limit.

    Raises:
        UserError: the tokens are missing, damaged or too few for a row.
    """

    def __init__(self, inputs: FeedInputs, source: str = "", most_epochs: int = 0) -> None:
        mixture = read_mixture(inputs.config.mixture)
        mixture = only(mixture, source) if source else mixture
        if most_epochs:
            mixture = [
                dataclasses.replace(share, max_epochs=min(share.max_epochs or most_epochs, most_epochs))
                for share in mixture
            ]
        self._inputs = inputs
        self._reported: set[int] = set()
        self._token_bytes = inputs.tokenizer.sizes()
        self.sources = _open_sources(inputs, mixture)
        shares = [source.share.share for source in self.sources]
        self.schedule = Schedule(shares, [source.limit for source in self.sources])

    def places(self, start: int, stop: int, chosen: np.ndarray | None = None) -> list[Place]:
        """Where the rows from `start` to `stop` lie, or of these only those `chosen` by their places among them.

        Raises:
            UserError: every source was read as often as it may be before that.
        """
        if stop > self.schedule.rows:
            raise UserError(exhausted(self.sources, self.schedule.rows))
        sources, rows = self.schedule.sequence(start, stop)
        if chosen is not None:
            sources, rows = sources[chosen], rows[chosen]
        places: list[Place | None] = [None] * len(rows)
        for number, source in enumerate(self.sources):
            of_source = np.flatnonzero(sources == number)
            of_source = of_source[np.argsort(rows[of_source], kind="stable")]  # they may be chosen in any order
            for index, place in zip(of_source.tolist(), source.places(number, rows[of_source]), strict=True):
                places[index] = place
        return [place for place in places if place is not None]

    def read(self, places: Sequence[Place]) -> Packed:
        """Reads rows, all at once.

        Raises:
            UserError: their tokens cannot be read, or are damaged and such rows are not to be left empty.
        """
        length = self._inputs.row_length
        with ts.Batch() as batch:
            arriving = [
                # The last token of a window is only a target.
                self.sources[place.source].renderings[place.rendering].request(place.start, length + 1, batch)
                for place in places
            ]
        windows, counts = [], np.zeros((len(places), len(COUNTS)), np.int64)
        for place, window, of_row in zip(places, arriving, counts, strict=True):
            windows.append(self._window(place, window, of_row))
        features = pack_rows(windows, length, self._inputs.config.cross_document_attention)
        sizes = np.where(features["weights"], self._token_bytes[features["targets"]], 0)
        counts[:, COUNTS.index("text_bytes")] = sizes.sum(axis=1)
        return Packed(features, counts)

    def _window(self, place: Place, arriving: Window, counts: np.ndarray) -> np.ndarray:
        """The tokens of a row, of which there are none if they are damaged; counts in `counts`."""
        try:
            window = arriving.result()
        except DamagedTokensError as error:
            if not self._inputs.skip_damaged:
                raise
            self._report(place.source, error)
            counts[COUNTS.index("damaged_rows")] = 1
            return np.empty(0, np.int32)
        share = self.sources[place.source].share
        if window.max() >= self._inputs.tokenizer.vocab_size:
            raise UserError(
                f"{self._inputs.tokens}: {share.name} has a token {window.max()}, beyond the tokenizer's vocabulary of "
                f"{self._inputs.tokenizer.vocab_size}; delete the folder and run `sc2jax tokenize` again"
            )
        infilled = infill(self._inputs, share, place.epoch, place.window, window)
        longer = len(infilled.ids) - len(window)
        counts[:3] = infilled.given_up + max(0, longer), max(0, -longer), infilled.replaced
        return infilled.ids

    def _report(self, source: int, error: DamagedTokensError) -> None:
        """Says of a source's first damaged row what is wrong; how many there are stands in the metrics."""
        if source not in self._reported:
            self._reported.add(source)
            report_skipped(error)

    def statistics(self, rows: int) -> dict[str, Any]:
        """What the first `rows` rows of the run are of each source, rows that damage left empty among them.

        `distinct_tokens` are those that were there at least once, to a row: the same text in another rendering is not
        counted again.
        """
        length = self._inputs.row_length
        return {
            source.share.name: {
                "rows": count,
                "tokens": count * length,
                "share": round(count / max(rows, 1), 6),
                "epochs": round(source.epochs(count), 6),
                "distinct_tokens": min(count, source.windows[0]) * length,
            }
            for source, count in zip(self.sources, self.schedule.counts(rows), strict=True)
        }


def infill(inputs: FeedInputs, share: SourceShare, epoch: int, number: int, window: np.ndarray) -> TransformedWindow:
    """A window with infilling at context level, if its source takes part in that.

    Args:
        inputs: say how.
        share: the source that the tokens are from.
        epoch: of the source; with the window's `number` the key of the infilling.
        number: of the window in its epoch.
        window: the row's tokens and the one after them (row_length + 1,).
    """
    if inputs.fim.level != "context" or not is_infilled(share.format, inputs.fim):
        return TransformedWindow(window)
    generator = keyed_generator("window", inputs.seed, share.name, epoch, number)
    return transform_window(window, inputs.tokenizer, inputs.fim, generator)


def _open_sources(inputs: FeedInputs, mixture: Sequence[SourceShare]) -> list[RowSource]:
    if inputs.row_length < 1:
        raise UserError(f"a row of {inputs.row_length} tokens is none; use 1 or more")
    manifest = read_manifest(inputs.tokens)
    refuse_other_tokens(inputs, mixture, manifest)
    made = tokens_of_sources(inputs.tokens, manifest)
    for share in mixture:
        if share.name not in made:
            raise UserError(f"{inputs.tokens} holds no tokens of the source {share.name}; run `sc2jax tokenize` again")
    if not inputs.skip_damaged:
        sizes = storage.sizes_below(inputs.tokens)
        for output in manifest.outputs:
            if output.rows and sizes.get(output.path) != output.bytes:
                found = (
                    f"{sizes[output.path]:,} bytes instead of {output.bytes:,}" if output.path in sizes else "no file"
                )
                raise damaged_tokens(join(inputs.tokens, output.path), found)
    vocab_size, length = inputs.tokenizer.vocab_size, inputs.row_length
    opened = []
    for share in mixture:
        renderings = [
            FlatTokens(inputs.tokens, manifest, share.name, rendering, vocab_size)
            for rendering in range(len(made[share.name]["tokens"]))
        ]
        short = min(map(len, renderings))
        if short < length:
            raise UserError(
                f"the source {share.name} has {short:,} tokens, fewer than a row of {length:,}; use a smaller "
                "model.context_length, add to the corpus, or leave it out of the mixture"
            )
        opened.append(RowSource(share, renderings, length, inputs.seed))
    return opened


def exhausted(sources: Sequence[RowSource], rows: int) -> str:
    """What is said where more rows are asked for than the caps of a mixture allow."""
    often = ", ".join(f"{source.share.name} {source.share.max_epochs} times" for source in sources)
    return (
        f"there are {rows:,} rows to train on and no more: {often} is as often as the mixture lets sources be read; "
        "raise max_epochs there (0: without end), train for fewer steps, or add to the corpus"
    )
