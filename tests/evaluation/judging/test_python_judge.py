"""Verdicts on programs that are right, wrong, slow, greedy, or end early, for each kind of case."""

import dataclasses
import math

import pytest
from forgeries import WITH_FRAMES

from sc2jax.evaluation.benchmark import Reference
from sc2jax.evaluation.judging import cases, python_judge
from sc2jax.evaluation.judging.cases import (
    CallsCase,
    Expected,
    ExpressionCase,
    FlawedCase,
    NumberCase,
    TextCase,
)
from sc2jax.evaluation.judging.gold import expected_of
from sc2jax.evaluation.judging.values import digest, encode
from sc2jax.evaluation.verdicts import Verdict


def expected(calls, *, atol=0.0, seconds=0.0):
    """What calls must return, given as pairs of arguments and value."""
    return Expected(
        tuple(encode(list(arguments)) for arguments, _ in calls),
        tuple(encode(value) for _, value in calls),
        tuple(digest(value) for _, value in calls),
        (atol,) * len(calls),
        (seconds,) * len(calls),
    )


def calls(program, pairs, **settings):
    """A case of calls of a function `f`."""
    return CallsCase(program, "f", {"base": expected(pairs, **settings)})


def with_tests(program, tests, *, helpers="", names=("f",), check="", seconds=3.0):
    """A case of a test program."""
    return cases.TestsCase(program, helpers, tests, names, check, seconds)


DOUBLE = [((1,), 2), ((5,), 10)]
RIGHT = {
    "calls": calls("def f(x):\n    return 2 * x", DOUBLE),
    "tests": with_tests("def f(x):\n    return 2 * x", "def check(g):\n    assert g(1) == 2", check="check"),
    "number": NumberCase("def solution():\n    return 7.5", 7.5),
    "input": ExpressionCase("f(3)", "def f(x):\n    return 2 * x", "6"),
    "output": ExpressionCase("[6, (1,)]", "", "[6, (1,)]"),
    "text": TextCase(" a b\n", "a b"),
}
WRONG = {
    "calls": calls("def f(x):\n    return 2 + x", DOUBLE),
    "tests": with_tests("def f(x):\n    return 3 * x", "def check(g):\n    assert g(1) == 2", check="check"),
    "number": NumberCase("def solution():\n    return 7.502", 7.5),
    "input": ExpressionCase("f(4)", "def f(x):\n    return 2 * x", "6"),
    "output": ExpressionCase("[6, [1]]", "", "[6, (1,)]"),
    "text": TextCase("a  b", "a b"),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_right_passes(judge, kind):
    assert judge.judge(RIGHT[kind]).verdict == Verdict.PASSED


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_does_not(judge, kind):
    assert judge.judge(WRONG[kind]).verdict == Verdict.WRONG


def test_what_cannot_be_run_is_wrong_for_its_reason(judge):
    judged = judge.judge(FlawedCase("it has a NUL"))
    assert (judged.verdict, judged.detail) == (Verdict.WRONG, "it has a NUL")


def body_cases(body, seconds=3.0):
    """The same function body for every kind of case that runs a program."""
    program = "import os, sys, time, signal\n" + "def {}(*_):\n    " + body
    return {
        "calls": calls(program.format("f"), [((1,), 2)]),
        "tests": with_tests(program.format("f"), "assert f(1) == 2", seconds=seconds),
        "number": NumberCase(program.format("solution"), 2.0, seconds),
    }


ENDINGS = {
    "exit": ("sys.exit(0)", Verdict.WRONG),
    "hard exit": ("os._exit(0)", Verdict.CRASHED),
    "abort": ("os.abort()", Verdict.CRASHED),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", Verdict.CRASHED),
    "refused": ("import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0); time.sleep(9)", Verdict.REFUSED),
    "memory": ("return bytearray(2 << 30)", Verdict.MEMORY),
    "exception": ("raise ValueError('no')", Verdict.WRONG),
    "deep recursion": ("return sys.modules['solution'].__dict__[sys._getframe().f_code.co_name]()", Verdict.WRONG),
}


@pytest.mark.parametrize("kind", ["calls", "tests", "number"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_is_told_by_its_verdict(judge, kind, ending):
    body, verdict = ENDINGS[ending]
    assert judge.judge(body_cases(body)[kind]).verdict == verdict


@pytest.mark.parametrize("program", ["import time\ntime.sleep(60)", "while True: pass"])
def test_a_program_that_never_has_defined_its_function_is_too_slow(judge, program):
    assert judge.judge(with_tests(program, "assert f(1)", seconds=0.3)).verdict == Verdict.TIMEOUT


@pytest.mark.parametrize("kind", ["tests", "number"])
def test_a_function_that_never_ends_is_too_slow(judge, kind):
    assert judge.judge(body_cases("while True: pass", 0.3)[kind]).verdict == Verdict.TIMEOUT


def test_tests_that_never_end_are_no_fault_of_the_judge(judge):
    case = with_tests("def f():\n    return True", "while f(): pass", seconds=0.5)
    assert judge.judge(case).verdict == Verdict.TIMEOUT


@pytest.mark.parametrize(
    "program", ["def f(:", "raise ValueError", "import nothing_of_this_name", "\0", "\ud800", "", "x = 1", "f = 3"]
)
@pytest.mark.parametrize("kind", ["calls", "tests"])
def test_a_program_without_the_function_is_wrong(judge, program, kind):
    case = {"calls": calls(program, DOUBLE), "tests": with_tests(program, "assert f(1) == 2")}[kind]
    assert judge.judge(case).verdict == Verdict.WRONG


def test_a_group_fails_with_those_before_it(judge):
    case = CallsCase("def f(x):\n    return x", "f", {"base": expected([((1,), 2)]), "plus": expected([((1,), 1)])})
    assert judge.judge(case).groups == {"base": Verdict.WRONG, "plus": Verdict.WRONG}
    swapped = dataclasses.replace(case, groups=dict(reversed(list(case.groups.items()))))
    judged = judge.judge(swapped)
    assert judged.groups == {"plus": Verdict.PASSED, "base": Verdict.WRONG}
    assert judged.verdict == Verdict.WRONG
    assert "base: call 0 with [1]: 1 in place of 2" in judged.detail


def test_each_call_counts(judge):
    pairs = [((number,), number) for number in range(3000)]
    assert judge.judge(calls("def f(x):\n    return x", pairs)).verdict == Verdict.PASSED
    for wrong in (0, 1500, 2999):
        judged = judge.judge(calls(f"def f(x):\n    return -1 if x == {wrong} else x", pairs))
        assert (judged.verdict, f"call {wrong} " in judged.detail) == (Verdict.WRONG, True)


def test_a_call_gets_its_own_arguments_each_time(judge):
    program = "def f(x):\n    x.append(1)\n    return len(x)"
    assert judge.judge(calls(program, [(([],), 1), (([],), 1)])).verdict == Verdict.PASSED


@pytest.mark.parametrize(("answer", "passes"), [("0.1 + 0.2", True), ("0.300001", False), ("'0.3'", False)])
def test_numbers_are_compared_with_the_tolerance(judge, answer, passes):
    case = calls(f"def f():\n    return {answer}", [((), 0.3)], atol=1e-6 / 2)
    assert (judge.judge(case).verdict == Verdict.PASSED) == passes


@pytest.mark.parametrize("value", [math.nan, [math.nan], (1.0, math.nan)])
def test_what_differs_from_itself_is_not_equal_to_it(judge, value):
    case = calls(f"from math import nan\ndef f():\n    return {value!r}", [((), value)], atol=1e-6)
    assert judge.judge(case).verdict == Verdict.WRONG


@pytest.mark.parametrize(
    "value",
    [
        "'x' * 100_000",
        "list(range(50_000))",
        "[('<', n, 1.5) for n in range(30_000)]",
        "set(range(50_000))",
        "{n: [n] for n in range(30_000)}",
    ],
)
def test_large_answers_are_compared_as_small_ones_are(judge, value):
    pairs = [((), eval(value)), ((), 1)]
    program = "seen = []\ndef f():\n    seen.append(1)\n    return {} if len(seen) == 1 else 1"
    assert judge.judge(calls(program.format(value), pairs)).verdict == Verdict.PASSED
    for other in (f"list({value})[1:]", f"[{value}]", f"[*{value}, set()]", f"[*{value}, float('nan')]"):
        judged = judge.judge(calls(program.format(other), pairs))
        assert (judged.verdict, "call 0" in judged.detail) == (Verdict.WRONG, True)


def test_a_large_answer_may_differ_by_the_tolerance(judge):
    values = [number / 7 for number in range(20_000)]
    close = "def f():\n    return [number / 7 + {} for number in range(20_000)]"
    for more, verdict in ((1e-8, Verdict.PASSED), (1e-3, Verdict.WRONG)):
        assert judge.judge(calls(close.format(more), [((), values)], atol=1e-6)).verdict == verdict


def test_a_large_answer_where_a_small_one_is_expected_is_wrong(judge):
    assert judge.judge(calls("def f():\n    return 'x' * 100_000", [((), "x")])).verdict == Verdict.WRONG


@pytest.mark.parametrize(("answer", "passes"), [("x", True), ("'+'", False), ("''", False), ("x + [1]", False)])
def test_what_is_too_large_for_a_text_is_compared_by_its_digest_alone(judge, answer, passes):
    pairs = [((), ["y" * 100] * 2000)]
    case = calls(f"x = ['y' * 100] * 2000\ndef f():\n    return {answer}", pairs)
    without = dataclasses.replace(case.groups["base"], values=(b"",))
    judged = judge.judge(dataclasses.replace(case, groups={"base": without}))
    assert judged.verdict == (Verdict.PASSED if passes else Verdict.WRONG)


def test_a_call_may_take_longer_if_the_solution_does(judge):
    slow = dataclasses.replace(expected([((0,), 0), ((1,), 1)]), seconds=(0.0, 3.0))
    program = f"import time\ndef f(x):\n    time.sleep({5 * judge.scale} * x)\n    return x"
    assert judge.judge(CallsCase(program, "f", {"base": slow})).verdict == Verdict.PASSED


def test_all_calls_may_take_as_long_as_the_solution_takes(judge, monkeypatch):
    monkeypatch.setattr(python_judge, "GROUP_SECONDS", 0.1)
    slow = expected([((), 1)], seconds=1.0)
    for seconds, verdict in ((1.5, Verdict.PASSED), (3.5, Verdict.TIMEOUT)):
        program = f"import time\ndef f():\n    time.sleep({seconds * judge.scale})\n    return 1"
        assert judge.judge(CallsCase(program, "f", {"base": slow})).verdict == verdict


def test_what_a_reference_returns_is_expected(candidates, judge):
    program = "def f(x, y=1):\n    return x / y if y else 'z' * 70_000\n"
    reference = Reference(program, "f", {"base": ((4,), (1, 3)), "plus": ((1, 0),)}, 0.0)
    found = expected_of(reference, candidates, 1.0)
    assert found["base"].values == (b"4.0", encode(1 / 3))
    assert found["base"].atols == (1e-6, 1e-6)
    assert (found["base"].digests, found["plus"].digests) == ((b"", b""), (digest("z" * 70_000),))
    assert judge.judge(CallsCase(program, "f", found)).verdict == Verdict.PASSED
    assert judge.judge(CallsCase(program.replace("70", "71"), "f", found)).groups == {
        "base": Verdict.PASSED,
        "plus": Verdict.WRONG,
    }


MUTATIONS = """
def check(g):
    row, table, some = [3, 1, 2], {"a": 1}, {1}
    assert g(row, table, some) is None
    assert row == [1, 2, 3], row
    assert table == {"b": [2]} and some == {2, 3}
"""


def test_what_a_candidate_does_to_its_arguments_is_done_to_those_of_the_tests(judge):
    program = "def f(row, table, some):\n    row.sort(); table.clear(); table['b'] = [2]; some ^= {1, 2, 3}"
    assert judge.judge(with_tests(program, MUTATIONS, check="check")).verdict == Verdict.PASSED
    untouched = "def f(row, table, some):\n    sorted(row)"
    assert judge.judge(with_tests(untouched, MUTATIONS, check="check")).verdict == Verdict.WRONG


def test_tests_have_the_benchmark_s_helpers_and_not_the_candidate_s(judge):
    helpers = "def twice(x):\n    return 2 * x\ndef f(x):\n    return twice(x)"
    tests = "def check(g):\n    assert g(4) == twice(4) and f(4) == 8"
    assert judge.judge(with_tests(helpers, tests, helpers=helpers, check="check")).verdict == Verdict.PASSED
    lying = "def twice(x):\n    return 0\ndef f(x):\n    return twice(x)"
    assert judge.judge(with_tests(lying, tests, helpers=helpers, check="check")).verdict == Verdict.WRONG


NODE = """
class Node:
    def __init__(self, value):
        self.value, self.left, self._hidden = value, None, 4

    def doubled(self, *, plus=0):
        return 2 * self.value + plus

def depth(node):
    return 0 if node is None else 1 + depth(node.left)
"""


def test_objects_of_the_candidate_s_classes_can_be_made_changed_and_handed_back(judge):
    setup = "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\n"
    tests = "assert depth(root) == 3\nassert root.left.value == 2 and root.doubled(plus=1) == 3 and root._hidden == 4"
    names = ("Node", "depth")
    assert judge.judge(with_tests(NODE, tests, helpers=setup, names=names)).verdict == Verdict.PASSED
    for wrong in ("assert depth(root) == 2", "assert root == 1", "assert root == Node(1)", "root.nothing"):
        assert judge.judge(with_tests(NODE, wrong, helpers=setup, names=names)).verdict == Verdict.WRONG


def test_an_object_of_the_tests_is_none_of_the_candidate_s(judge):
    tests = "root = Node(1)\nassert depth(root) == 1\nassert depth(lambda: 1) == 1"
    assert judge.judge(with_tests(NODE, tests, names=("Node", "depth"))).verdict == Verdict.WRONG


def test_how_an_object_is_copied_is_not_asked_of_the_candidate(judge):
    program = "class Any:\n    __getattr__ = __call__ = lambda *_: True\ndef f():\n    return Any()"
    tests = "import copy\nassert copy.deepcopy(f()) is not True and f().x is True"
    assert judge.judge(with_tests(program, tests)).verdict == Verdict.PASSED


def test_a_predicted_input_may_hold_a_function_and_the_names_of_the_program(judge):
    program = "numbers = [3, 1]\ndef f(values, do):\n    do(values)\n    return values"
    case = ExpressionCase("f(numbers[:], lambda row: row.sort())", program, "[1, 3]")
    assert judge.judge(case).verdict == Verdict.PASSED
    assert judge.judge(dataclasses.replace(case, expected="[3, 1]")).verdict == Verdict.WRONG


@pytest.mark.parametrize(
    ("answer", "passes"),
    [("'1\\n 42 '", True), ("42", True), ("'42\\n1'", False), ("''", False), ("float('nan')", False), ("[42]", False),
     ("10 ** 5000", False), ("True", False), ("41.9995", True)],
)  # fmt: skip
def test_the_last_line_of_what_would_be_printed_counts(judge, answer, passes):
    judged = judge.judge(NumberCase(f"def solution():\n    return {answer}", 42.0))
    assert judged.verdict == (Verdict.PASSED if passes else Verdict.WRONG)


def test_a_test_that_expects_an_exception_sees_it(judge):
    tests = "try:\n    f(1)\nexcept {}:\n    pass\nelse:\n    assert False"
    program = "class Own(KeyError): pass\ndef f(x):\n    raise Own('x')"
    assert judge.judge(with_tests(program, tests.format("LookupError"))).verdict == Verdict.PASSED
    assert judge.judge(with_tests(program, tests.format("ValueError"))).verdict == Verdict.WRONG


def test_names_of_builtins_can_be_under_test(judge):
    program = "def sum(x, y):\n    return x * y"
    assert judge.judge(with_tests(program, "assert sum(3, 4) == 12", names=("sum",))).verdict == Verdict.PASSED


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("return (2 * x for x in values)", Verdict.PASSED),
        ("return map(lambda x: 2 * x, values)", Verdict.PASSED),
        ("return dict.fromkeys(2 * x for x in values).values().mapping", Verdict.PASSED),
        ("import numpy; return 2 * numpy.array(values)", Verdict.PASSED),
        ("return (3 * x for x in values)", Verdict.WRONG),
        ("return iter(int, 1)", Verdict.MEMORY),
        ("return 7", Verdict.WRONG),
    ],
)
def test_what_gives_values_one_after_the_other_can_be_listed(judge, body, verdict):
    program = f"def f(values):\n    {body}"
    tests = "assert list(f([1, 2])) == [2, 4] and tuple(f([5])) == (10,) and 4 in f([2])"
    assert judge.judge(with_tests(program, tests, seconds=20)).verdict == verdict


def test_what_gives_anything_equals_nothing_else(judge):
    program = (
        "class Always:\n    def __iter__(self): return iter([self])\n    def __eq__(self, other): return True\n"
        "def f(values): return Always()"
    )
    assert judge.judge(with_tests(program, "assert list(f([1])) == [2]")).verdict == Verdict.WRONG


@pytest.mark.parametrize(
    "returned", ["iter(x)", "(each for each in x)", "filter(None, x)", "numpy.array(x)", "{1: 0, 2: 0}"]
)
def test_where_order_does_not_count_the_members_of_anything_do(judge, returned):
    def case(members):
        program = f"import numpy\ndef Diff(x):\n    return {returned}"
        return CallsCase(program, "Diff", {"base": expected([(([2, 1],), members)])})

    assert judge.judge(case([1, 2])).verdict == Verdict.PASSED
    assert judge.judge(case([1, 2, 3])).verdict == Verdict.WRONG


@pytest.mark.parametrize("returned", ["None", "1", "itertools.count()"])
def test_what_has_no_members_or_no_end_of_them_does_not_pass(judge, returned):
    program = f"import itertools\ndef Diff(x):\n    return {returned}"
    case = CallsCase(program, "Diff", {"base": expected([(([2, 1],), [1, 2])], seconds=0.01)})
    assert judge.judge(case).verdict in (Verdict.WRONG, Verdict.TIMEOUT, Verdict.MEMORY)


def test_more_lines_than_calls_are_counted_before_they_are_taken_apart(judge):
    program = f"{WITH_FRAMES}\ndef f(x):\n    frame(b'+1\\n' * (10 << 20))\n    return 2"
    assert judge.judge(calls(program, DOUBLE)).verdict == Verdict.WRONG
