"""The mixer: which source of a mixture fills each window of each stream, so that every source has its share of tokens.

All windows have the same length, so shares of windows are shares of tokens, however much documents differ in length. At
any time a source is about one window away from its share, rather than one document per stream. StarCoder2's training
mixed in the same way, with one source per window (Megatron-LM's blended data set). Which source fills a window follows
from the window's number alone: it is the same on any number of hosts, and there is nothing to save.
"""

import functools
from collections.abc import Sequence

import numpy as np

from sc2jax.feed.keyed_random import keyed_fraction


def scheduled_source(shares: tuple[float, ...], streams: int, seed: int, stream: int, window: int) -> int:
    """The source that fills a stream's window, as an index into `shares`; only their proportions matter.

    Round w is window w of every stream, with one turn per stream, and the rounds follow each other in one sequence of
    turns. A random number decides at which turn of a round stream 0 starts. If that were fixed, then with two equal
    shares every other stream would never see the first source, and its part of that source would never be read.
    """
    first, turns = _round(shares, streams, seed, window)
    return int(turns[(stream + first) % streams])


def turns_between(shares: Sequence[float], start: int, stop: int) -> np.ndarray:
    """The sources that have the turns `start` to `stop` of the sequence.

    Turn j, from 0, of a source with share s is due at time (j + 1/2) / s, and turns are taken in the order of these
    times. This is the divisor method of Sainte-Laguë and Webster, which gives n seats to parties as this gives the
    first n turns to sources. At any time a source is at most half a turn away from its share of the elapsed time, and
    the number of turns taken is at most half the number of sources away from that time. So turns that were due much
    earlier need no look, and any part of the sequence can be computed on its own.
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
    """The turn of a round that stream 0 has, and the sources of the round's turns."""
    first = int(keyed_fraction("turns", seed, window) * streams)
    return first, turns_between(shares, window * streams, (window + 1) * streams)
