"""Files of samples: three shapes are read, and what would give another score is refused."""

import gzip
import hashlib
import json

import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.samples import LONGEST_TEXT, read_samples

TASKS = ["T/0", "T/1"]


def write(path, *items) -> str:
    content = "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def ours(task: str, sample: int, text: str = "x") -> dict[str, object]:
    rest = {"prompt": "p", "ids": [1], "seed": 0, "finish": "stop"}
    return {"task_id": task, "sample": sample, "completion": text, **rest}


def theirs(task: str, text: object = "x", **more: object) -> dict[str, object]:
    return {"task_id": task, "completion": text, **more}


@pytest.mark.parametrize("name", ["samples.jsonl", "samples.jsonl.gz"])
def test_ours_in_the_order_of_tasks_and_numbers(tmp_path, name) -> None:
    items = [ours("T/1", 1, "d"), ours("T/0", 0, "a"), ours("T/1", 0, "c"), ours("T/0", 1, "b")]
    path = write(tmp_path / name, *items)
    read = read_samples(path, TASKS)
    assert [(one.task_id, one.sample, one.text) for one in read.answers] == [
        ("T/0", 0, "a"),
        ("T/0", 1, "b"),
        ("T/1", 0, "c"),
        ("T/1", 1, "d"),
    ]
    assert {(one.whole, one.prompt, one.flaw) for one in read.answers} == {(False, "p", "")}
    assert read.per_task == 2
    assert read.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_those_of_other_tools_are_numbered_by_their_order(tmp_path) -> None:
    path = write(tmp_path / "a", theirs("T/1", "c"), " ", theirs("T/0", "a", passed=True), theirs("T/1"), theirs("T/0"))
    read = read_samples(path, TASKS)
    assert [(one.task_id, one.sample, one.text) for one in read.answers[:3]] == [
        ("T/0", 0, "a"),
        ("T/0", 1, "x"),
        ("T/1", 0, "c"),
    ]
    assert {(one.whole, one.prompt) for one in read.answers} == {(False, None)}


def test_a_solution_is_a_whole_program_and_counts_before_a_completion(tmp_path) -> None:
    items = [{"task_id": "T/0", "solution": "def f(): 1", "completion": "no"}, theirs("T/1", "x")]
    first, second = read_samples(write(tmp_path / "a", *items), TASKS).answers
    assert (first.text, first.whole) == ("def f(): 1", True)
    assert (second.text, second.whole) == ("x", False)


def test_a_last_line_needs_no_newline(tmp_path) -> None:
    (tmp_path / "a").write_text("\n".join(json.dumps(theirs(task)) for task in TASKS), encoding="utf-8")
    assert len(read_samples(str(tmp_path / "a"), TASKS).answers) == 2


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("a\0b", "NUL"),
        ("x" * (LONGEST_TEXT + 1), "1,048,577 characters"),
        ("x" * 10_000_000, "10,000,000 characters"),
        ("\ud800", "surrogate"),
        ("x" * LONGEST_TEXT, ""),
        ("", ""),
    ],
    ids=["nul", "long", "10 MB", "surrogate", "longest", "empty"],
)
def test_what_nothing_can_run_is_kept_with_its_flaw(tmp_path, text, flaw) -> None:
    first, second = read_samples(write(tmp_path / "a", theirs("T/0", text), theirs("T/1")), TASKS).answers
    assert first.text == text
    assert flaw in first.flaw
    assert bool(first.flaw) == bool(flaw)
    assert second.flaw == ""


REFUSED = {
    "another benchmark": (
        [theirs(f"Mbpp/{n}") for n in range(5)],
        r"of another benchmark: .*Mbpp/0, Mbpp/1, Mbpp/2 and 2",
    ),
    "a task that is not there": (
        [theirs("T/0"), theirs("T/1"), theirs("T/11")],
        r"samples of T/11, which this benchmark does not have; did you mean T/1",
    ),
    "a task missing": ([theirs("T/1")], r"has no sample of T/0"),
    "fewer of one": ([theirs("T/0"), theirs("T/0"), theirs("T/1")], "2 samples of T/0 and 1 of T/1"),
    "twice": ([ours("T/0", 0), ours("T/0", 0), ours("T/1", 0), ours("T/1", 1)], "sample 0 of T/0 2 times"),
    "a gap": ([ours("T/0", 0), ours("T/0", 1), ours("T/1", 0), ours("T/1", 2)], "lacks sample 1 of T/1"),
    "mixed": ([ours("T/0", 0), theirs("T/1")], "line 2, is another kind: some samples have a number"),
    "empty": ([], "holds no sample"),
    "neither": ([theirs("T/0"), {"task_id": "T/1"}], "line 2, has neither a completion nor a solution"),
    "no task": ([{"completion": ""}], "line 1, is damaged"),
    "a number": ([theirs("T/0", 3)], "line 1, is damaged"),
    "below 0": ([ours("T/0", -1)], "line 1, is damaged"),
    "a list": (["[]"], "line 1, is damaged"),
    "no JSON": ([theirs("T/0"), "", "{bad}", theirs("T/1")], "line 3, is no JSON"),
    "deep": (["[" * 100_000], "line 1, is no JSON"),
    "no text": (["\x80"], "line 1, is no JSON"),
}


@pytest.mark.parametrize("items,message", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_give_another_score_is_refused(tmp_path, items, message) -> None:
    with pytest.raises(UserError, match=message):
        read_samples(write(tmp_path / "a", *items), TASKS)


def test_a_file_cut_off_is_refused(tmp_path) -> None:
    path = tmp_path / "a"
    write(path, theirs("T/0"), theirs("T/1"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="line 2, the last, is cut off"):
        read_samples(str(path), TASKS)


def test_a_gzip_cut_off_damaged_or_none_is_refused(tmp_path) -> None:
    path = tmp_path / "a.gz"
    write(path, *[theirs(task, "x" * 50) for task in TASKS])
    content = path.read_bytes()
    for damaged in (content[:-9], content[:30] + b"\xff\xff" + content[32:], b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cut off or no gzip, after line \d:|line 1, is no JSON"):
            read_samples(str(path), TASKS)


def test_gzip_that_is_not_called_so_is_said_to_be(tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UserError, match=r"is gzip; give the file a name that ends in \.gz"):
        read_samples(str(path), TASKS)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sc2jax.evaluation.samples._LONGEST_LINE", 1000)
    path = write(tmp_path / "a.gz", theirs("T/0"), theirs("T/1", "x" * 2000))
    with pytest.raises(UserError, match="line 2, has more than 999 bytes"):
        read_samples(path, TASKS)


def test_no_file(tmp_path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=r"no file of samples|no regular file"):
            read_samples(str(path), TASKS)


def test_a_message_names_no_more_of_a_long_name_than_its_beginning(tmp_path) -> None:
    with pytest.raises(UserError) as said:
        read_samples(write(tmp_path / "a", theirs("T" * 10**6)), TASKS)
    assert len(str(said.value)) < 1000
