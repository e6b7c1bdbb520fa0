"""Fingerprints of arrays: what was saved is compared with what is read, on any mesh and in parts.

A fingerprint is the sum of an array's bits, each element's weighted by its place, modulo 2**32. Integer sums do not
depend on the order of addition, so that no array is gathered to compute one, however it is split.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Index: TypeAlias = tuple[slice, ...]
"""Where a block lies in its array: a slice for each dimension."""

_PLACE_WEIGHT = 2654435762


def fingerprint(tree: Any) -> dict[str, int]:
    """The fingerprint of each array of a tree, by its path."""
    return start_fingerprint(tree)()


def start_fingerprint(tree: Any) -> Callable[[], dict[str, int]]:
    """Starts the sums on the devices, whatever is done with the arrays afterwards; waits for them when it is called."""
    paths = array_names(tree)
    sums = _weighted_sums(jax.tree_util.tree_leaves(tree))
    return lambda: dict(zip(paths, (int(value) for value in jax.device_get(sums)), strict=True))


def array_names(tree: Any) -> list[str]:
    """The path of each array of a tree, in their order."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


@jax.jit
def _weighted_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_weighted_sum(leaf) for leaf in leaves]


def _weighted_sum(array: jax.Array) -> jax.Array:
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4:
        array = array.astype(jnp.float32)  # the same sum whether a parameter is stored or restored narrow or wide
    unsigned = jnp.dtype(f"uint{array.dtype.itemsize * 8}")
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for dimension, size in enumerate(array.shape):
        place = place * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    # Odd multipliers: every bit of every element reaches the sum.
    return jnp.sum(bits * (place * jnp.uint32(_PLACE_WEIGHT) + jnp.uint32(1)), dtype=jnp.uint32)


def block_sum(block: np.ndarray, index: Index, shape: tuple[int, ...]) -> int:
    """What a block of an array of this shape adds to the array's fingerprint, modulo 2**32.

    An element's weight is linear in its place, so that the sums over all dimensions but one suffice.
    """
    bits = np.ascontiguousarray(widen(block)).view(np.uint32).reshape(block.shape)
    total = bits.sum(dtype=np.uint32)
    weighted = int(total)
    for dimension, part in enumerate(index):
        first, last, _ = part.indices(shape[dimension])
        others = tuple(other for other in range(block.ndim) if other != dimension)
        marginal = bits.sum(axis=others, dtype=np.uint32) if last - first > 1 else total.reshape(1)
        weight = _PLACE_WEIGHT * math.prod(shape[dimension + 1 :]) % 2**32
        weights = np.arange(first, last, dtype=np.uint64) * np.uint64(weight)
        weighted += int((marginal * weights.astype(np.uint32)).sum(dtype=np.uint32))
    return weighted % 2**32


def widen(array: np.ndarray) -> np.ndarray:
    """Floating-point numbers as float32, exactly; integers of 32 bits as they are."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 4:
        return array
    if array.dtype == jnp.bfloat16:
        return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32, copy=False)
