"""Random numbers that depend on nothing but their key: the same on any machine, in any order, after any restart."""

import hashlib
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

_ROUNDS = 90
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""The multipliers of SplitMix64's finalizer (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
2014)."""


def keyed_generator(purpose: str, *key: int | str) -> np.random.Generator:
    """A counter-based generator for one decision, such as ("files", seed, epoch, repository).

    The numbers of different keys are independent, so no decision shifts those after it.
    """
    return np.random.Generator(np.random.Philox(_PhiloxKey(_digest(purpose, *key))))  # pyright: ignore[reportArgumentType] (numpy's stub)


class _PhiloxKey(ISeedSequence):
    """The key of a Philox generator as numpy asks for it; given as `key`, numpy first asks the system for entropy."""

    def __init__(self, digest: bytes) -> None:
        self._words = np.frombuffer(digest, "<u8")

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:  # noqa: ARG002 (always two, 64 bits)
        return self._words


class KeyedPermutation:
    """A random permutation of range(size) whose elements are computed on demand, many at a time.

    A source may have too many windows to keep a permutation of them in memory, and a restored run needs only the next
    elements of it. This is the swap-or-not shuffle (Hoang, Morris and Rogaway, "An Enciphering Scheme Based on a Card
    Shuffle", 2012), with as many rounds as Ethereum takes to shuffle its validators: each round pairs every x with
    K - x for a K of its own, and a hash of the pair decides whether the two swap places.
    """

    def __init__(self, size: int, purpose: str, *key: int | str) -> None:
        self._size = size
        generator = keyed_generator(purpose, *key)
        self._sums = generator.integers(0, size, _ROUNDS).tolist()
        self._keys = generator.integers(0, 2**64, _ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The elements at `indices`, int64.

        Raises:
            IndexError: an index is not below the size.
        """
        elements = np.asarray(indices, np.int64)
        if elements.size and not 0 <= elements.min() <= elements.max() < self._size:
            raise IndexError(f"{elements[(elements < 0) | (elements >= self._size)][0]} is not below {self._size}")
        for total, key in zip(self._sums, self._keys, strict=True):
            partners = total - elements
            partners += (partners < 0) * self._size
            hashed = np.maximum(elements, partners).astype(np.uint64) ^ key
            for shift, factor in zip((30, 27), _MIX, strict=True):
                hashed = (hashed ^ (hashed >> np.uint64(shift))) * factor
            elements = np.where(hashed >> np.uint64(63), partners, elements)
        return elements


def _digest(purpose: str, *key: int | str) -> bytes:
    return hashlib.blake2b(repr((purpose, *key)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
