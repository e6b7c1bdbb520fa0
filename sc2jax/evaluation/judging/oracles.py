"""When an answer counts as the expected one in HumanEval+ and MBPP+: evalplus' rules (evalplus 0.3.1, `evalplus.eval`).

An answer equals the canonical solution's, or where that is a number or a row of numbers is close to it; some tasks have
rules of their own. It needs numpy and the standard library alone, for the judge works inside a sandbox.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.evaluation.judging.values import Lookalike, unwrapped

FLOAT_TOLERANCE = 1e-6
"""The absolute tolerance from the first expected number with a fraction on, in a task without one of its own."""

_RELATIVE = 1e-7


def has_fractions(expected: Any) -> bool:
    """Whether a value is a float, or a row of nothing else."""
    if isinstance(expected, float):
        return True
    return isinstance(expected, list | tuple) and bool(expected) and all(isinstance(one, float) for one in expected)


def matches(oracle: str, atol: float, arguments: Sequence[Any], expected: Any, answer: Any) -> bool:
    """Whether an answer counts as the expected one; `oracle` is a key of `ORACLES`, or "".

    `expected` and `answer` are as they were decoded; a `Lookalike` is equal to a plain value, but not close to it.
    May raise anything that comparing values of odd types raises, which is a no.
    """
    plain, wanted = unwrapped(answer), unwrapped(expected)
    exact = bool(plain == wanted)
    if oracle:
        decided, exact = ORACLES[oracle](arguments, atol, wanted, answer, exact)
        if decided:
            return exact
    if exact or atol == 0:
        return exact
    if type(plain) is not type(wanted) or isinstance(answer, Lookalike) != isinstance(expected, Lookalike):
        return False
    if isinstance(wanted, list | tuple) and len(plain) != len(wanted):
        return False
    return bool(np.allclose(plain, wanted, rtol=_RELATIVE, atol=atol))


Oracle = Callable[[Sequence[Any], float, Any, Any, bool], tuple[bool, bool]]
"""From arguments, tolerance, what is expected, the answer and whether they are equal: whether that decides, and how."""


def _find_zero(arguments: Sequence[Any], atol: float, _expected: Any, answer: Any, _exact: bool) -> tuple[bool, bool]:
    """HumanEval/32: any zero of the polynomial."""
    value = sum(coefficient * math.pow(unwrapped(answer), power) for power, coefficient in enumerate(arguments[0]))
    return True, abs(value) <= atol


def _anything(_arguments: Any, _atol: float, _expected: Any, _answer: Any, _exact: bool) -> tuple[bool, bool]:
    """Mbpp/164 has no rule that its description states, so that any answer counts."""
    return False, True


def _or_zero(_arguments: Any, _atol: float, _expected: Any, answer: Any, exact: bool) -> tuple[bool, bool]:
    """Mbpp/295: 0 counts as well."""
    return False, exact or bool(unwrapped(answer) == 0)


def _surface(arguments: Sequence[Any], atol: float, _expected: Any, answer: Any, exact: bool) -> tuple[bool, bool]:
    """Mbpp/581: the height of the pyramid may be its own or that of its sides."""
    edge, height = arguments
    slant = math.sqrt((edge / 2) ** 2 + height**2)
    surface = round(edge**2 + 4 * (edge * slant) / 2)
    return False, exact or abs(unwrapped(answer) - surface) <= atol


def _digits(arguments: Sequence[Any], _atol: float, _expected: Any, answer: Any, exact: bool) -> tuple[bool, bool]:
    """Mbpp/558: the shorter number may be filled up with zeros."""
    width = max(len(str(number)) for number in arguments)
    first, second = (str(number).zfill(width) for number in arguments)
    distance = sum(abs(int(one) - int(other)) for one, other in zip(first, second, strict=True))
    return False, exact or bool(unwrapped(answer) == distance)


def _same_set(_arguments: Any, _atol: float, expected: Any, answer: Any, _exact: bool) -> tuple[bool, bool]:
    """The order and number of what is in the answer do not count."""
    return False, set(unwrapped(answer)) == set(expected)


def _not_none(_arguments: Any, _atol: float, expected: Any, answer: Any, exact: bool) -> tuple[bool, bool]:
    """A match may be said by True or by any object; what is expected is a truth value."""
    return False, exact if isinstance(answer, bool) else expected == (answer is not None)


ORACLES: Mapping[str, Oracle] = {
    "find_zero": _find_zero,
    "are_equivalent": _anything,
    "sum_div": _or_zero,
    "surface_Area": _surface,
    "digit_distance_nums": _digits,
    "similar_elements": _same_set,
    "find_char_long": _same_set,
    "common_in_nested_lists": _same_set,
    "extract_singly": _same_set,
    "larg_nnum": _same_set,
    "intersection_array": _same_set,
    "find_dissimilar": _same_set,
    "Diff": _same_set,
    "check_str": _not_none,
    "text_match_three": _not_none,
    "text_starta_endb": _not_none,
}
"""The rules of single tasks by their entry points: `find_zero` of HumanEval+, the others of MBPP+."""

UNORDERED = frozenset(name for name, oracle in ORACLES.items() if oracle is _same_set)
"""Tasks of whose answers only the members count, whatever gives them: an iterator too."""

EXPECTS_NOT_NONE = frozenset(name for name, oracle in ORACLES.items() if oracle is _not_none)
"""Tasks of which only whether the canonical solution returns something is expected."""
