"""MinHash signatures of texts, from which the similarity of two files is estimated (StarCoder2 paper, section 3)."""

import functools

import numpy as np
import rensa

from sc2jax.corpus.texts import character_table

MIX = np.uint64(0x9E3779B97F4A7C15)
_BASE = 0xD1342543DE82EF95  # odd, so that its powers have inverses modulo 2**64
_STEP = 0x2545F4914F6CDD1D
_MODULUS = 1 << 64
_sign = rensa.RMinHash.digest_matrix_from_flat_token_hashes  # pyright: ignore[reportAttributeAccessIssue]


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
    return scramble(grams), offsets


def _token_hashes(codes: np.ndarray, begins: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Polynomial hashes of `codes[begins[i]:stops[i]]` from one running sum, modulo 2**64."""
    powers, inverses = _powers(max(1 << 21, 1 << len(codes).bit_length()))
    terms = scramble(codes.astype(np.uint64) + MIX)
    terms *= powers[: len(codes)]
    total = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(terms, out=total[1:])
    return scramble((total[stops] - total[begins]) * inverses[begins])


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the base, and of its inverse, modulo 2**64."""
    pair = []
    for base in (_BASE, pow(_BASE, -1, _MODULUS)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        pair.append(np.multiply.accumulate(factors))
    return pair[0], pair[1]


def scramble(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit integers in which every bit depends on every other (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _is_word(character: str) -> bool:
    r"""What `\w` matches."""
    return character.isalnum() or character == "_"
