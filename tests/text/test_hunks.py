import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.text.hunks import changes, hunks, shifted_header, split_lines

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "e", ""]), max_size=40)


@given(base=LINES, head=LINES, context=st.integers(3, 9))
def test_hunks_are_those_of_difflib(base: list[str], head: list[str], context: int) -> None:
    """difflib's own unified diff joins hunks whose contexts touch, too."""
    expected = list(difflib.unified_diff(base, head, n=context, lineterm=""))[2:]
    written = "".join(hunks(base, changes(base, head), context, 0)).split("\n")[:-1]
    # Headers differ where they leave out a count of 1, or start at 0 because there are no lines.
    assert [line for line in written if not line.startswith("@@")] == [
        line for line in expected if not line.startswith("@@")
    ]
    assert [index for index, line in enumerate(written) if line.startswith("@@")] == [
        index for index, line in enumerate(expected) if line.startswith("@@")
    ]


@given(base=LINES, head=LINES, context=st.integers(3, 9), data=st.data())
def test_hunks_lead_from_one_version_to_the_other(base: list[str], head: list[str], context: int, data) -> None:
    found = changes(base, head)
    skipped = data.draw(st.integers(0, min([change.base_start for change in found], default=0)))
    patched, at = base[:skipped], skipped
    for hunk in hunks(base, found, context, skipped):
        header, *lines = hunk.removesuffix("\n").split("\n")
        before, after = (tuple(map(int, part[1:].split(","))) for part in header.split(" ")[1:3])
        start = before[0] - 1 + skipped
        patched += base[at:start]
        assert after[0] - 1 + skipped == len(patched)
        old = [line[1:] for line in lines if line[0] in " -"]
        new = [line[1:] for line in lines if line[0] in " +"]
        assert (len(old), len(new)) == (before[1], after[1])
        assert base[start : start + len(old)] == old
        patched += new
        at = start + len(old)
    assert patched + base[at:] == head


@pytest.mark.parametrize("context", [1, 3, 9])
def test_hunks_whose_contexts_touch_are_joined(context: int) -> None:
    def headers(between: int) -> list[str]:
        base = ["old", *map(str, range(between)), "old"]
        head = ["new", *map(str, range(between)), "new"]
        return [hunk.split("\n")[0] for hunk in hunks(base, changes(base, head), context, 0)]

    touching = 2 * context
    assert headers(touching) == [f"@@ -1,{touching + 2} +1,{touching + 2} @@"]
    size = context + 1
    assert headers(touching + 1) == [f"@@ -1,{size} +1,{size} @@", f"@@ -{size + 2},{size} +{size + 2},{size} @@"]


def test_a_change_joins_the_hunk_before_it_and_no_earlier_one() -> None:
    base = [str(line) for line in range(40)]
    head = ["new" if line in (1, 20, 24, 28, 38) else text for line, text in enumerate(base)]
    found = [hunk.split("\n")[0] for hunk in hunks(base, changes(base, head), 2, 0)]
    assert found == ["@@ -1,4 +1,4 @@", "@@ -19,13 +19,13 @@", "@@ -37,4 +37,4 @@"]


def test_lines_end_at_newlines_alone() -> None:
    assert split_lines("a\r\nb\x0cc\u2028d\n") == ["a\r", "b\x0cc\u2028d"]
    assert split_lines("a\n\n") == ["a", ""]
    assert split_lines("") == []


def test_headers_are_shifted_by_what_is_not_shown() -> None:
    assert (
        shifted_header("@@ -12,3 +14 @@ def f():\n x\n@@ -1,1 +1,1 @@", 11)
        == "@@ -1,3 +3 @@ def f():\n x\n@@ -1,1 +1,1 @@"
    )
    assert shifted_header("@@ -2,3 +2,4 @@\n x", 5) == "@@ -0,3 +0,4 @@\n x"
    assert shifted_header("no header\n@@ -2,3 +2,4 @@", 1) == "no header\n@@ -2,3 +2,4 @@"
    assert shifted_header("", 3) == ""
    endless = f"@@ -{'9' * 5000},1 +{'9' * 5000},1 @@\n x"
    assert shifted_header(endless, 3) == endless
    endless = f"@@ -1,1 +{'9' * 5000},1 @@\n x"
    assert shifted_header(endless, 3) == endless
    longest = "9" * 18
    assert shifted_header(f"@@ -{longest} +{longest} @@", 9) == f"@@ -{longest[:-1]}0 +{longest[:-1]}0 @@"
