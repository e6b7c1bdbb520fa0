"""Near-deduplication: MinHash signatures, bands, connected components (StarCoder2 paper, section 3).

Two files count as near-duplicates when they agree in a whole band of their signatures; with 25 bands of 10 rows that
happens to half of the pairs with a Jaccard similarity of 0.7 and to 19 of 20 at 0.8. As in the paper's code candidates
are not verified, and all files that are joined by a chain of candidates form one group, of which one is kept.
"""

import functools

import numpy as np
import rensa
import scipy.integrate
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from sc2jax.corpus.texts import character_table

_MIX = np.uint64(0x9E3779B97F4A7C15)
_BASE = 0xD1342543DE82EF95  # odd, so that its powers have inverses modulo 2**64
_STEP = 0x2545F4914F6CDD1D
_MODULUS = 1 << 64
_sign = rensa.RMinHash.digest_matrix_from_flat_token_hashes  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def optimal_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows that weigh missed pairs above the threshold and chance pairs below it alike, and least.

    Both are areas under or over the curve 1 - (1 - s**rows)**bands, the chance that a pair of similarity s is found.
    """
    best = (np.inf, 1, 1)
    for bands in range(1, permutations + 1):
        for rows in range(1, permutations // bands + 1):
            below = _area(lambda s, b=bands, r=rows: 1 - (1 - s**r) ** b, 0.0, threshold)
            above = _area(lambda s, b=bands, r=rows: (1 - s**r) ** b, threshold, 1.0)
            best = min(best, (below + above, bands, rows))
    return best[1], best[2]


def signatures(texts: list[str], ngram: int, permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """MinHash signatures of the texts that have n-grams.

    The paper's code gives all texts of fewer than `ngram` tokens one signature, so that a single such file survives
    per language. Here they have none and are never near-duplicates; exact deduplication alone decides on them.

    Returns:
        The rows of `texts` that have a signature, and these, (rows, permutations) of uint32.
    """
    hashes, offsets = ngram_hashes(texts, ngram)
    rows = np.flatnonzero(np.diff(offsets) > 0)
    if not len(rows):
        return rows, np.zeros((0, permutations), np.uint32)
    bounds = np.append(offsets[rows], offsets[-1]).astype(np.uint64)
    matrix = _sign(hashes, bounds, permutations, seed)
    return rows, np.asarray(matrix.to_rows(), np.uint32)


def ngram_hashes(texts: list[str], ngram: int) -> tuple[np.ndarray, np.ndarray]:
    r"""64-bit hashes of the n-grams of the lower-cased texts' tokens, `re.split(r"\W", text)`, in one flat array.

    As in the paper's code two non-word characters in a row have an empty token between them, so that indentation
    counts. Hashes depend on the n-gram alone, not on where it stands nor on what it was batched with.

    Returns:
        The hashes, and for text i their range, `offsets[i]` to `offsets[i + 1]`.
    """
    if not texts:
        return np.zeros(0, np.uint64), np.zeros(1, np.int64)
    lowered = [text.lower() for text in texts]
    codes = np.frombuffer("\n".join([*lowered, ""]).encode("utf-32-le"), np.uint32)
    is_word = character_table(_is_word)[codes]
    stops = np.flatnonzero(~is_word)  # every text ends with a separator, so a token stops at each of them
    begins = np.concatenate([[0], stops[:-1] + 1])
    tokens = _token_hashes(codes, begins, stops)
    text_stops = np.cumsum([len(text) + 1 for text in lowered]) - 1
    token_ends = np.searchsorted(stops, text_stops) + 1
    counts = np.diff(np.concatenate([[0], token_ends]))
    gram_counts = np.maximum(counts - ngram + 1, 0)
    offsets = np.concatenate([[0], np.cumsum(gram_counts)])
    firsts = np.arange(offsets[-1]) + np.repeat(token_ends - counts - offsets[:-1], gram_counts)
    grams = np.zeros(len(firsts), np.uint64)
    for place in range(ngram):
        grams += tokens[firsts + place] * np.uint64(pow(_STEP, place, _MODULUS))
    return _scramble(grams), offsets


def band_keys(bands: np.ndarray) -> np.ndarray:
    """A 64-bit key for each row of (texts, rows) of uint32: equal rows have equal keys, others practically never."""
    keys = np.zeros(len(bands), np.uint64)
    for column in range(bands.shape[1]):
        keys = _scramble((keys + bands[:, column]) * _MIX + np.uint64(1))
    return keys


class Groups:
    """Joins texts that share a band, band by band, and finds the groups that they form."""

    def __init__(self, size: int):
        self._size = size
        self._edges: list[np.ndarray] = []

    def add_band(self, keys: np.ndarray) -> None:
        """Joins all texts with equal keys."""
        order = np.argsort(keys, kind="stable")
        opens = np.ones(len(order), bool)
        opens[1:] = keys[order][1:] != keys[order][:-1]
        heads = order[np.flatnonzero(opens)][np.cumsum(opens) - 1]
        self._edges.append(np.stack([heads[~opens], order[~opens]]))

    def representatives(self, ranks: np.ndarray) -> np.ndarray:
        """For each text the one that is kept in its place: the first of the lowest rank in its group."""
        edges = np.concatenate([np.zeros((2, 0), np.int64), *self._edges], axis=1)
        ones = np.ones(edges.shape[1], np.int8)
        graph = scipy.sparse.coo_matrix((ones, (edges[0], edges[1])), shape=(self._size, self._size)).tocsr()
        _, labels = connected_components(graph, directed=False)
        order = np.lexsort((np.arange(self._size), ranks, labels))
        first = np.ones(self._size, bool)
        first[1:] = labels[order][1:] != labels[order][:-1]
        kept = np.empty(self._size, np.int64)
        kept[order] = order[np.flatnonzero(first)][np.cumsum(first) - 1]
        return kept


def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of signatures, row by row: the share of permutations in which they agree."""
    return (left == right).mean(axis=1)


def _token_hashes(codes: np.ndarray, begins: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Polynomial hashes of `codes[begins[i]:stops[i]]` from one running sum, modulo 2**64."""
    powers, inverses = _powers(max(1 << 21, 1 << len(codes).bit_length()))
    terms = _scramble(codes.astype(np.uint64) + _MIX)
    terms *= powers[: len(codes)]
    total = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(terms, out=total[1:])
    return _scramble((total[stops] - total[begins]) * inverses[begins])


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the base, and of its inverse, modulo 2**64."""
    pair = []
    for base in (_BASE, pow(_BASE, -1, _MODULUS)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        pair.append(np.multiply.accumulate(factors))
    return pair[0], pair[1]


def _scramble(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit integers in which every bit depends on every other (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _area(curve, low: float, high: float) -> float:
    points = np.linspace(low, high, 257)
    return float(scipy.integrate.simpson(curve(points), x=points))


def _is_word(character: str) -> bool:
    r"""What `\w` matches."""
    return character.isalnum() or character == "_"
