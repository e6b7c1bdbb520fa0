"""The small wrong changes of perf/mutants.py: what is changed, and what is left alone."""

from collections import Counter

import pytest
from mutants import KINDS, Mutant, draw, find_mutants


def changes(source: str) -> set[tuple[str, str]]:
    """Each mutant's kind, and its line."""
    content = source.encode()
    found = find_mutants("sc2jax/room/module.py", content)
    return {
        (mutant.kind, mutant.apply(content).decode().split("\n")[mutant.line - 1].strip())
        for mutant in found
        if "\n" not in mutant.before
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("é < a not  in b", {("comparison", f"é {it}") for it in ("<= a not  in b", ">= a not  in b", "< a in b")}),
        ("a = (b)  # +\n", set()),
        ("a * (-b)", {("arithmetic", "a // (-b)"), ("arithmetic", "a * (+b)")}),
        ("a += b", {("arithmetic", "a -= b")}),
        ("a or not b", {("boolean", "a and not b"), ("boolean", "a or b")}),
        ("a = True", {("boolean", "a = False")}),
        ("a if b else c", {("boolean", "a if (not (b)) else c")}),
        ("a = 3", {("constant", "a = 4"), ("constant", "a = (2)")}),
        ("a = 0.5", {("constant", "a = (0.5 / 2)")}),
        ("f(a, b, c=d)", {("argument", f"f({it})") for it in ("b, a, c=d", "a, c=d", "a, b, ")}),
        ("max(a, b)", {("argument", "max(a, )")}),
        ("a[b:]", set()),
    ],
)
def test_expressions(line: str, expected: set[tuple[str, str]]) -> None:
    assert changes(line) == expected


def test_statements_of_functions() -> None:
    source = 'def f(a: int | None) -> "x":\n    """Doc."""\n    b = a\n    a = g\n    h()\n    return b\n'
    assert changes(source) == {("statement", "pass")}
    lines = [mutant.line for mutant in find_mutants("sc2jax/room/module.py", source.encode())]
    assert lines == [4, 5, 6]  # without line 3 there would be no b


@pytest.mark.parametrize(
    "source",
    [
        "import a\nif TYPE_CHECKING:\n    b = 1 + 2",
        '__all__ = ["a" + "b"]',
        "@decorated(frozen=True)\nclass A:\n    a: int | str",
        'raise ValueError(f"{a + 1}", 2)',
        "Alias: TypeAlias = int | str",
    ],
)
def test_what_is_no_behaviour_is_left_alone(source: str) -> None:
    assert not changes(source)


def test_the_draw_is_balanced_and_follows_from_the_seed() -> None:
    files = {"a": 100, "b": 20, "c": 20}
    mutants = [
        Mutant(f"sc2jax/{room}/m.py", 1, kind, place, place + 1, "x", "y")
        for room, count in files.items()
        for kind in KINDS
        for place in range(count)
    ]
    drawn = draw(mutants, 90, seed=3)
    assert len(set(drawn)) == 90
    assert set(Counter((mutant.kind, mutant.file) for mutant in drawn).values()) == {5}
    assert draw(mutants, 90, seed=3) == drawn != draw(mutants, 90, seed=4)
