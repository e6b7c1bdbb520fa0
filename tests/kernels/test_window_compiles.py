"""Windowed attention, forward and backward, goes through the real TPU compiler for chips that are not there.

All cases of a test are compiled in one process of its own, since libtpu keeps what it read of the environment.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

from configs.starcoder2 import SIZES, WINDOW
from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.kernel_compilation import compile_for
from sc2jax.plan.kernel_schedule import BRANCH_DELAYS

KERNELS = ("window_attention_forward", "window_attention_backward")


@dataclasses.dataclass(frozen=True)
class Case:
    """Gradients of one row's attention."""

    chip: str
    query_heads: int
    kv_heads: int
    keys: int
    queries: int
    window: int = WINDOW
    head_size: int = 128
    kind: str = "bfloat16"
    rotates: bool = True
    segmented: bool = True


RELEASED = {
    chip: [
        Case(chip, size.num_heads, size.num_kv_heads, sequence, sequence)
        for size in SIZES.values()
        for sequence in (4096, 16384)
    ]
    for chip in BRANCH_DELAYS
}
REPRESENTATIVE = [
    Case("v5e", 48, 4, 16384, 16384),
    Case("v6e", 48, 4, 16384, 16384, rotates=False, segmented=False),
    Case("v5p", 4, 2, 1280, 1280, window=256, kind="float32"),
    Case("tpu7x", 4, 1, 384, 384, window=100, head_size=64),
    Case("v5p", 4, 4, 256, 256, window=0),
    Case("v5e", 4, 2, 1280, 256, window=1024),  # a halo of keys before the queries
]


def compile_case(case: Case) -> str:
    """The compiled program's text."""
    import jax
    import jax.numpy as jnp

    from sc2jax.kernels.window_attention import window_attention

    def gradients(q, k, v, ids, angles, d_out):
        def attend(q, k, v):
            return window_attention(q, k, v, ids, case.window, angles=angles)

        out, backward = jax.vjp(attend, q, k, v)
        return out, backward(d_out)

    def heads(number: int, length: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, length, number, case.head_size), case.kind)

    keys = heads(case.kv_heads, case.keys)
    angle = jax.ShapeDtypeStruct((1, case.keys, case.head_size // 2), jnp.float32)
    queries = heads(case.query_heads, case.queries)
    ids = jax.ShapeDtypeStruct((1, case.keys), jnp.int32) if case.segmented else None
    angles = (angle, angle) if case.rotates else None
    return compile_for(case.chip, gradients, queries, keys, keys, ids, angles, queries).as_text()


def compile_in_one_process(cases: list[Case]) -> list[str]:
    """What went wrong, a line a case."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    given = json.dumps([dataclasses.asdict(case) for case in cases])
    done = subprocess.run(
        [sys.executable, __file__], input=given, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    return [f"{case}: {result['error']}" for case, result in zip(cases, results, strict=True) if result["error"]]


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(REPRESENTATIVE, id="representative"),
        *(
            pytest.param(cases, id=f"released on {chip}", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
            for chip, cases in RELEASED.items()
        ),
    ],
)
def test_kernels_compile_for_tpus(cases: list[Case]) -> None:
    assert not compile_in_one_process(cases)


def main() -> None:
    """Compiles the cases given on standard input, a line of results each."""
    for fields in json.load(sys.stdin):
        start, error = time.monotonic(), ""
        try:
            text = compile_case(Case(**fields))
            error = " ".join(f"no {kernel} in the program" for kernel in KERNELS if kernel not in text)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        sys.stdout.write(json.dumps({"seconds": time.monotonic() - start, "error": error}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
