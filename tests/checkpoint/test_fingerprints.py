"""Fingerprints against the formula written out with Python's integers."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.checkpoint.fingerprints import block_sum, fingerprint, widen
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh


def by_hand(array):
    """The bits of element i times (2654435762 * i + 1), summed modulo 2**32."""
    wide = array.astype(np.float32) if array.dtype.kind not in "iu" else array
    bits = np.ascontiguousarray(wide).view(np.uint32).reshape(-1).tolist()
    return sum(number * (2654435762 * place + 1) for place, number in enumerate(bits)) % 2**32


@pytest.mark.parametrize("dtype", [np.float32, np.int32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)])
def test_the_formula(shape, dtype):
    array = (np.random.default_rng(1).normal(size=shape) * 100).astype(dtype)
    assert fingerprint({"a": {"b": jnp.asarray(array)}}) == {"a/b": by_hand(array)}


def test_it_is_the_same_on_any_mesh():
    array = jax.random.normal(jax.random.key(0), (8, 16))
    for sizes in ({"data": 1, "fsdp": 4, "tensor": 2}, {"data": 8, "fsdp": 1}):
        placed = jax.device_put(array, rules.sharding(create_mesh(MeshConfig(**sizes)), ("embed", "mlp"), (8, 16)))
        assert fingerprint([placed]) == {"0": by_hand(np.asarray(array))}


def test_it_sees_one_bit_and_an_exchange_of_two_elements():
    array = np.arange(1.0, 7.0, dtype=np.float32)
    flipped = array.copy()
    flipped.view(np.uint32)[2] ^= 1
    exchanged = array[[1, 0, 2, 3, 4, 5]]
    assert len({fingerprint([jnp.asarray(x)])["0"] for x in (array, flipped, exchanged)}) == 3


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from([np.float32, ml_dtypes.bfloat16, np.float16]),
    cuts=st.lists(st.integers(0, 5), max_size=2),
    seed=st.integers(0, 99),
)
@settings(max_examples=50)
def test_sums_of_blocks_make_the_fingerprint(shape, dtype, cuts, seed):
    array = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    edges = sorted({0, shape[0], *(cut for cut in cuts if cut < shape[0])})
    total = 0
    for first, last in itertools.pairwise(edges):
        index = (slice(first, last), *(slice(0, size) for size in shape[1:]))
        total += block_sum(array[index], index, shape)
    assert total % 2**32 == by_hand(array)


def test_blocks_may_be_cut_along_any_dimension():
    array = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    parts = [
        (slice(layer, layer + 1), slice(row, row + 2), slice(0, 5)) for layer in range(3) for row in range(0, 4, 2)
    ]
    assert sum(block_sum(array[part], part, array.shape) for part in parts) % 2**32 == by_hand(array)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_widened_numbers_are_exact(dtype):
    array = np.array([1.5, -0.0, np.inf, 3e-5], dtype)
    np.testing.assert_array_equal(widen(array), array.astype(np.float32))
    assert widen(array).dtype == np.float32
