"""Bands: which signatures make two files candidates (StarCoder2 paper, section 3).

Two files are candidates when they agree in a whole band of their signatures; with 25 bands of 10 rows that happens to
half of the pairs with a Jaccard similarity of 0.7 and to 19 of 20 at 0.8.
"""

import functools

import numpy as np
import scipy.integrate

from sc2jax.corpus.dedup.signatures import MIX, scramble

_HASHED_ROWS = 1024
"""Signatures that are hashed at a time, so that they stay in a core's cache."""


@functools.cache
def optimal_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """The bands and rows that miss least above the threshold and find least below it, both weighed alike.

    Both are areas over or under the curve 1 - (1 - s**rows)**bands, the chance that a pair of similarity s is found.
    """
    best = (np.inf, 1, 1)
    for bands in range(1, permutations + 1):
        for rows in range(1, permutations // bands + 1):
            below = _area(lambda s, b=bands, r=rows: 1 - (1 - s**r) ** b, 0.0, threshold)
            above = _area(lambda s, b=bands, r=rows: (1 - s**r) ** b, threshold, 1.0)
            best = min(best, (below + above, bands, rows))
    return best[1], best[2]


def band_hashes(signatures: np.ndarray, bands: int, rows: int, among: np.ndarray | None = None) -> np.ndarray:
    """A 64-bit key for each band of each signature, (bands, texts): equal for equal rows of the same band.

    Those of other rows are equal once in 2**33 times at most (multilinear hashing: Carter and Wegman 1979, with odd
    factors that are drawn by chance).

    Args:
        signatures: (texts, permutations) of uint32, of which the first bands * rows are used.
        bands: how many.
        rows: permutations in each.
        among: a 64-bit number for each text; only where it is equal are keys.
    """
    used = bands * rows
    factors = scramble(np.arange(1, used + 1, dtype=np.uint64) * MIX) | np.uint64(1)
    salts = np.arange(bands, dtype=np.uint64)[:, None] * MIX
    found = np.empty((bands, len(signatures)), np.uint64)
    for start in range(0, len(signatures), _HASHED_ROWS):
        words = np.ascontiguousarray(signatures[start : start + _HASHED_ROWS, :used].T, np.uint64)
        words *= factors[:, None]
        keys = words.reshape(bands, rows, -1).sum(axis=1)
        keys += salts
        if among is not None:
            keys ^= scramble(among[start : start + _HASHED_ROWS])
        found[:, start : start + _HASHED_ROWS] = scramble(keys)
    return found


def _area(curve, low: float, high: float) -> float:
    points = np.linspace(low, high, 257)
    return float(scipy.integrate.simpson(curve(points), x=points))
