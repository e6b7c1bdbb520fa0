"""How often loops turn, against a Python loop that does what the text says, and against XLA's own count."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_texts import program

from sc2jax.plan.hlo import Program, read_program
from sc2jax.plan.hlo_text import ProgramTextError


def loop(start: int | str, bound: str, direction: str, step: str, **more: str) -> Program:
    """A loop whose condition and body compute `bound` and `step` by the lines given."""
    return program(
        condition=f"""%p = (s32[], f32[8], s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        {bound}
        ROOT %lt = pred[] compare(%i, %bound), direction={direction}""",
        body=f"""%p = (s32[], f32[8], s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        %x = f32[8] get-tuple-element(%p), index=1
        %n = s32[] get-tuple-element(%p), index=2
        {step}
        ROOT %t = (s32[], f32[8], s32[]) tuple(%next, %x, %n)""",
        main=f"""%x = f32[8] parameter(0)
        %start = s32[] constant({start})
        %copied = s32[] copy(%start)
        %five = s32[] constant(5)
        %t = (s32[], f32[8], s32[]) tuple(%copied, %x, %five)
        ROOT %w.7 = (s32[], f32[8], s32[]) while(%t), condition=%condition, body=%body""",
        **more,
    )


def trips(found: Program) -> int:
    return found.trips(found.entry.root)


def constant(value: int, name: str = "bound") -> str:
    return f"%{name} = s32[] constant({value})"


def added(value: int) -> str:
    return f"{constant(value, 'one')}\n%next = s32[] add(%i, %one)"


COMPARE = {"LT": int.__lt__, "LE": int.__le__, "GT": int.__gt__, "GE": int.__ge__}


@given(st.integers(-5, 20), st.integers(-5, 20), st.sampled_from(sorted(COMPARE)), st.integers(1, 4))
def test_trips_are_those_of_the_loop(start, bound, direction, step):
    step = step if direction in ("LT", "LE") else -step
    expected = next(n for n in itertools.count() if not COMPARE[direction](start + n * step, bound))
    assert trips(loop(start, constant(bound), direction, added(step))) == expected


def test_a_bound_that_is_carried():
    carried = "%bound = s32[] get-tuple-element(%p), index=2"
    assert trips(loop(1, carried, "LT", added(1))) == 4


def test_a_step_that_is_subtracted():
    subtracted = "%two = s32[] constant(2)\n%next = s32[] subtract(%i, %two)"
    assert trips(loop(9, constant(0), "GT", subtracted)) == 5


def test_a_step_whose_constant_comes_first():
    assert trips(loop(0, constant(7), "LT", "%one = s32[] constant(1)\n%next = s32[] add(%one, %i)")) == 7


def test_a_comparison_whose_constant_comes_first_and_with_an_offset():
    found = program(
        condition="""%p = (s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        %two = s32[] constant(2)
        %later = s32[] add(%i, %two)
        %n = s32[] constant(10)
        ROOT %gt = pred[] compare(%n, %later), direction=GT""",
        body="""%p = (s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        %one = s32[] constant(1)
        %next = s32[] add(%i, %one)
        ROOT %t = (s32[]) tuple(%next)""",
        main="""%zero = s32[] constant(0)
        %t = (s32[]) tuple(%zero)
        ROOT %w = (s32[]) while(%t), condition=%condition, body=%body""",
    )
    assert trips(found) == 8


def test_condition_and_step_inside_of_fusions():
    found = program(
        compared="""%a = s32[] parameter(0)
        %b = s32[] constant(6)
        ROOT %lt = pred[] compare(%a, %b), direction=LT""",
        stepped="""%a = s32[] parameter(1)
        %other = s32[] parameter(0)
        ROOT %sum = s32[] add(%a, %other)""",
        condition="""%p = (s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        ROOT %f = pred[] fusion(%i), kind=kLoop, calls=%compared""",
        body="""%p = (s32[]) parameter(0)
        %i = s32[] get-tuple-element(%p), index=0
        %two = s32[] constant(2)
        %next = s32[] fusion(%two, %i), kind=kLoop, calls=%stepped
        ROOT %t = (s32[]) tuple(%next)""",
        main="""%zero = s32[] constant(0)
        %t = (s32[]) tuple(%zero)
        ROOT %w = (s32[]) while(%t), condition=%condition, body=%body""",
    )
    assert trips(found) == 3


@pytest.mark.parametrize(
    "found",
    [
        loop(0, constant(7), "NE", added(1)),
        loop(0, constant(7), "LT", added(0)),
        loop(0, constant(7), "LT", added(-1)),
        loop(7, constant(0), "GT", added(1)),
        loop(0, constant(7), "LT", "%two = s32[] constant(2)\n%next = s32[] multiply(%i, %two)"),
        loop(0, constant(7), "LT", "%two = s32[] constant(2)\n%next = s32[] subtract(%two, %i)"),
        loop(0, constant(7), "LT", "%next = s32[] get-tuple-element(%p), index=2"),
        loop(0, "%q = s32[] partition-id()\n%bound = s32[] copy(%q)", "LT", added(1)),
        loop("0.5", constant(7), "LT", added(1)),
    ],
)
def test_turns_that_cannot_be_told_are_an_error_that_names_the_loop(found):
    with pytest.raises(ProgramTextError, match=r"while %w\.7 of %main: its turns cannot be told"):
        trips(found)


def test_a_bound_that_changes_is_an_error():
    changed = "%one = s32[] constant(1)\n%next = s32[] add(%i, %one)"
    found = loop(0, "%bound = s32[] get-tuple-element(%p), index=2", "LT", changed)
    text = "\n".join(each.text for each in found.computations["body"].instructions)
    assert "tuple(%next, %x, %n)" in text
    other = program(
        **{
            name: "\n".join(
                each.text.replace("tuple(%next, %x, %n)", "tuple(%next, %x, %next)")
                for each in computation.instructions
            )
            for name, computation in found.computations.items()
        }
    )
    with pytest.raises(ProgramTextError, match="cannot be told"):
        trips(other)


def test_the_compilers_own_count_comes_first():
    found = program(
        condition="%p = (f32[]) parameter(0)\nROOT %c = pred[] constant(true)",
        body="ROOT %p = (f32[]) parameter(0)",
        main="""%a = (f32[]) parameter(0)
        ROOT %w = (f32[]) while(%a), condition=%condition, body=%body, """
        'backend_config={"known_trip_count":{"n":"11"}}',
    )
    assert trips(found) == 11


def test_scans_of_the_cpu_turn_as_often_as_they_were_written():
    import jax
    import jax.numpy as jnp

    def nested(x):
        def outer(x, _):
            return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, None, length=3)[0], None

        return jax.lax.scan(outer, x, None, length=4)[0]

    text = jax.jit(nested).lower(jax.ShapeDtypeStruct((8,), jnp.float32)).compile().as_text()
    assert text
    noted = [times for _, times in read_program(text).executed_computations()]
    # Bodies may be calls of further computations.
    assert set(noted) == {1, 4, 12}


def test_a_scan_of_the_tpu(tpu_programs):
    """Five layers in `layers`; the TPU's compiler does not note the count."""
    text = tpu_programs["layers"]["text"]
    assert "known_trip_count" not in text
    assert [times for _, times in read_program(text).executed_computations()] == [1, 5]
