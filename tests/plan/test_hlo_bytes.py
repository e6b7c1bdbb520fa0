"""Bytes read from and written to a memory, by hand."""

import pytest
from program_texts import cycles, program

from sc2jax.plan.hlo import Cost, read_program
from sc2jax.plan.hlo_bytes import bytes_moved
from sc2jax.plan.hlo_text import MemorySpace, ProgramTextError

TILED = "1,0:T(8,128)"
X, V = f"f32[64,256]{{{TILED}}}", f"f32[64,256]{{{TILED}S(1)}}"
ONE = 64 * 256 * 4
STACK, SLICE = "f32[10,64,256]{2,1,0:T(8,128)}", "f32[1,64,256]{2,1,0:T(8,128)}"
ARGUMENTS = f"""%x = {X} parameter(0)
    %v = {V} parameter(1)
    %stack = {STACK} parameter(2)
    %slice = {SLICE} parameter(3)
    %i = s32[] parameter(4)
    %rows = s32[16]{{0}} parameter(5)
    %host = {STACK.replace(")}", ")S(5)}")} parameter(6)"""


def alias(*pairs: tuple[int, int], estimated: int = 1) -> str:
    """A unit's end with the buffers that are one, operands counted first."""
    lists = ",".join(f'{{"indices":["{one}","{other}"]}}' for one, other in pairs)
    config = f'"window_config":{{"estimated_cycles":"{estimated}"}},"aliasing_operands":{{"lists":[{lists}]}}'
    return f", backend_config={{{config}}}"


def moved(line: str, space: MemorySpace = MemorySpace.HBM, **computations: str) -> int:
    found = program(main=f"{ARGUMENTS}\n{line}\nROOT %last = s32[] bitcast(%i)", **computations)
    return bytes_moved(found, found.entry.by_name["u"], space)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"%u = {X} negate(%x)", 2 * ONE),
        (f"%u = {V} negate(%x)", ONE),
        (f"%u = {V} negate(%v)", 0),
        (f"%u = {X} add(%x, %x)", 3 * ONE),
        (f"%u = {X} broadcast(%i), dimensions={{}}", ONE + 4),
        (f"%u = f32[64,130]{{{TILED}}} slice(%x), slice={{[0:64], [0:130]}}", 2 * ONE),
        (f"%u = {SLICE} dynamic-slice(%stack, %i, %i, %i), dynamic_slice_sizes={{1,64,256}}", 2 * ONE + 3 * 4),
        (f"%u = f32[16,256]{{{TILED}}} gather(%x, %rows), offset_dims={{1}}", 2 * 16 * 256 * 4 + 16 * 4),
    ],
)
def test_operands_once_and_results_that_are_in_the_memory(line, expected):
    assert moved(line + cycles(1)) == expected


def test_views_and_ends_move_nothing():
    assert moved("%u = f32[10,64,256]{2,1,0} bitcast(%stack)") == 0
    assert moved(f'%u = {X} custom-call(), custom_call_target="AllocateBuffer"') == 0
    assert moved(f"%s = ({V}, {X}, u32[]{{:S(2)}}) copy-start(%x)\n%u = {V} copy-done(%s)") == 0


def test_copies_between_memories():
    start = "u32[]{:S(2)}) copy-start"
    assert moved(f"%u = ({V}, {X}, {start}(%x)") == ONE
    assert moved(f"%u = ({X}, {V}, {start}(%v)") == ONE
    assert moved(f"%u = ({X}, {X}, {start}(%x)") == 2 * ONE
    half = f"f32[32,256]{{{TILED}S(1)}}"
    assert moved(f"%u = (({X}), {half}, s32[]{{:S(2)}}) slice-start(%x), slice={{[0:32], [0:256]}}") == ONE // 2
    assert moved(f"%u = ({V}, {X}, {start}(%x)", MemorySpace.VMEM) == ONE


def test_slices_that_come_from_the_host_and_go_there():
    host = STACK.replace(")}", ")S(5)}")
    update = f"(({host}, {SLICE}, s32[]), {host}, u32[]{{:S(2)}}) dynamic-update-slice-start(%host, %slice, %i)"
    fetch = (
        f"(({host}, s32[]), {SLICE}, u32[]{{:S(2)}}) dynamic-slice-start(%host, %i), dynamic_slice_sizes={{1,64,256}}"
    )
    for unit in (update, fetch):
        assert moved(f"%u = {unit}") == ONE
        assert moved(f"%u = {unit}", MemorySpace.HOST) == ONE


def test_an_update_in_place_reads_and_writes_the_slice():
    line = f"%u = {STACK} dynamic-update-slice(%stack, %slice, %i, %i, %i)"
    assert moved(line + alias((0, 5))) == 2 * ONE + 3 * 4
    assert moved(line + alias()) == (10 + 1 + 10) * ONE + 3 * 4


SLICED = f"""%stack = {STACK} parameter(0)
    %i = s32[] parameter(1)
    %s = {SLICE} dynamic-slice(%stack, %i, %i, %i), dynamic_slice_sizes={{1,64,256}}
    ROOT %b = {X} bitcast(%s)"""
FUSED_SLICE = f"%u = {X} fusion(%stack, %i), kind=kLoop, calls=%f"


def test_a_fusion_that_takes_a_slice_reads_the_slice():
    assert moved(FUSED_SLICE + cycles(1), f=SLICED) == 2 * ONE + 4


def test_a_slice_of_a_converted_operand_is_as_wide_as_the_operand():
    of_converted = f"""%stack = {STACK} parameter(0)
    %i = s32[] parameter(1)
    %c = bf16[10,64,256]{{2,1,0:T(8,128)(2,1)}} convert(%stack)
    ROOT %s = bf16[1,64,256]{{2,1,0:T(8,128)(2,1)}} dynamic-slice(%c, %i, %i, %i), dynamic_slice_sizes={{1,64,256}}"""
    line = "%u = bf16[1,64,256]{2,1,0:T(8,128)(2,1)} fusion(%stack, %i), kind=kLoop, calls=%f"
    assert moved(line + cycles(1), f=of_converted) == ONE + ONE // 2 + 4


def test_two_slices_and_a_slice_beside_the_whole():
    both = (
        SLICED.replace(f"ROOT %b = {X} bitcast(%s)", "")
        + f"""
    %t = {SLICE} slice(%stack), slice={{[3:4], [0:64], [0:256]}}
    ROOT %sum = {SLICE} add(%s, %t)"""
    )
    line = f"%u = {SLICE} fusion(%stack, %i), kind=kLoop, calls=%f"
    assert moved(line + cycles(1), f=both) == 3 * ONE + 4
    whole = both.replace("ROOT %sum", "%sum") + f"\nROOT %m = {SLICE} reduce(%stack, %sum), dimensions={{0}}"
    assert moved(line + cycles(1), f=whole) == (10 + 1) * ONE + 4


def test_slices_of_slices_inside_of_nested_fusions():
    outer = f"""%stack = {STACK} parameter(0)
    %i = s32[] parameter(1)
    %s = {X} fusion(%stack, %i), kind=kLoop, calls=%f
    ROOT %n = {X} negate(%s)"""
    assert moved(f"%u = {X} fusion(%stack, %i), kind=kLoop, calls=%g" + cycles(1), f=SLICED, g=outer) == 2 * ONE + 4


UPDATED = f"""%stack = {STACK} parameter(0)
    %new = {X} parameter(1)
    %i = s32[] parameter(2)
    %one = {SLICE} bitcast(%new)
    ROOT %d = {STACK} dynamic-update-slice(%stack, %one, %i, %i, %i)"""
FUSED_UPDATE = f"%u = {STACK} fusion(%stack, %x, %i), kind=kLoop, calls=%f"


def test_a_fusion_that_updates_in_place_writes_the_slice():
    assert moved(FUSED_UPDATE + alias((0, 3)), f=UPDATED) == 2 * ONE + 4
    assert moved(FUSED_UPDATE + cycles(1), f=UPDATED) == 2 * ONE + 4


def test_an_update_elsewhere_reads_and_writes_the_whole():
    """The compiler lists another operand for the result, or none."""
    for others in ([(1, 3)], []):
        assert moved(FUSED_UPDATE + alias(*others), f=UPDATED) == (10 + 1 + 10) * ONE + 4


def test_one_of_several_results_is_updated_in_place():
    both = UPDATED.replace("ROOT %d", "%d") + f"\n%n = {X} negate(%new)\nROOT %t = ({X}, {STACK}) tuple(%n, %d)"
    line = f"%u = ({X}, {STACK}) fusion(%stack, %x, %i), kind=kLoop, calls=%f"
    assert moved(line + alias((0, 4)), f=both) == 3 * ONE + 4
    assert moved(line + alias((0, 3)), f=both) == (10 + 1 + 1 + 10) * ONE + 4


def test_an_update_behind_copies_that_are_fusions():
    """As for tpu7x, where a copy of the operand into other tiles is noted inside, and none is made."""
    copy = f"%c = {STACK} parameter(0)\nROOT %d = {STACK.replace('8,128', '16,128')} copy(%c)"
    tiled = STACK.replace("8,128", "16,128")
    copied = UPDATED.replace(
        f"ROOT %d = {STACK} dynamic-update-slice(%stack",
        f"%k = {tiled} fusion(%stack), kind=kLoop, calls=%copied\nROOT %d = {STACK} dynamic-update-slice(%k",
    )
    assert moved(FUSED_UPDATE + alias((0, 3)), f=copied, copied=copy) == 2 * ONE + 4


def test_a_scatter_reads_the_rows_that_it_adds_to():
    line = f"%u = {X} scatter(%x, %rows, %few), to_apply=%add"
    few = f"%few = f32[16,256]{{{TILED}}} parameter(7)"
    main = f"{few}\n{line}"
    assert moved(main + alias((0, 3)), add="ROOT %a = f32[] parameter(0)") == 3 * 16 * 256 * 4 + 16 * 4


def test_a_scatter_into_several_arrays_is_an_error():
    line = f"%u = ({X}, {X}) scatter(%x, %x, %rows, %x, %x), to_apply=%add"
    with pytest.raises(ProgramTextError, match="scatters into several arrays"):
        moved(line + alias((0, 5), (1, 6)), add="ROOT %a = f32[] parameter(0)")


def test_a_fusion_that_carries_a_collective_on_does_not_move_what_the_collective_does():
    gathered = f"f32[128,256]{{{TILED}}}"
    carried = f"""%shard = {X} parameter(0)
    %buffer = {gathered} parameter(1)
    %g = {gathered} all-gather(%shard), replica_groups={{{{0,1}}}}, dimensions={{0}}
    %work = {X} parameter(2)
    %n = {X} negate(%work)
    ROOT %t = ({X}, {X}, {gathered}, {gathered}) tuple(%n, %shard, %buffer, %g)"""
    config = alias((0, 4), (1, 5)).replace('{"window', '{"continuation_config":{},"window')
    buffer = f"%whole = {gathered} parameter(7)"
    line = f"%u = ({X}, {X}, {gathered}, {gathered}) fusion(%x, %whole, %x), kind=kOutput, calls=%f"
    assert moved(f"{buffer}\n{line}{config}", f=carried) == 2 * ONE


def test_what_is_handed_on_is_not_moved():
    handed = f"%a = {X} parameter(0)\n%b = {X} parameter(1)\n%n = {X} negate(%b)\nROOT %t = ({X}, {X}) tuple(%a, %n)"
    line = f"%u = ({X}, {X}) fusion(%x, %x), kind=kLoop, calls=%f"
    assert moved(line + alias((0, 2)), f=handed) == 2 * ONE
    assert moved(line + alias(), f=handed) == 4 * ONE


def test_a_conversion_in_place_is_moved():
    converted = f"%a = {X} parameter(0)\nROOT %c = s32[64,256]{{{TILED}}} convert(%a)"
    line = f"%u = s32[64,256]{{{TILED}}} fusion(%x), kind=kLoop, calls=%f"
    assert moved(line + alias((0, 1)), f=converted) == 2 * ONE


def test_a_fusion_of_arrays_in_vmem_moves_nothing_in_hbm():
    negated = f"%a = {V} parameter(0)\nROOT %n = {V} negate(%a)"
    line = f"%u = {V} fusion(%v), kind=kLoop, calls=%f" + cycles(1)
    assert moved(line, f=negated) == 0
    assert moved(line, MemorySpace.VMEM, f=negated) == 2 * ONE


def test_collectives_count_where_they_start():
    add = "ROOT %a = f32[] parameter(0)"
    groups = "replica_groups={{0,1}}"
    assert moved(f"%u = {X} all-reduce(%x), {groups}, to_apply=%add", add=add) == 2 * ONE
    gathered = f"f32[128,256]{{{TILED}}}"
    assert moved(f"%u = {gathered} all-gather(%x), {groups}, dimensions={{0}}") == 3 * ONE
    assert moved(f"%u = ({X}, {gathered}) all-gather-start(%x), {groups}, dimensions={{0}}") == 3 * ONE
    assert moved(f"%u = {X} all-reduce-start(%x), {groups}, to_apply=%add", add=add) == 2 * ONE
    inside = f"%a = {X} parameter(0)\nROOT %g = {gathered} all-gather(%a), {groups}, dimensions={{0}}"
    assert moved(f"%u = (({X}), {gathered}, u32[]{{:S(2)}}) call-start(%x), to_apply=%f", f=inside) == 3 * ONE
    host = 'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}'
    assert moved(f"%k = token[] after-all()\n%u = ({X}, u32[], token[]) send(%x, %k), {host}") == ONE


def test_kernels_move_operands_and_results():
    assert moved(f'%u = {X} custom-call(%x, %v, %slice), custom_call_target="tpu_custom_call"') == 3 * ONE


def test_a_loop_is_no_unit():
    body = "ROOT %p = (s32[]) parameter(0)"
    known = 'backend_config={"known_trip_count":{"n":"2"}}'
    line = f"%t = (s32[]) tuple(%i)\n%u = (s32[]) while(%t), condition=%f, body=%f, {known}"
    with pytest.raises(ProgramTextError, match="is no unit"):
        moved(line, f=body)


def test_a_fusion_of_a_tuple_is_an_error():
    line = f"%t = ({X}, {X}) tuple(%x, %x)\n%u = {X} fusion(%t), kind=kLoop, calls=%f" + cycles(1)
    with pytest.raises(ProgramTextError, match="%t of %main: a fusion reads its tuple"):
        moved(line, f=f"%p = ({X}, {X}) parameter(0)\nROOT %g = {X} get-tuple-element(%p), index=0")


def test_layers_of_the_tpu(tpu_programs):
    """Each of five turns keeps 256 x 128 inputs in the stack and reads a weight of 128 x 128, both bfloat16."""
    found = read_program(tpu_programs["layers"]["text"])
    body = next(each for each, times in found.executed_computations() if times == 5)
    assert sum(bytes_moved(found, each) for each, _ in found.executions(body)) == 2 * (256 * 128 + 128 * 128)


@pytest.mark.parametrize("offload", ["OFFLOAD_DATA_FORMATTING", "OFFLOAD_GATHER"])
def test_what_the_sparse_cores_copy_is_read_and_written_beside_compute(offload):
    large, rows, token = "bf16[4096,128]{1,0:T(8,128)(2,1)}", "bf16[64,128]{1,0:T(8,128)(2,1)}", "token[]"
    start = (
        f'%s = (({large}, {token}), {rows}) call-start(%big, %ready), async_execution_thread="sparsecore", '
        f'to_apply=%moving, backend_config={{"sparse_core_config":{{"offload":"{offload}"}}}}'
    )
    lines = [f"%big = {large} parameter(0)", f"%ready = {token} after-all()", start, f"%d = {rows} call-done(%s)"]
    moving = f"%x = {large} parameter(0)\nROOT %c = {rows} copy(%x)"
    found = program(moving=moving, main="\n".join([*lines, f"ROOT %last = {rows} bitcast(%d)"]))
    begun, ended = found.entry.by_name["s"], found.entry.by_name["d"]
    assert (found.cost(begun), found.cost(ended)) == (Cost.COPY, Cost.WAIT)
    assert bytes_moved(found, begun) == 2 * 64 * 128 * 2
    assert bytes_moved(found, ended) == 0
