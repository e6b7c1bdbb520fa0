"""No program passes but by being right, whatever it answers, patches, prints, writes or ends."""

import copy
import dataclasses

import pytest
from forgeries import FORGERIES
from test_python_judge import calls, expected, with_tests

from sc2jax.evaluation.judging import checks, python_judge
from sc2jax.evaluation.judging.cases import CallsCase, Case, ExpressionCase, NumberCase
from sc2jax.evaluation.verdicts import Verdict

SECONDS = 1.0
PAIRS = [((1,), 2.5), ((2,), [1, 2, 3]), (("a", {}), "abc"), (([3],), {"a": 1}), ((5,), True), ((6,), "x" * 100_000)]
RIGHT = f"""
answers = iter({[value for _, value in PAIRS[:-1]]!r} + ['x' * 100_000])
def NAME(*_):
    return next(answers)
"""
CHECK = """
import copy, math
def check(g):
    row = [[3, 1, 2], [-6.0, 11.0, -6.0, 1.0]]
    assert abs(g(1) - 2.5) < 1e-6
    assert all(each == wanted for each, wanted in zip(g(row[0]), [1, 2, 3], strict=True))
    assert g("a", {}) == "abc" and len(g([3])) == 1 and g(5) is True
    assert math.isclose(len(g(6)), 100_000)
    assert math.fabs(poly(row[1], g(copy.deepcopy(row[1])))) < 1e-4
"""
POLY = """
import math
def poly(xs, x):
    return sum(math.pow(x, power) * each for power, each in enumerate(xs))
"""
ZERO = [(([-6.0, 11.0, -6.0, 1.0],), 1.0), (([-4.0, 1.0],), 4.0)]


def run_in_expression(program: str) -> str:
    return f"(exec({program!r}, globals()), NAME(1))[1]"


def cases(program: str) -> dict[str, Case]:
    """A case of each kind, whose program it is."""
    as_f = program.replace("NAME", "f")
    return {
        "calls": calls(as_f, PAIRS, atol=1e-6),
        "zeros": CallsCase(program.replace("NAME", "find_zero"), "find_zero", {"plus": expected(ZERO, atol=1e-4)}),
        "tests": with_tests(as_f, CHECK, helpers=POLY, check="check", seconds=SECONDS),
        "number": NumberCase(program.replace("NAME", "solution"), 2.5, SECONDS),
        "input": ExpressionCase(f"f({run_in_expression(program)})", "def f(x):\n    return [x]", "[2.5]", SECONDS),
        "output": ExpressionCase(run_in_expression(program), "", "2.5", SECONDS),
    }


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    """So that what waits for ever is soon done with."""
    monkeypatch.setattr(python_judge, "CALL_SECONDS", SECONDS)
    monkeypatch.setattr(python_judge, "LOAD_SECONDS", SECONDS)
    monkeypatch.setattr(python_judge, "_COMPARE_SECONDS", SECONDS)


RIGHT_OF = {
    "tests": RIGHT.replace("+ ['x' * 100_000]", "+ ['x' * 100_000, 1.0]"),
    "zeros": "def NAME(xs):\n    return -xs[0] / xs[1] if len(xs) == 2 else 3.0\n",
}
KINDS = list(cases(""))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_right_passes_where_forgeries_are_tried(judge, kind):
    assert judge.judge(cases(RIGHT_OF.get(kind, RIGHT))[kind]).verdict == Verdict.PASSED


@pytest.mark.parametrize(("kind", "forgery"), [(KINDS[at % len(KINDS)], name) for at, name in enumerate(FORGERIES)])
def test_a_forgery_does_not_pass(judge, kind, forgery):
    verdict = judge.judge(cases(FORGERIES[forgery])[kind]).verdict
    assert verdict not in (Verdict.PASSED, Verdict.INFRASTRUCTURE)


@pytest.mark.slow
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_passes_in_any_kind_of_case(judge, kind, forgery):
    verdict = judge.judge(cases(FORGERIES[forgery])[kind]).verdict
    assert verdict not in (Verdict.PASSED, Verdict.INFRASTRUCTURE)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "forgery"), [(KINDS[at % len(KINDS)], name) for at, name in enumerate(FORGERIES)])
def test_no_forgery_passes_on_a_weaker_rung(weaker_judge, kind, forgery):
    verdict = weaker_judge.judge(cases(FORGERIES[forgery])[kind]).verdict
    assert verdict not in (Verdict.PASSED, Verdict.INFRASTRUCTURE)


def test_a_second_try_of_a_large_answer_does_not_count(judge):
    """The digest of another value is claimed, and the right one is sent when it turns out that it was not."""
    pairs = [((), "x" * 100_000)]
    forged = FORGERIES["a second try"].replace("NAME", "f").replace("(b'+2.5', b", "(b").replace("'\"')", "'\"',)")
    judged = judge.judge(calls(forged, pairs))
    assert (judged.verdict, "call 0" in judged.detail) == (Verdict.WRONG, True)
    assert judge.judge(calls("def f():\n    return 'x' * 100_000", pairs)).verdict == Verdict.PASSED


def test_an_empty_answer_is_no_digest(judge):
    group = dataclasses.replace(expected([((), "x" * 100_000)]), values=(b"",))
    program = FORGERIES["no answers"].replace("NAME", "f")
    for word in ("b'+'", "b'#'", "b''"):
        forged = program.replace("    frame(b'')\n", f"    frame({word})\n")
        assert judge.judge(CallsCase(forged, "f", {"base": group})).verdict == Verdict.WRONG


def test_one_answer_more_than_there_are_calls_is_wrong(judge):
    program = FORGERIES["no answers"].replace("NAME", "f").replace("    frame(b'')\n", "    frame(b'+2\\n+2')\n")
    assert judge.judge(calls(program, [((), 2)])).verdict == Verdict.WRONG


def test_a_predicted_input_is_no_object_that_does_what_the_function_wants(judge):
    case = ExpressionCase("f('abc')", "def f(x):\n    return x.upper()", "'ABC'")
    assert judge.judge(case).verdict == Verdict.PASSED
    forged = "f(type('A', (), {'upper': lambda _: 'ABC'})())"
    assert judge.judge(dataclasses.replace(case, expression=forged)).verdict == Verdict.WRONG


def test_a_list_is_no_tuple_however_large(judge):
    pairs = [((), tuple(range(50_000)))]
    assert judge.judge(calls("def f():\n    return list(range(50_000))", pairs, atol=1e-6)).verdict == Verdict.WRONG


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [checks.empty, checks.forged])
def test_the_answers_that_are_tried_before_each_run_do_not_pass(judge, kind, make):
    case = make(copy.deepcopy(cases(RIGHT_OF.get(kind, RIGHT))[kind]))
    assert judge.judge(case).verdict not in (Verdict.PASSED, Verdict.INFRASTRUCTURE)
