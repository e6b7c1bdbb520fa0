"""Which instructions are executed how often, and what says how long each takes."""

import pytest
from program_texts import cycles, program, program_text

from sc2jax.plan.hlo import Cost, read_program
from sc2jax.plan.hlo_text import ProgramTextError

CONDITION = """%p = (s32[], f32[8,128]) parameter(0)
    %i = s32[] get-tuple-element(%p), index=0
    %n = s32[] constant({turns})
    ROOT %lt = pred[] compare(%i, %n), direction=LT"""
BODY = """%p = (s32[], f32[8,128]) parameter(0)
    %i = s32[] get-tuple-element(%p), index=0
    %x = f32[8,128] get-tuple-element(%p), index=1
    {work}
    %one = s32[] constant(1)
    %next = s32[] add(%i, %one)
    ROOT %t = (s32[], f32[8,128]) tuple(%next, %y)"""
LOOP = """%zero = s32[] constant(0)
    %t{n} = (s32[], f32[8,128]) tuple(%zero, {x})
    %w{n} = (s32[], f32[8,128]) while(%t{n}), condition=%{condition}, body=%{body}
    %{y} = f32[8,128] get-tuple-element(%w{n}), index=1"""


def work(name: str, of: str, number: int) -> str:
    return f"%{name} = f32[8,128] negate(%{of}){cycles(number)}"


def looped(n: str, x: str, y: str, condition: str, body: str) -> str:
    return LOOP.format(n=n, x=f"%{x}", y=y, condition=condition, body=body).replace("%zero", f"%zero{n}")


NESTED = program(
    inner_condition=CONDITION.format(turns=3),
    inner=BODY.format(work=work("y", "x", 10)),
    outer_condition=CONDITION.format(turns=5),
    outer=BODY.format(
        work="\n".join(
            [work("before", "x", 100), looped("3", "before", "z", "inner_condition", "inner"), work("y", "z", 1)]
        )
    ),
    main="\n".join(
        [
            "%a = f32[8,128] parameter(0)",
            work("first", "a", 1000),
            looped("1", "first", "b", "outer_condition", "outer"),
            looped("2", "b", "c", "inner_condition", "inner"),
            work("last", "c", 2000).replace("%last", "ROOT %last"),
        ]
    ),
)


def test_units_in_order_with_the_turns_of_all_loops_around_them():
    found = [(each.name, each.computation, times) for each, times in NESTED.executions()]
    assert found == [
        ("first", "main", 1),
        ("before", "outer", 5),
        ("y", "inner", 15),
        ("y", "outer", 5),
        ("y", "inner", 3),
        ("last", "main", 1),
    ]
    assert sum((each.estimated_cycles or 0) * times for each, times in NESTED.executions()) == 3685


def test_units_of_one_computation_count_from_it():
    outer = NESTED.computations["outer"]
    assert [(each.name, times) for each, times in NESTED.executions(outer)] == [("before", 1), ("y", 3), ("y", 1)]


def test_computations_that_are_executed():
    found = [(each.name, times) for each, times in NESTED.executed_computations()]
    assert sorted(found) == [("inner", 3), ("inner", 15), ("main", 1), ("outer", 5)]
    assert found[0] == ("main", 1)


def conditional(one: str, two: str, **more: str):
    return program(
        one=f"%x = f32[8,128] parameter(0)\n{one}",
        two=f"%x = f32[8,128] parameter(0)\n{two}",
        called=f"%x = f32[8,128] parameter(0)\nROOT {work('y', 'x', 7)}",
        main="""%which = s32[] parameter(0)
        %a = f32[8,128] parameter(1)
        %b = f32[8,128] conditional(%which, %a, %a), branch_computations={%one, %two}
        ROOT %c = f32[8,128] call(%b), to_apply=%called""",
        **more,
    )


KERNEL = 'ROOT %k = f32[8,128] custom-call(%x), custom_call_target="tpu_custom_call"'


@pytest.mark.parametrize(
    ("one", "two", "taken"),
    [
        ("ROOT " + work("p", "x", 5), "ROOT " + work("q", "x", 6), "q"),
        ("ROOT " + work("p", "x", 6), "ROOT " + work("q", "x", 5), "p"),
        ("ROOT " + work("p", "x", 6), KERNEL, "k"),
        ("ROOT %p = f32[8,128] copy(%x)", "ROOT %q = f32[4,128] slice(%x), slice={[0:4],[0:128]}", "p"),
    ],
)
def test_of_a_conditional_the_costliest_branch_and_the_body_of_a_call(one, two, taken):
    assert [each.name for each, _ in conditional(one, two).executions()] == [taken, "y"]


def test_branches_may_be_named_true_and_false():
    text = program_text(
        one="ROOT %x = f32[8,128] parameter(0)",
        two=f"%x = f32[8,128] parameter(0)\nROOT {work('y', 'x', 1)}",
        main="""%which = pred[] parameter(0)
        %a = f32[8,128] parameter(1)
        ROOT %c = f32[8,128] conditional(%which, %a, %a), true_computation=%one, false_computation=%two""",
    )
    assert [each.name for each, _ in read_program(text).executions()] == ["y"]


A = "%a = f32[8,128]{1,0} parameter(0)"
V = "f32[8,128]{1,0:T(8,128)S(1)}"


@pytest.mark.parametrize(
    ("line", "cost"),
    [
        ("%u = f32[8,128] bitcast(%a)", Cost.FREE),
        ('%u = f32[8,128] custom-call(), custom_call_target="AllocateBuffer"', Cost.FREE),
        ('%u = u32[] custom-call(), custom_call_target="SliceId"', Cost.FREE),
        ('%u = f32[8,128] custom-call(%a), custom_call_target="ZeroCrop"', Cost.BYTES),
        ("%u = f32[8,128] negate(%a)" + cycles(3), Cost.CYCLES),
        ("%u = f32[8,128] negate(%a)" + cycles(0), Cost.CYCLES),
        ("%u = s32[] add(%i, %i)", Cost.FREE),
        ("%u = s32[1]{0} add(%one, %one)", Cost.FREE),
        ('%u = f32[8,128] custom-call(%a), custom_call_target="tpu_custom_call"', Cost.KERNEL),
        (f"%u = ({V}, f32[8,128], u32[]) copy-start(%a)", Cost.COPY),
        ("%u = f32[8,128] all-reduce(%a), replica_groups={{0,1}}, to_apply=%add", Cost.COLLECTIVE),
        ("%u = f32[8,128] all-reduce-start(%a), replica_groups={{0,1}}, to_apply=%add", Cost.COLLECTIVE),
        *(
            (f"%u = f32[8,128] {opcode}(%a)", Cost.BYTES)
            for opcode in (
                "concatenate",
                "copy",
                "dynamic-slice",
                "dynamic-update-slice",
                "gather",
                "reshape",
                "scatter",
                "slice",
                "sort",
                "transpose",
            )
        ),
        *((f"%u = (f32[8,128], f32[8,128]) {opcode}-start(%a)", Cost.COPY) for opcode in ("dynamic-slice", "slice")),
        ("%u = f32[8,128] fusion(%a, %i), kind=kCustom, calls=%gathered", Cost.BYTES),
        ("%u = f32[8,128] fusion(%a, %i), kind=kLoop, calls=%gathering", Cost.BYTES),
    ],
)
def test_what_says_how_long_a_unit_takes(line, cost):
    found = program(
        gathered="""%x = f32[8,128] parameter(0)
        %i = s32[] parameter(1)
        ROOT %g = f32[8,128] gather(%x, %i)""",
        gathering="""%x = f32[8,128] parameter(0)
        %i = s32[] parameter(1)
        ROOT %f = f32[8,128] fusion(%x, %i), kind=kLoop, calls=%gathered""",
        main=f"{A}\n%i = s32[] constant(1)\n%one = s32[1]{{0}} bitcast(%i)\n{line}\nROOT %r = f32[8,128] bitcast(%a)",
    )
    assert found.cost(found.entry.by_name["u"]) is cost


@pytest.mark.parametrize(
    "line",
    [
        "%u = f32[8,128] negate(%a)",
        "%u = f32[] reduce(%a), dimensions={0,1}",
        "%u = f32[8,128] fusion(%a), kind=kLoop, calls=%plain",
        "%u = s32[] fusion(%i), kind=kLoop, calls=%plain",
        '%u = f32[8,128] custom-call(%a), custom_call_target="Other"',
        '%u = s32[] custom-call(%i), custom_call_target="Other"',
        "%u = f32[8,128] no-such-thing(%a)",
        "%u = ((f32[8,128]), f32[8,128]) call-start(%a), to_apply=%plain",
        "%u = (f32[8,128], u32[], token[]) send(%a), is_host_transfer=true",
    ],
)
def test_a_cost_that_is_not_known_is_an_error_that_names_the_unit(line):
    found = program(
        plain="ROOT %x = f32[8,128] parameter(0)",
        main=f"{A}\n%i = s32[] constant(1)\n{line}\nROOT %r = f32[8,128] bitcast(%a)",
    )
    with pytest.raises(ProgramTextError, match=r"line \d+, [\w-]+ %u of %main: "):
        list(found.executions())


def test_a_text_without_one_entry_is_an_error():
    text = program_text(main="ROOT %a = f32[] parameter(0)")
    with pytest.raises(ProgramTextError, match="0 computations that are an ENTRY"):
        read_program(text.replace("ENTRY ", ""))


def test_a_computation_that_is_not_there_is_an_error():
    found = program(main="%a = f32[] parameter(0)\nROOT %c = f32[] call(%a), to_apply=%b")
    with pytest.raises(ProgramTextError, match="calls %b, which is not there"):
        list(found.executions())


def test_programs_of_the_tpu_have_a_cost_throughout(tpu_programs):
    for compiled in tpu_programs.values():
        found = read_program(compiled["text"])
        assert {found.cost(each) for each, _ in found.executions()} <= set(Cost) - {Cost.FREE}
