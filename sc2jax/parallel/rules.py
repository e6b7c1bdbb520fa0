"""Logical axis names and the mesh axes that they are split over: the only place that writes `PartitionSpec`.

Arrays are described by what their dimensions mean; this table alone decides where they live. The names of parameter
dimensions and of activation dimensions differ where their placement does: parameters are split over their embed
dimension (fully sharded data parallelism), activations over their batch.
"""

import math
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sc2jax.errors import UserError

BATCH = "batch"  # rows of an activation
LENGTH = "length"  # positions of an activation
ACTIVATION_EMBED = "activation_embed"
STREAM = "stream"  # rows of the feed's saved position
LAYERS = "layers"
EMBED = "embed"
HEADS = "heads"
KV_HEADS = "kv_heads"
HEAD_DIM = "head_dim"
MLP = "mlp"
VOCAB = "vocab"

RULES: dict[str, tuple[str, ...]] = {
    BATCH: ("data", "fsdp"),
    LENGTH: (),
    ACTIVATION_EMBED: (),
    STREAM: (),
    LAYERS: (),
    EMBED: ("fsdp",),
    HEADS: ("tensor",),
    KV_HEADS: ("tensor",),
    HEAD_DIM: (),
    MLP: ("tensor",),
    VOCAB: ("tensor",),
}

REPLICABLE = frozenset({KV_HEADS})
"""Axes that are copied where the mesh does not divide them: two key-value heads may serve eight tensor shards."""


def partition_spec(mesh: Mesh, axes: Sequence[str], shape: Sequence[int]) -> PartitionSpec:
    """The placement of an array whose dimensions have these logical names and sizes.

    Raises:
        UserError: a dimension is not divisible by the mesh axes of its rule.
        ValueError: two dimensions would be split over the same mesh axis.
    """
    placed: list[tuple[str, ...] | None] = []
    used: set[str] = set()
    for axis, size in zip(axes, shape, strict=True):
        mesh_axes = tuple(name for name in RULES[axis] if mesh.shape[name] > 1)
        ways = math.prod(mesh.shape[name] for name in mesh_axes)
        if size % ways:
            if axis not in REPLICABLE:
                raise UserError(
                    f"the {axis} dimension has {size} elements, which mesh axes {' x '.join(mesh_axes)} = {ways} do "
                    f"not divide; use a multiple of {ways} or another mesh"
                )
            mesh_axes = ()
        if used & set(mesh_axes):
            raise ValueError(f"axes {tuple(axes)} put two dimensions on the mesh axes {used & set(mesh_axes)}")
        used |= set(mesh_axes)
        placed.append(mesh_axes or None)
    return PartitionSpec(*placed)


def sharding(mesh: Mesh, axes: Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The same as `partition_spec`, bound to the mesh."""
    return NamedSharding(mesh, partition_spec(mesh, axes, shape))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def constrain(x: jax.Array, mesh: Mesh | None, axes: Sequence[str]) -> jax.Array:
    """Tells the compiler where an activation lives; without a mesh it says nothing."""
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, sharding(mesh, axes, x.shape))
