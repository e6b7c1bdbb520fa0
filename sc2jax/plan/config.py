"""Settings of a plan: the slice, its price, and how much is compiled."""

import dataclasses

from sc2jax.settings import check_ranges, setting


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """What a training step is planned for; how many slices there are says `mesh.slices`."""

    slice: str = setting(
        "",
        "The TPU slice, by Google's name for it (v5p-512 is 256 chips, for v5p counts cores) or by its topology "
        "(v5p:4x8x8).",
        decides=False,
    )
    price: float = setting(
        0.0, "Price of a chip for an hour, in any currency; 0: no cost is told.", at_least=0, at_most=1e6, decides=False
    )
    whole: bool = setting(
        True,
        "Whether all layers are compiled; else 4 and 8 are, and the others take a quarter of the difference each.",
        decides=False,
    )
    search: bool = setting(
        False, "Whether other meshes, rematerialization and rows a device are tried too (`--search`).", decides=False
    )
    measured: str = setting(
        "", 'A file that perf/on_tpu.py wrote, to compare the plan with (`--measured`); "": none.', decides=False
    )

    def __post_init__(self) -> None:
        check_ranges("plan", self)
