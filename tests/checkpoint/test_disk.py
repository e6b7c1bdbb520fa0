"""How a checkpoint lies on disk."""

import numpy as np
import pytest

from sc2jax.checkpoint.disk import CHUNK_BYTES, chunk_shape, disk_errors


@pytest.mark.parametrize(
    ("shape", "itemsize", "stacked", "expected"),
    [
        ((30, 3072), 4, True, (1, 3072)),
        ((30, 3072), 4, False, (30, 3072)),
        ((4, 2048, 1024), 4, True, (1, 2048, 1024)),  # a layer is just CHUNK_BYTES
        ((4, 2048, 1025), 4, True, (1, 1024, 1025)),
        ((49152, 6144), 2, False, (1536, 1536)),  # halved to a square and no further than needed
        ((5, 2**22 + 1), 4, True, (1, 2**20 + 1)),
    ],
)
def test_chunks_hold_one_layer_and_are_small(shape, itemsize, stacked, expected):
    chunk = chunk_shape(shape, itemsize, stacked=stacked)
    assert chunk == expected
    assert np.prod(chunk) * itemsize <= CHUNK_BYTES


def test_what_the_disk_refused_is_told_apart_from_other_errors():
    with pytest.raises(OSError, match="No space left") as raised, disk_errors("/a/folder"):
        raise ValueError("RESOURCE_EXHAUSTED: ... [source locations='...' os_error_code='28']")
    assert (raised.value.errno, raised.value.filename) == (28, "/a/folder")
    with pytest.raises(ValueError, match="another"), disk_errors("/a/folder"):
        raise ValueError("another one")
