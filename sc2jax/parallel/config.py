"""How many devices share what, and how the processes that drive them find each other."""

import dataclasses
import re

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


MOST_PROCESSES = 100_000
"""A limit beyond any cluster."""


@dataclasses.dataclass(frozen=True)
class HostsConfig:
    """The processes of one run, one a host; by default found as JAX does on TPU VMs, GKE, Slurm and Open MPI."""

    coordinator: str = setting(
        "",
        'Where the others reach process 0, as in "10.0.0.1:8476"; "": as the machines say. Give all three or none.',
        decides=False,
    )
    count: int = setting(
        0,
        "How many processes take part; 0: as many as the machines say; 1: this one alone, whatever they say.",
        unit="processes",
        at_least=0,
        at_most=MOST_PROCESSES,
        decides=False,
    )
    index: int = setting(
        -1,
        "Which of them this one is, from 0 on; -1: as the machines say.",
        at_least=-1,
        less_than=MOST_PROCESSES,
        decides=False,
    )
    join_seconds: float = setting(
        40.0,
        "How long the processes wait for each other at the start.",
        unit="s",
        more_than=0,
        at_most=86_400,
        decides=False,
    )
    silent_seconds: float = setting(
        30.0,
        "A process of which nothing is heard for so long has failed, and all others end.",
        unit="s",
        at_least=3,
        at_most=86_400,
        decides=False,
    )

    def __post_init__(self) -> None:
        """Refuses half an answer to where the processes are.

        Raises:
            UserError: some of coordinator, count and index are given and others are not, or do not go together.
        """
        check_ranges("hosts", self)
        if self.count == 1:
            return
        given = {"coordinator": bool(self.coordinator), "count": self.count > 0, "index": self.index >= 0}
        if any(given.values()) and not all(given.values()):
            missing = " and ".join(f"hosts.{name}" for name, is_given in given.items() if not is_given)
            raise UserError(
                f"{missing} is missing: give hosts.coordinator, hosts.count and hosts.index, each process its own "
                "index, or none of them where the machines say it (TPU VMs, GKE, Slurm, Open MPI)"
            )
        if self.coordinator:
            split_address(self.coordinator)
            if self.index >= self.count:
                raise UserError(
                    f"hosts.index is {self.index}; of {self.count} processes it is one of 0 to {self.count - 1}"
                )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address like "10.0.0.1:8476", "name:8476" or "[::1]:8476".

    Raises:
        UserError: it is none.
    """
    host, _, port = address.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not name or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 2**16:
        raise UserError(f"hosts.coordinator is {address!r}; it must be a host and a port, as in 10.0.0.1:8476")
    return name, int(port)
