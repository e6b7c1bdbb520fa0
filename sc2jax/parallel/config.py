"""How many devices share what."""

import dataclasses

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; their product is the number of devices. One of them may be 0: all devices that remain."""

    data: int = 1  # copies of the parameters, each with its part of the batch
    fsdp: int = 0  # shards of the parameters over their embed dimension; the batch is split over these as well
    sequence: int = 1  # shards of each row's length: between them travel the keys of the attention window
    tensor: int = 1  # shards of heads, MLP and vocabulary: collectives in every layer, so keep it inside fast links

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be.

        Raises:
            UserError: a size is negative, or more than one is 0.
        """
        sizes = dataclasses.asdict(self)
        if min(sizes.values()) < 0 or list(sizes.values()).count(0) > 1:
            raise UserError(f"mesh: sizes must be positive, and one of them at most 0 (the rest); got {sizes}")
