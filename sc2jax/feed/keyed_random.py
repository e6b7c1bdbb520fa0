"""Random numbers that depend on nothing but their key: the same on any machine, in any order, after any restart."""

import hashlib
from collections.abc import Iterator

import numpy as np

_ROUNDS = 90


def keyed_generator(purpose: str, *key: int | str) -> np.random.Generator:
    """A counter-based generator for one decision, such as ("files", seed, epoch, repository).

    The numbers of different keys are independent, so no decision shifts those after it.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(purpose, *key), "little")))


def keyed_fraction(purpose: str, *key: int | str) -> float:
    """One random number in [0, 1), in a tenth of the time that a generator takes."""
    return (int.from_bytes(_digest(purpose, *key)[:8], "little") >> 11) / 2**53


class KeyedPermutation:
    """A random permutation of range(size) whose elements are computed on demand.

    A corpus may have too many units to keep a permutation of them in memory, and a restored run needs only one element
    of it. This is the swap-or-not shuffle (Hoang, Morris and Rogaway, "An Enciphering Scheme Based on a Card Shuffle",
    2012), with as many rounds as Ethereum takes to shuffle its validators: each round pairs every x with K - x for a K
    of its own, and a hash of the pair decides whether the two swap places.
    """

    def __init__(self, size: int, purpose: str, *key: int | str) -> None:
        self._size = size
        generator = keyed_generator(purpose, *key)
        self._hash_key = generator.bytes(16)
        self._sums = generator.integers(0, size, _ROUNDS).tolist()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return (self[index] for index in range(self._size))

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self._size:
            raise IndexError(f"{index} is not in a permutation of {self._size}")
        for number, total in enumerate(self._sums):
            partner = (total - index) % self._size
            pair = b"%d %d" % (number, max(index, partner))
            if hashlib.blake2b(pair, digest_size=1, key=self._hash_key).digest()[0] & 1:
                index = partner
        return index


def _digest(purpose: str, *key: int | str) -> bytes:
    return hashlib.blake2b(repr((purpose, *key)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
