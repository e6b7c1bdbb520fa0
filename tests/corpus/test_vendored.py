"""Whether paths are those of vendored files, beside Linguist's own tests and beside a search as Ruby does it."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.corpus.recipes import source_code
from sc2jax.corpus.tables import table_rows
from sc2jax.corpus.vendored import vendored

LINES = Path(__file__).with_name("linguist_paths.txt").read_text(encoding="utf-8").splitlines()
CASES = [line.split("\t") for line in LINES if not line.startswith("#")]
EXPRESSIONS = [expression for (expression,) in table_rows("vendored_paths.tsv", 1)[1:]]
IN_RUBY = re.compile("|".join(EXPRESSIONS), re.MULTILINE | re.ASCII)
"""Python's lines and spaces are Ruby's, unlike those of RE2."""

PIECES = ["dist", "vendor", "deps", "rebar", "configure", "extjs", "jquery", "-1.7", ".min", ".js", ".css", "import"]
PIECES += [
    "bootstrap",
    "custom.",
    "docs",
    "_build",
    "angular",
    "Test",
    "s",
    "fixtures",
    "/",
    "/",
    "/",
    "\n",
    "\v",
    " ",
    "é",
]


def of(*paths: str) -> list[bool]:
    return vendored(pa.chunked_array([list(paths)], pa.string())).to_pylist()


@pytest.mark.parametrize(("answer", "path"), CASES)
def test_as_linguist_says(answer: str, path: str) -> None:
    assert of(path) == [answer == "yes"]


def test_all_of_linguists_cases_and_expressions_are_there() -> None:
    assert (len(CASES), len(EXPRESSIONS)) == (193, 168)
    assert {answer for answer, _ in CASES} == {"yes", "no"}


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_as_ruby_searches(path: str) -> None:
    assert of(path) == [IN_RUBY.search(path) is not None]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("a/deps/b.c", False),  # at the beginning alone
        ("x\ndeps/b.c", True),  # which every line has
        ("waf\n.py", True),
        ("a/cache", False),
        ("a/cache/b", True),
        ("DIST/a.py", False),
        ("custom.bootstrap\v.js", False),
        ("custom.bootstrap-x.js", True),
    ],
)
def test_edges(path: str, answer: bool) -> None:
    assert of(path) == [answer]


def test_the_table_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another table is another key of the stages."""
    before = source_code._tables_digest()
    monkeypatch.setattr(source_code.vendored, "TABLES", ())
    assert source_code._tables_digest() != before
