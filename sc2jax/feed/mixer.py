"""The mixer: from which source of a mixture each window of each stream is filled, so that shares of tokens hold.

All windows have the same length, so shares of windows are shares of tokens, however much documents differ in length,
and a source is at any time about one window from its share, not one document a stream. Windows of one source each are
how StarCoder2's training mixed (Megatron-LM's blended data set). The turn of a window follows from its number alone: it
is the same on any number of hosts, and there is nothing to save.
"""

import functools
from collections.abc import Sequence

import numpy as np

from sc2jax.feed.keyed_random import keyed_fraction


def scheduled_source(shares: tuple[float, ...], streams: int, seed: int, stream: int, window: int) -> int:
    """The source of a stream's window, by its place in `shares`, of which only proportions count.

    Window w of all streams is round w, and the rounds follow one another in one sequence of turns. Who has which turn
    of a round is rotated by chance: were it always the same, and the shares a half each, every other stream would never
    see the first source, nor read its part of it.
    """
    first, turns = _round(shares, streams, seed, window)
    return int(turns[(stream + first) % streams])


def turns_between(shares: Sequence[float], start: int, stop: int) -> np.ndarray:
    """The sources of the turns `start` to `stop` of the sequence.

    Turn j of a source with share s, counted from 0, is due at time (j + 1/2) / s, and turns are taken as they are due:
    that is the divisor method of Sainte-Lague and Webster, which gives n seats to parties as this does the first n
    turns to sources. At any time a source is at most half a turn off from its share of the time that has passed, and
    the number of turns is at most half the number of sources off from that time. So what was due much earlier need not
    be looked at, and any part of the sequence is worked out by itself.
    """
    proportions = np.asarray(shares, np.float64) / np.sum(shares)
    sources = len(proportions)
    past = np.maximum(0, np.floor(start * proportions) - sources).astype(np.int64)
    ahead = np.where(proportions > 0, np.ceil((stop - start) * proportions) + 3 * sources, 0).astype(np.int64)
    source = np.repeat(np.arange(sources), ahead)
    turn = np.concatenate([first + np.arange(count) for first, count in zip(past, ahead, strict=True)])
    order = np.lexsort((source, (turn + 0.5) / proportions[source]))
    return source[order][start - past.sum() : stop - past.sum()]


@functools.lru_cache(maxsize=64)
def _round(shares: tuple[float, ...], streams: int, seed: int, window: int) -> tuple[int, np.ndarray]:
    """Which turn of a round is that of stream 0, and the round's turns."""
    first = int(keyed_fraction("turns", seed, window) * streams)
    return first, turns_between(shares, window * streams, (window + 1) * streams)
