"""How many devices share what."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

MOST_DEVICES = 1_000_000
"""A limit on each axis, beyond any cluster."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; their product is the number of devices. One of them may be 0: all devices that remain."""

    slices: int = setting(
        1,
        "TPU slices, joined by the data-centre network alone: each has copies of the parameters and its part of the "
        "batch.",
        unit="slices",
        at_least=1,
        at_most=MOST_DEVICES,
        decides=False,
    )
    data: int = setting(
        1,
        "Copies of the parameters within a slice, each with its part of the batch.",
        unit="devices",
        at_least=0,
        at_most=MOST_DEVICES,
        decides=False,
    )
    fsdp: int = setting(
        0,
        "Shards of the parameters over their embed dimension; the batch is split over these as well.",
        unit="devices",
        at_least=0,
        at_most=MOST_DEVICES,
        decides=False,
    )
    sequence: int = setting(
        1,
        "Shards of the length of each row; between them travel the keys of the attention window.",
        unit="devices",
        at_least=0,
        at_most=MOST_DEVICES,
        decides=False,
    )
    tensor: int = setting(
        1,
        "Shards of heads, MLP and vocabulary: they communicate in every layer, so keep them on fast links.",
        unit="devices",
        at_least=0,
        at_most=MOST_DEVICES,
        decides=False,
    )

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be.

        Raises:
            UserError: a size is negative, or more than one is 0.
        """
        check_ranges("mesh", self)
        sizes = dataclasses.asdict(self)
        if list(sizes.values()).count(0) > 1:
            raise UserError(f"mesh: one size at most may be 0 (all devices that remain); got {sizes}")
