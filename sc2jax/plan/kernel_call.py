"""One call of a Pallas kernel, by all that its cost follows from."""

import dataclasses
from typing import Protocol

from sc2jax.plan.kernel_launch import Attention


class UnknownKernelError(Exception):
    """A Pallas call whose grid and branches are not described: nothing says what it costs."""


class Array(Protocol):
    """An operand or a result of an instruction."""

    @property
    def element_type(self) -> str:
        """As programs write it: bf16, f32, s32."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """On one device."""
        ...


ELEMENT_TYPES = {"bf16": "bfloat16", "f32": "float32", "s32": "int32"}


@dataclasses.dataclass(frozen=True)
class SplashSettings:
    """What splash attention is told.

    Attributes:
        block_q: queries of a block.
        block_kv: keys of a block.
        block_kv_compute: keys that are computed at a time.
        fused: whether one backward kernel makes all gradients; else a second one makes those of the queries.
    """

    block_q: int
    block_kv: int
    block_kv_compute: int
    fused: bool = False


@dataclasses.dataclass(frozen=True)
class KernelCall:
    """A call of an attention kernel on one device.

    Attributes:
        kernel: its name, without the number that an instruction has.
        attention: the rows that it works on. Each is taken to be one segment.
        segmented: whether it is given segment ids all the same.
        rotates: whether it rotates queries and keys itself, as sc2jax's kernels do.
        splash: of splash attention; sc2jax's kernels follow a plan of their own.
    """

    kernel: str
    attention: Attention
    segmented: bool
    rotates: bool = False
    splash: SplashSettings | None = None
