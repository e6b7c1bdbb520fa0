"""Logical axis names and the mesh axes that they are split over: the only place that writes `PartitionSpec`.

Arrays are described by what their dimensions mean; this table alone decides where they live. Dimensions of parameters
and of activations have different names where they are placed differently: parameters are split over their embed
dimension (fully sharded data parallelism), activations over their batch.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sc2jax.errors import UserError

BATCH = "batch"  # rows of an activation
LENGTH = "length"  # positions of an activation
ACTIVATION_EMBED = "activation_embed"
PART = "part"  # parts that a batch is computed in, one after the other
STREAM = "stream"  # rows of the feed's saved position
LAYERS = "layers"
EMBED = "embed"
HEADS = "heads"
KV_HEADS = "kv_heads"
HEAD_DIM = "head_dim"
MLP = "mlp"
VOCAB = "vocab"
RANK = "rank"  # of adapters

RULES: dict[str, tuple[str, ...]] = {
    PART: (),
    BATCH: ("slices", "data", "fsdp"),
    LENGTH: ("sequence",),
    ACTIVATION_EMBED: (),
    STREAM: (),
    LAYERS: (),
    EMBED: ("fsdp",),
    HEADS: ("tensor",),
    KV_HEADS: ("tensor",),
    HEAD_DIM: (),
    MLP: ("tensor",),
    VOCAB: ("tensor",),
    RANK: (),
}

REPLICABLE = frozenset({KV_HEADS})
"""Axes that are copied where the mesh does not divide them: two key-value heads may serve eight shards."""


def mesh_axes(mesh: Mesh, axis: str) -> tuple[str, ...]:
    """The mesh axes that a logical axis is split over, leaving out those of size 1."""
    return tuple(name for name in RULES[axis] if mesh.shape[name] > 1)


def shard_count(mesh: Mesh, axis: str) -> int:
    """How many shards a logical axis is split into, where the mesh divides it."""
    return math.prod(mesh.shape[name] for name in mesh_axes(mesh, axis))


def partition_spec(mesh: Mesh, axes: Sequence[str], shape: Sequence[int]) -> PartitionSpec:
    """The placement of an array whose dimensions have these logical names and sizes.

    Raises:
        UserError: a dimension is not divisible by the mesh axes of its rule.
        ValueError: two dimensions would be split over the same mesh axis.
    """
    placed: list[tuple[str, ...] | None] = []
    used: set[str] = set()
    for axis, size in zip(axes, shape, strict=True):
        names, parts = mesh_axes(mesh, axis), shard_count(mesh, axis)
        if size % parts:
            if axis not in REPLICABLE:
                sizes, divisors = nearest_multiples(size, parts), nearest_divisors(size, parts)
                raise UserError(
                    f"the {axis} dimension has {size:,} elements, which mesh axes {' x '.join(names)} = {parts} do not "
                    f"divide; they would divide {listed(sizes)}, and {listed(divisors)} would divide it"
                )
            names = ()
        if used & set(names):
            raise ValueError(f"axes {tuple(axes)} put two dimensions on the mesh axes {used & set(names)}")
        used |= set(names)
        placed.append(names or None)
    return PartitionSpec(*placed)


def sharding(mesh: Mesh, axes: Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """`partition_spec`, bound to the mesh."""
    return NamedSharding(mesh, partition_spec(mesh, axes, shape))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def constrain(x: jax.Array, mesh: Mesh | None, axes: Sequence[str]) -> jax.Array:
    """Tells the compiler where an activation lives; does nothing without a mesh."""
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, sharding(mesh, axes, x.shape))


def in_parts(x_BT: jax.Array, parts: int, mesh: Mesh | None) -> jax.Array:
    """The rows of a batch in parts of equally many, (parts, B / parts, T): each device has its share of every part.

    A part takes some of the rows that each device already has, so that no row moves between devices.
    """
    B, T = x_BT.shape
    shards = 1 if mesh is None else shard_count(mesh, BATCH)
    x_PSBT = x_BT.reshape(shards, parts, B // (shards * parts), T).swapaxes(0, 1)
    return constrain(x_PSBT.reshape(parts, B // parts, T), mesh, (PART, BATCH, LENGTH))


def refuse_indivisible(mesh: Mesh, dimensions: Iterable[tuple[str, int]]) -> None:
    """Makes sure that the mesh divides all of these dimensions, given by logical name and size, but those it may copy.

    Raises:
        UserError: it does not; the message names the nearest sizes of the mesh's axis that divide all of them.
    """
    split = [pair for pair in dict.fromkeys(dimensions) if pair[0] not in REPLICABLE]
    for name, parts in mesh.shape.items():
        own = [(axis, size) for axis, size in split if name in RULES[axis]]
        missed = [f"{axis} {size:,}" for axis, size in own if size % parts]
        if missed:
            nearest = nearest_divisors(math.gcd(*(size for _, size in own)), parts)
            raise UserError(
                f"mesh.{name} {parts} does not divide the model's {', '.join(missed)}; the nearest that divide all "
                f"that is split over it: {listed(nearest)}"
            )


def listed(numbers: Sequence[int]) -> str:
    """Numbers as a message lists those to choose from."""
    return " or ".join(f"{number:,}" for number in numbers)


def nearest_multiples(size: int, parts: int) -> list[int]:
    """The multiples of `parts` around `size` that are not 0."""
    below = size // parts * parts
    return [below, below + parts] if below else [parts]


def nearest_divisors(size: int, parts: int) -> list[int]:
    """The divisors of `size` around `parts`: the greatest below it and the smallest above it, where there is one."""
    below = next(number for number in range(min(parts, size), 0, -1) if size % number == 0)
    above = next((number for number in range(parts, size + 1) if size % number == 0), below)
    return sorted({below, above})


def map_shards(
    function: Callable[..., Any],
    mesh: Mesh,
    inputs: Sequence[Sequence[str]],
    outputs: Sequence[tuple[Sequence[str], Sequence[int]]],
) -> Callable[..., Any]:
    """A function that runs on each device's part of its arguments, for what the compiler cannot split by itself.

    Args:
        function: takes one array for each entry of `inputs` and returns a tuple with one for each of `outputs`; it
            communicates between devices by the names of mesh axes.
        mesh: the devices.
        inputs: the logical axes of each argument.
        outputs: the logical axes and the whole shape of each result.
    """

    def mapped(*arrays: jax.Array) -> Any:
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=tuple(partition_spec(mesh, axes, array.shape) for axes, array in zip(inputs, arrays, strict=True)),
            out_specs=tuple(partition_spec(mesh, axes, shape) for axes, shape in outputs),
            check_vma=False,  # Pallas kernels and custom gradients do not say over which axes their results vary
        )(*arrays)

    return mapped
