"""What the compiler says of programs that are too large."""

import pytest

from sc2jax.plan.compilation import TooLarge, _too_large

GIB = 1 << 30


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 97.72G "
            "of 95.74G hbm. Exceeded hbm capacity by 1.98G.",
            (97.72 * GIB, 95.74 * GIB, "hbm"),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (27.11G) "
            "exceeds available HBM (15.75G).",
            (27.11 * GIB, 15.75 * GIB, "hbm"),
        ),
        ("Ran out of memory in memory space host. Used 512.00M of 1.50K host.", (512 * 2**20, 1536, "host")),
    ],
)
def test_a_program_that_is_too_large_says_by_how_much(message, found):
    needed, there, memory = found
    assert _too_large(message, 4) == TooLarge(int(needed), int(there), memory, 4)


@pytest.mark.parametrize("message", ["INTERNAL: Used 3 of them", "RESOURCE_EXHAUSTED: out of threads", ""])
def test_what_is_no_matter_of_memory_is_an_error_of_its_own(message):
    assert _too_large(message, 4) is None
