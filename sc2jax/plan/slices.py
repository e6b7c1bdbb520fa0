"""Slices of TPU pods by the names that Google gives them, and their devices as libtpu describes them without a TPU.

Which there are: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e and /tpu7x, "Configurations". Which of their axes close
to a ring: jax-ml.github.io/scaling-book/tpus, "TPU Networking".
"""

import dataclasses
import importlib.util
import math
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sc2jax.errors import UserError
from sc2jax.parallel.chips import GENERATIONS, Chip, Tpu
from sc2jax.plan.environment import require_environment
from sc2jax.settings import shown

CUBE = 4
"""Chips along an edge of the cube that optical switches join to larger slices, of which alone rings are closed."""

POD_EDGE = 16
"""Chips along an edge of the pods without such switches; an axis as long is a ring."""

_PARTS_OF_A_CUBE = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
_PARTS_OF_A_POD = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_MOST_CHIPS = {"v4": 4096, "v5p": 6144, "tpu7x": 9216}
_CHIPS_OF_A_HOST = (2, 2, 1)
_ONE_HOST: Mapping[tuple[int, ...], tuple[int, int, int]] = {(1, 1): (1, 1, 1), (2, 4): (2, 4, 1)}
"""Slices whose chips one machine has, unlike the others in number."""

_ALIASES = {"v5litepod": "v5e"}
"""Another of Google's names for a generation."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are joined by links of their own.

    Attributes:
        chip: what each of them is.
        extents: how many there are along each axis: three, or two where the generation's slices are flat.
    """

    chip: Chip
    extents: tuple[int, ...]

    @property
    def tpu(self) -> Tpu:
        """The chip's generation."""
        assert self.chip.tpu is not None
        return self.chip.tpu

    @property
    def chips(self) -> int:
        """How many chips it has."""
        return math.prod(self.extents)

    @property
    def devices(self) -> int:
        """How many JAX devices it has."""
        return self.chips * self.chip.devices

    @property
    def hosts(self) -> int:
        """How many machines drive it, each with a process of its own."""
        return self.chips // math.prod(self._host_extents)

    @property
    def topology(self) -> str:
        """As in "v5p:4x8x8"."""
        return f"{self.tpu.generation}:{'x'.join(map(str, self.extents))}"

    @property
    def name(self) -> str:
        """Google's name, as in "v5p-512"; the topology, where that name is of another of as many chips."""
        if _named(self.tpu).get(self.chips) != self.extents:
            return self.topology
        return f"{self.tpu.generation}-{self.chips * _cores(self.chip)}"

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Whether the chips at the two ends of each axis are neighbours, so that the axis is a ring."""
        if _is_flat(self.tpu):
            return tuple(extent == POD_EDGE for extent in self.extents)
        return (_is_of_cubes(self.extents),) * len(self.extents)

    def devices_of(self, slices: int = 1) -> Sequence[Any]:
        """The devices of so many of these slices, which arrays can be placed on and programs compiled for.

        Raises:
            UserError: the TPU's compiler is not installed.
        """
        require_compiler()
        require_environment()
        from jax.experimental import topologies

        description = topologies.get_topology_desc(
            self.topology,
            "tpu",
            chip_config_name="megacore" if self.tpu.cores > 1 else "default",
            chips_per_host_bounds=self._host_extents,
            num_slices=slices,
            wrap=(*self.wraps, False) if _is_flat(self.tpu) else self.wraps,
        )
        return description.devices

    @property
    def _host_extents(self) -> tuple[int, int, int]:
        return _ONE_HOST.get(self.extents, _CHIPS_OF_A_HOST)


def find_slice(name: str) -> Slice:
    """A slice by Google's name, which counts TensorCores ("v5p-512", "v5litepod-256"), or by topology ("v5p:4x8x8").

    Raises:
        UserError: there is none of the name; the nearest are named.
    """
    found = re.fullmatch(r"([a-z0-9]+)(?:-([1-9]\d{0,8})|:([1-9]\d{0,4}(?:x[1-9]\d{0,4}){1,2}))", name, re.ASCII)
    chip = GENERATIONS.get(_ALIASES.get(found[1], found[1])) if found else None
    if found is None or chip is None:
        meant = name.strip().lower()
        if meant != name:
            raise UserError(f"there is no slice {shown(name)}; did you mean {find_slice(meant).name}?")
        generations = ", ".join(f"{named_slices(each)[-1].name}" for each in GENERATIONS.values())
        raise UserError(
            f"there is no slice {shown(name)}; the largest of each kind are {generations}, and each also has its "
            f"topology as a name, as {named_slices(GENERATIONS['v5p'])[0].topology}"
        )
    if found[2]:
        choices = {each.chips * _cores(chip): each for each in named_slices(chip)}
        if int(found[2]) not in choices:
            raise UserError(_nearest(name, int(found[2]), {count: each.name for count, each in choices.items()}))
        return choices[int(found[2])]
    extents = tuple(map(int, found[3].split("x")))
    if not _exists(chip, extents):
        topologies = {each.chips: each.topology for each in named_slices(chip)}
        raise UserError(_nearest(name, math.prod(extents), topologies))
    return Slice(chip, extents)


def require_compiler() -> None:
    """Makes sure that the TPU's compiler is here.

    Raises:
        UserError: it is not installed, or does not exist for this machine.
    """
    system = (sys.platform, platform.machine())
    if system == ("linux", "x86_64") and importlib.util.find_spec("libtpu"):
        return
    raise UserError(
        "a plan is made by the TPU's own compiler, libtpu, which needs no TPU but is not here: pip install "
        f'"sc2jax[plan]" on Linux on x86-64, the only system that it exists for (this is {" on ".join(system)})'
    )


def named_slices(chip: Chip) -> list[Slice]:
    """The slices of a generation that have a name of Google's, by size."""
    assert chip.tpu is not None
    return [Slice(chip, extents) for extents in _named(chip.tpu).values()]


def _named(tpu: Tpu) -> dict[int, tuple[int, ...]]:
    """Chips -> the extents of the slice that a number of chips alone stands for, by size."""
    if _is_flat(tpu):
        return {math.prod(extents): extents for extents in _PARTS_OF_A_POD}
    cubes = range(1, _MOST_CHIPS[tpu.generation] // CUBE**3 + 1)
    whole = (tuple(CUBE * extent for extent in _most_cubic(count)) for count in cubes)
    return {math.prod(extents): extents for extents in (*_PARTS_OF_A_CUBE, *whole)}


def _most_cubic(volume: int) -> tuple[int, int, int]:
    """The box of this volume with the smallest surface, its edges in ascending order."""
    boxes = (
        (a, b, volume // (a * b))
        for a in range(1, volume + 1)
        if a**3 <= volume and volume % a == 0
        for b in range(a, volume // a + 1)
        if a * b**2 <= volume and volume % (a * b) == 0
    )
    return min(boxes, key=lambda box: box[0] * box[1] + box[1] * box[2] + box[0] * box[2])


def _exists(chip: Chip, extents: tuple[int, ...]) -> bool:
    assert chip.tpu is not None
    if _is_flat(chip.tpu):
        return extents in _PARTS_OF_A_POD
    whole = _is_of_cubes(extents) and math.prod(extents) <= _MOST_CHIPS[chip.tpu.generation]
    return extents in _PARTS_OF_A_CUBE or (len(extents) == 3 and whole and list(extents) == sorted(extents))


def _is_flat(tpu: Tpu) -> bool:
    return tpu.torus_dimensions == 2


def _is_of_cubes(extents: tuple[int, ...]) -> bool:
    return all(extent % CUBE == 0 for extent in extents)


def _cores(chip: Chip) -> int:
    """TensorCores of a chip."""
    assert chip.tpu is not None
    return chip.tpu.cores * chip.devices


def _nearest(name: str, size: int, choices: Mapping[int, str]) -> str:
    """The message that a slice does not exist, with those just below and above its size."""
    below = [choices[max(count for count in choices if count <= size)]] if size >= min(choices) else []
    above = [choices[min(count for count in choices if count > size)]] if size < max(choices) else []
    near = below + above
    return f"there is no slice {name}; the nearest {'are' if len(near) > 1 else 'is'} {' and '.join(near)}"
