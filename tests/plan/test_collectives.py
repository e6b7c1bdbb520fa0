"""Collectives in each form in which the TPU's compiler gives them, and what is executed meanwhile."""

import pytest
from program_texts import (
    CARRIED,
    GATHER,
    GROUPS,
    SEMAPHORE,
    SHARD,
    START,
    STARTED,
    WHOLE,
    carried_on,
    cycles,
    handed,
    parts_of,
    program,
)

from sc2jax.plan.collectives import Collective, collectives_of
from sc2jax.plan.hlo import Cost, Program, read_program
from sc2jax.plan.hlo_text import ProgramTextError

BYTES = 16 * 128 * 2
GROUPED = ((0, 1, 2, 3), (4, 5, 6, 7))
ADD = "%x = bf16[] parameter(0)\nROOT %a = bf16[] add(%x, %x)"
PARAMETERS = f"%shard = {SHARD} parameter(0)\n%whole = {WHOLE} parameter(1)"
WORK = f"%busy = {WHOLE} negate(%whole)" + cycles(77)
VIEW = f"%view = {WHOLE} bitcast(%whole)"


def read(*lines: str, **computations: str) -> tuple[Program, list[Collective]]:
    body = "\n".join([PARAMETERS, *lines, f"ROOT %last = {SHARD} bitcast(%shard)"])
    found = program(add=ADD, **computations, main=body)
    return found, list(collectives_of(found, found.entry))


def one(*lines: str, **computations: str) -> Collective:
    (collective,) = read(*lines, **computations)[1]
    return collective


def sizes(collective: Collective) -> tuple[str, int, int]:
    return collective.kind, collective.operand_bytes, collective.result_bytes


def names(instructions) -> list[str]:
    return [each.name for each in instructions]


@pytest.mark.parametrize(
    ("line", "kind", "given", "gotten"),
    [
        (f"%c = {WHOLE} all-gather(%shard), {GROUPS}, dimensions={{0}}", "all-gather", 1, 4),
        (f"%c = {SHARD} reduce-scatter(%whole), {GROUPS}, dimensions={{0}}, to_apply=%add", "reduce-scatter", 4, 1),
        (f"%c = {WHOLE} all-reduce(%whole), {GROUPS}, to_apply=%add", "all-reduce", 4, 4),
        (f"%c = ({WHOLE}, {SHARD}) all-reduce(%whole, %shard), {GROUPS}, to_apply=%add", "all-reduce", 5, 5),
        (f"%c = {WHOLE} all-to-all(%whole), {GROUPS}, dimensions={{0}}", "all-to-all", 4, 4),
    ],
)
def test_collectives_that_are_waited_for(line, kind, given, gotten):
    found = one(line, WORK)
    assert sizes(found) == (kind, given * BYTES, gotten * BYTES)
    assert (found.groups, found.start, found.between, found.carriers) == (GROUPED, found.done, (), ())
    assert not (found.asynchronous or found.on_sparse_core or found.between_slices)


@pytest.mark.parametrize(
    ("start", "done", "kind", "given", "gotten"),
    [
        (f"({SHARD}, {WHOLE}) all-gather-start(%shard), {GROUPS}", f"{WHOLE} all-gather-done", "all-gather", 1, 4),
        (f"{WHOLE} all-reduce-start(%whole), {GROUPS}, to_apply=%add", f"{WHOLE} all-reduce-done", "all-reduce", 4, 4),
    ],
)
def test_a_start_and_a_done_with_what_is_between(start, done, kind, given, gotten):
    found = one(f"%s = {start}", VIEW, WORK, f"%d = {done}(%s)", WORK.replace("busy", "later"))
    assert sizes(found) == (kind, given * BYTES, gotten * BYTES)
    assert (found.start.name, found.done.name, names(found.between)) == ("s", "d", ["busy"])
    assert found.asynchronous and found.carriers == ()


def test_a_pair_that_hides_nothing_has_nothing_between():
    found = one(
        f"%s = ({SHARD}, {WHOLE}) all-gather-start(%shard), {GROUPS}", VIEW, f"%d = {WHOLE} all-gather-done(%s)"
    )
    assert found.asynchronous and found.between == ()


def test_a_collective_permute_has_pairs():
    semaphore = "u32[]{:S(2)}"
    found = one(
        f"%s = ({SHARD}, {SHARD}, {semaphore}, {semaphore}) collective-permute-start(%shard), "
        "source_target_pairs={{0,1},{1,0}}",
        WORK,
        f"%d = {SHARD} collective-permute-done(%s)",
    )
    assert (*sizes(found), found.groups) == ("collective-permute", BYTES, BYTES, ((0, 1), (1, 0)))


@pytest.mark.parametrize(("opcode", "role"), [("call", "to_apply"), ("async", "calls")])
def test_a_computation_of_its_own_on_the_sparse_core(opcode, role):
    scattered = f"""%token = token[] parameter(1)
    %x = {WHOLE} parameter(0)
    ROOT %r = {SHARD} reduce-scatter(%x), {GROUPS}, dimensions={{0}}, to_apply=%add"""
    found = one(
        '%ready = token[] custom-call(), custom_call_target="PrepareAsyncCallDone"',
        f"%s = (({WHOLE}, token[]), {SHARD}) {opcode}-start(%whole, %ready), {role}=%scattered, "
        'async_execution_thread="sparsecore"',
        WORK,
        f"%d = {SHARD} {opcode}-done(%s)",
        scattered=scattered,
    )
    assert (*sizes(found), found.groups) == ("reduce-scatter", 4 * BYTES, BYTES, GROUPED)
    assert found.on_sparse_core and names(found.between) == ["busy"]


def test_a_fusion_of_an_all_reduce_and_a_slice_is_a_reduce_scatter():
    reduced = f"""%x = {WHOLE} parameter(0)
    %all = {WHOLE} all-reduce(%x), {GROUPS}, to_apply=%add
    %zero = s32[] constant(0)
    ROOT %s = {SHARD} dynamic-slice(%all, %zero, %zero), dynamic_slice_sizes={{16,128}}"""
    found = one(f"%f = {SHARD} fusion(%whole), kind=kCustom, calls=%reduced", reduced=reduced)
    assert (*sizes(found), found.groups) == ("reduce-scatter", 4 * BYTES, BYTES, GROUPED)
    assert not found.asynchronous


def test_a_collective_that_fusions_carry_on():
    lines = [START, *carried_on("one", "s", 0, 1, 2, 3), WORK, *carried_on("two", "one", 1, 2, 4, 5)]
    end = f"%d = {WHOLE} fusion({handed('two')}), kind=kCustom, calls=%ending"
    found, (collective,) = read(*lines, *parts_of("two", 1, 2, 4, 5), end, **CARRIED)
    assert (*sizes(collective), collective.groups) == ("all-gather", BYTES, 4 * BYTES, GROUPED)
    assert (collective.start.name, collective.done.name) == ("s", "d")
    assert names(collective.between) == ["one", "busy", "two"]
    assert names(collective.carriers) == ["one", "two"]
    costs = {each.name: found.cost(each) for each, _ in found.executions()}
    assert costs == {
        "s": Cost.COLLECTIVE,
        "one": Cost.CYCLES,
        "busy": Cost.CYCLES,
        "two": Cost.CYCLES,
        "d": Cost.WAIT,
    }


def test_two_at_once_are_told_apart():
    lines = [START, START.replace("%s =", "%q ="), *parts_of("s", 0, 1, 2, 3), *parts_of("q", 0, 1, 2, 3)]
    ends = [f"%d{each} = {WHOLE} fusion({handed(each)}), kind=kCustom, calls=%ending" for each in "qs"]
    _, found = read(*lines, ends[0], WORK, ends[1], **CARRIED)
    assert [(each.start.name, each.done.name, names(each.between)) for each in found] == [
        ("s", "ds", ["q", "dq", "busy"]),
        ("q", "dq", []),
    ]


def test_the_way_is_followed_by_semaphores_and_not_by_other_operands():
    lines = [START, *carried_on("one", "s", 0, 1, 2, 3), *parts_of("one", 1, 2, 4, 5)]
    end = f"%d = {WHOLE} fusion(%shard, %one.b, %one.c, %one.d), kind=kCustom, calls=%ending"
    _, (found,) = read(*lines, end, **CARRIED)
    assert (found.start.name, names(found.carriers)) == ("s", ["one"])


def test_a_semaphore_that_a_fusion_makes_itself_is_no_way():
    lines = [START, *carried_on("one", "s", 0, 1, 2, 3), *parts_of("one", 1, 2, 4, 5)]
    end = f"%d = {WHOLE} fusion({handed('one')}), kind=kCustom, calls=%ending"
    made = CARRIED["carrying"].replace("%g, %number, %sem)", "%g, %number, %made)")
    made = made.replace("ROOT", f"%made = {SEMAPHORE} negate(%sem)\n    ROOT")
    with pytest.raises(ProgramTextError, match="fusion %d of %main: what it ends is not found"):
        read(*lines, end, **(CARRIED | {"carrying": made}))


SEND = 'is_host_transfer=true, frontend_attributes={{_xla_host_transfer_handler_name="xla_megascale_runtime"{}}}'
MEETING = ',_xla_host_transfer_rendezvous="{}",_xla_megascale_transfer_type="ALL_REDUCE"'


def exchange(name: str, where: str) -> tuple[str, str]:
    end = SEND.format(MEETING.format(where))
    return (
        f"%send.{name} = ({WHOLE}, u32[], token[]) send(%whole, %token), channel_id=2, {end}",
        f"%recv.{name} = ({WHOLE}, u32[], token[]) recv(%token), channel_id=1, {end}",
    )


def ended(name: str) -> tuple[str, str]:
    return (
        f"%send-done.{name} = token[] send-done(%send.{name}), {SEND.format('')}",
        f"%recv-done.{name} = ({WHOLE}, token[]) recv-done(%recv.{name}), {SEND.format('')}",
    )


def test_an_exchange_between_slices():
    (send1, recv1), (send2, recv2) = exchange("a", "all-reduce.1_0"), exchange("b", "all-reduce.2_0")
    _, found = read("%token = token[] after-all()", send1, recv2, send2, recv1, WORK, *ended("b"), *ended("a"))
    assert [sizes(each) for each in found] == [("all-reduce", 4 * BYTES, 4 * BYTES)] * 2
    assert [(each.start.name, each.done.name) for each in found] == [
        ("send.a", "recv-done.a"),
        ("send.b", "recv-done.b"),
    ]
    assert [[array.element_type for array in each.results] for each in found] == [["bf16"]] * 2
    assert all(each.between_slices and each.asynchronous and each.groups == () for each in found)
    assert "busy" in names(found[0].between)


FORMS_NOT_KNOWN = {
    "no end": ([f"%s = ({SHARD}, {WHOLE}) all-gather-start(%shard), {GROUPS}"], "nothing in its computation ends it"),
    "no start": (
        [*parts_of("q", 0, 1, 2, 3), f"%d = {WHOLE} fusion({handed('q')}), kind=kCustom, calls=%ending"],
        "what it ends is not found",
    ),
    "a fusion of another kind": (
        [f"%f = {WHOLE} fusion(%shard), kind=kLoop, calls=%gathering"],
        "a collective in a form that is not known",
    ),
    "two in one": ([f"%f = {WHOLE} fusion(%shard), kind=kCustom, calls=%twice"], "several collectives: g, h"),
    "groups": ([f"%c = {WHOLE} all-gather(%shard), replica_groups=@all"], "groups of devices in a form"),
    "no send": (
        ["%token = token[] after-all()", exchange("a", "x")[1], ended("a")[1]],
        "nothing in its computation is sent",
    ),
    "another exchange": (
        [
            "%token = token[] after-all()",
            *(each.replace("ALL_REDUCE", "NEW") for each in exchange("a", "x")),
            *ended("a"),
        ],
        "the exchange 'new' between slices is not known",
    ),
}


@pytest.mark.parametrize("name", FORMS_NOT_KNOWN)
def test_forms_that_are_not_known_are_errors(name):
    lines, what = FORMS_NOT_KNOWN[name]
    given = f"%q = {STARTED} parameter(2)"
    computations = CARRIED | {
        "gathering": f"%x = {SHARD} parameter(0)\nROOT %g = {GATHER}",
        "twice": f"%x = {SHARD} parameter(0)\n%g = {GATHER}\nROOT %h = {GATHER}",
    }
    with pytest.raises(ProgramTextError, match=rf"line \d+, .*{what}"):
        read(given, *lines, **computations)


def test_collectives_of_the_tpu(tpu_programs):
    """A weight sharded over pairs is gathered, and its gradient summed over all four devices; see tpu_programs.py."""
    found = read_program(tpu_programs["sharded"]["text"])
    gather, reduce = collectives_of(found, found.entry)
    weight = 512 * 512 * 2
    assert (*sizes(gather), gather.groups) == ("all-gather", weight // 2, weight, ((0, 1), (2, 3)))
    assert (*sizes(reduce), reduce.groups) == ("all-reduce", weight, weight, ((0, 1, 2, 3),))
    found = read_program(tpu_programs["permuted"]["text"])
    (permute,) = collectives_of(found, found.entry)
    assert (*sizes(permute), permute.groups) == (
        "collective-permute",
        256 * 512 * 2,
        256 * 512 * 2,
        ((0, 1), (1, 2), (2, 3), (3, 0)),
    )
    assert permute.asynchronous and permute.between == ()
