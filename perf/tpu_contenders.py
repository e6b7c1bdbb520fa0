"""The attention kernels that `tpu_kernels.py` compares, each with a description of its grid.

A contender is a function of a shape and of its own settings that returns a `Contender`: what to compile, its calls of
Pallas kernels and what they are measured by. A `Case` added to `CASES` is a row of the table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from configs.starcoder2 import SIZES, WINDOW
from sc2jax.kernels.window_plan import WindowPlan
from sc2jax.plan import kernel_splash, kernel_window
from sc2jax.plan.kernel_call import SplashSettings
from sc2jax.plan.kernel_launch import Attention, Subject

HEAD_SIZE = 128
SHAPES = {
    f"{name} {sequence}": Attention(size.num_heads, size.num_kv_heads, sequence, sequence, WINDOW, HEAD_SIZE)
    for name, size in SIZES.items()
    for sequence in (4096, 16384)
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """What a case compiles, with the FLOPs of the visible pairs and the bytes that any kernel must move."""

    subject: Subject
    visible_flops: int
    least_bytes: int
    bytes_around: int = 0  # that XLA moves for the parts of the call that are outside the kernels


def visible_flops(shape: Attention, products: int) -> int:
    """Of so many matrix products over the visible pairs."""
    return products * 2 * shape.head_size * shape.visible_pairs


def least_bytes(shape: Attention, query_tensors: int, kv_tensors: int, statistics: int) -> int:
    """If each bfloat16 tensor of queries' or keys' shape and each float32 value per query is moved once."""
    rows = query_tensors * shape.query_heads + kv_tensors * shape.kv_heads
    return shape.keys * (rows * shape.head_size * 2 + statistics * shape.query_heads * 4)


def _forward(shape: Attention, subject: Subject) -> Contender:
    return Contender(subject, visible_flops(shape, 2), least_bytes(shape, 2, 2, 1))


def _backward(shape: Attention, subject: Subject, bytes_around: int = 0) -> Contender:
    """The least are q, out, d_out and d_q; k, v, d_k and d_v; one statistic per query."""
    return Contender(subject, visible_flops(shape, 5), least_bytes(shape, 4, 4, 1), bytes_around)


def splash_forward(shape: Attention, block: int, compute: int) -> Contender:
    """JAX's splash attention as training calls it."""
    settings = SplashSettings(block, block, compute)
    return _forward(shape, kernel_splash.forward_call(shape, settings, segmented=False, saves=True))


def splash_backward(shape: Attention, block: int, compute: int, fused: bool) -> Contender:
    """JAX's splash attention's backward, with what XLA moves before and after its kernels."""
    subject = kernel_splash.backward_call(shape, SplashSettings(block, block, compute, fused), segmented=False)
    around = least_bytes(shape, 2, 0, 1)
    if fused:
        around += least_bytes(shape, shape.keys // block + 1, 0, 0)
    return _backward(shape, subject, around)


def _plan(shape: Attention, block: int, **pieces: int) -> WindowPlan:
    """The plan of sc2jax's kernels, with the pieces asked for."""
    return WindowPlan(block, shape.keys // block, shape.keys // block, shape.window, **pieces)


def window_forward(shape: Attention, rotates: bool, segmented: bool, block: int = 1024, **pieces: int) -> Contender:
    """sc2jax's forward kernel."""
    return _forward(shape, kernel_window.forward_call(shape, _plan(shape, block, **pieces), rotates, segmented))


def window_backward(shape: Attention, rotates: bool, segmented: bool, block: int = 1024, **pieces: int) -> Contender:
    """sc2jax's backward kernel."""
    return _backward(shape, kernel_window.backward_call(shape, _plan(shape, block, **pieces), rotates, segmented))


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table: a contender with its settings."""

    name: str
    contender: Callable[..., Contender]
    settings: Mapping[str, Any]

    def at(self, shape: Attention) -> Contender:
        """The contender at a shape."""
        return self.contender(shape, **self.settings)


WINDOW_SIZES = (
    {"block": 512},
    {"edge": 128},
    {"edge": 512},
    {"chunk": 128},
    {"chunk": 256},
    {"chunk": 1024},
    {"edge": 512, "chunk": 256},
)
"""What the sizes in a window plan were chosen among."""


def _window_cases() -> list[Case]:
    variants = {
        "": {},
        " rotation": {"rotates": True},
        " segments": {"segmented": True},
        " rotation and segments": {"rotates": True, "segmented": True},
    }
    sizes = {" with " + ", ".join(f"{name} {size}" for name, size in given.items()): given for given in WINDOW_SIZES}
    return [
        Case(f"window {way}{variant}", contender, {"rotates": False, "segmented": False} | settings)
        for way, contender in (("forward", window_forward), ("backward", window_backward))
        for variant, settings in (variants | sizes).items()
    ]


CASES = {
    case.name: case
    for case in (
        *_window_cases(),
        *(
            Case(f"splash forward {block}/{compute}", splash_forward, {"block": block, "compute": compute})
            for block, compute in ((1024, 1024), (1024, 512), (512, 512))
        ),
        *(
            Case(
                f"splash {'fused' if fused else 'split'} backward {block}/{compute}",
                splash_backward,
                {"block": block, "compute": compute, "fused": fused},
            )
            for fused in (True, False)
            for block, compute in ((1024, 1024), (1024, 512), (512, 512))
        ),
    )
}


def subject(case: str, shape: str) -> tuple[Callable, tuple[Any, ...]]:
    """For `dump`, which compiles in its own process."""
    chosen = CASES[case].at(SHAPES[shape]).subject
    return chosen.function, chosen.arguments
