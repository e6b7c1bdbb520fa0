"""What the compiler says of programs that are too large."""

import pytest

from sc2jax.errors import UserError
from sc2jax.parallel.config import MeshConfig
from sc2jax.plan.compilation import TooLarge, _refuse_no_room, _refuse_no_route, _too_large
from sc2jax.plan.slices import find_slice

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
    _refuse_no_room(message, find_slice("v5e-4"))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space smem. Used 2.00M "
            'of 1.00M smem. Exceeded smem capacity by 1.00M.\n\n  1. Size: 1.00M\n     Operator: op_name="jit(step)/'
            'jvp()/shard_map/cond/branch_0_fun/window_attention_forward/pallas_call"',
            "window_attention_forward needs 2.00 MiB of a core's smem on TPU v5e, which has 1.00 MiB for it: give",
        ),
        (
            "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:\nRan out of memory in memory space vmem while "
            "allocating on stack for %fusion.398 = (bf16[36,128]{1,0:T(8,128)(2,1)S(1)}) fusion(%get-tuple-element.1). "
            "Scoped allocation with size 16.06M and limit 16.00M exceeded scoped vmem limit by 64.0K.",
            "an operation needs 16.06 MiB of a core's vmem on TPU v5e, which has 16.00 MiB for it: let",
        ),
    ],
)
def test_a_core_without_room_is_told_with_what_to_do(message, told):
    with pytest.raises(UserError, match=told):
        _refuse_no_room(message, find_slice("v5e-4"))
    assert _too_large(message, 4) is None


def test_a_mesh_that_the_links_cannot_carry_is_told_with_what_to_do():
    message = (
        "INTERNAL: RET_CHECK failure (platforms/xla/service/jellyfish/lowering/net_util.cc:2295) info.has_value() "
        "Failed to create limited ICI routing replica info table"
    )
    with pytest.raises(UserError, match=r"no route .* v5e-4 with the mesh \{'data': 2, 'sequence': 2\}: share"):
        _refuse_no_route(message, find_slice("v5e-4"), MeshConfig(data=2, sequence=2, fsdp=1))
    _refuse_no_route("INTERNAL: something else", find_slice("v5e-4"), MeshConfig())
