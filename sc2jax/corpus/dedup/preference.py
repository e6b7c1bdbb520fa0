# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Preference: which of several equal or similar files is kept, as one number each, the lowest first.

What a licence amounts to comes first, as each deduplication sees it; then the place of the repository among all
(`stages/places.py`), and the place of the file in it. Exact deduplication asks whether GHArchive calls the repository's
licence permissive, near-deduplication for the type of the file's own (bigcode-project/the-stack-v2).
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import LICENSE_TYPES

_BITS = np.uint64(31)
"""Of a place; of a rank there are two."""


def orders(
    repositories: pa.Array | pa.ChunkedArray, within: np.ndarray, ranks: np.ndarray, places: Mapping[str, int]
) -> np.ndarray:
    """The order of files, (files,) of uint64, unique among all.

    Args:
        repositories: of the files.
        within: the number of each in its repository.
        ranks: how welcome the licence of each is, from 0 to 3, the most welcome first.
        places: of the repositories.
    """
    if not len(repositories):
        return np.zeros(0, np.uint64)
    encoded = pc.dictionary_encode(_flat(repositories))
    place = np.array([places[name] for name in encoded.dictionary.to_pylist()], np.uint64)
    found = place[encoded.indices.to_numpy()]
    return (ranks.astype(np.uint64) << (_BITS + _BITS)) | (found << _BITS) | within.astype(np.uint64)


def numbers_within(repositories: pa.Array) -> np.ndarray:
    """The number of each file in its repository, given those of files of which those of one are neighbours."""
    if not len(repositories):
        return np.zeros(0, np.int64)
    ends = pc.run_end_encode(repositories).run_ends.to_numpy().astype(np.int64)
    begins = np.concatenate([[0], ends[:-1]])
    return np.arange(ends[-1]) - np.repeat(begins, ends - begins)


def type_ranks(types: pa.ChunkedArray) -> np.ndarray:
    """How welcome each type of licence is."""
    return pc.index_in(types, pa.array(LICENSE_TYPES)).to_numpy()


def permissive_ranks(licenses: pa.ChunkedArray, permissive: frozenset[str], types: pa.ChunkedArray) -> np.ndarray:
    """How welcome what GHArchive knows of a repository's licence is: permissive, another, nothing.

    Where it knows nothing of two, as of all local folders, the one comes first whose file has a permissive licence.
    """
    is_permissive = pc.is_in(licenses, pa.array(sorted(permissive))).to_numpy()
    unknown = np.where(type_ranks(types) == 0, 2, 3)
    return np.where(licenses.is_null().to_numpy(), unknown, np.where(is_permissive, 0, 1))


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
