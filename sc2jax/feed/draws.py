"""Random draws that depend on nothing but their key: the same on any machine, in any order, after any restart."""

import hashlib

import numpy as np


def keyed_generator(purpose: str, *key: int | str) -> np.random.Generator:
    """A counter-based generator for one decision, such as ("files", seed, epoch, repository).

    Draws of different keys are independent, so that no decision shifts those after it.
    """
    digest = hashlib.blake2b(repr((purpose, *key)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
