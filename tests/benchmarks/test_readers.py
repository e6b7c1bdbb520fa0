"""MBPP, GSM8K, CRUXEval and the two sets of lines to fill in, each from files made here and from the real ones."""

import contextlib
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import real_folder, write_lines, write_packed

from sc2jax.benchmarks import cruxeval, gsm8k, humaneval, infilling, mbpp, santacoder
from sc2jax.errors import UserError


def mbpp_record(number: int) -> dict[str, Any]:
    texts = {"text": "Add.", "code": "def f():\r\n  pass", "test_setup_code": "x = 1"}
    return {
        "task_id": number,
        **texts,
        "test_list": ["assert f()", "assert g()"],
        "challenge_test_list": ["assert h()"],
    }


def test_mbpp_keeps_the_test_split(tmp_path):
    write_lines(tmp_path, mbpp.SOURCE, map(mbpp_record, [10, 11, 510, 511, 601]))
    found = mbpp.read(str(tmp_path))
    assert [task.task_id for task in found.tasks] == [11, 510]
    assert found.file["records"] == 5
    tests = ("assert f()", "assert g()")
    assert found.tasks[0] == mbpp.MbppTask(11, "Add.", "def f():\r\n  pass", tests, "x = 1", ("assert h()",))
    assert found.tasks[0].texts() == ("Add.", "def f():\r\n  pass")


def test_mbpp_without_its_test_split(tmp_path):
    write_lines(tmp_path, mbpp.SOURCE, map(mbpp_record, [10, 511]))
    with pytest.raises(UserError, match=r"mbpp\.jsonl\.gz has no task of MBPP's test split .*; get it from https://"):
        mbpp.read(str(tmp_path))


def test_sanitized_mbpp_is_one_array(tmp_path):
    record = {
        "task_id": 2,
        "prompt": "Add.",
        "code": "c",
        "test_imports": ["import math", "import re"],
        "test_list": [],
    }
    write_packed(tmp_path, mbpp.SANITIZED, json.dumps([record], indent=2).encode())
    (task,) = mbpp.read_sanitized(str(tmp_path)).tasks
    assert task == mbpp.MbppTask(2, "Add.", "c", (), "import math\nimport re", ())


@pytest.mark.parametrize("content", [b"", b"{}", b"[{}", b"3", b"[" * 10**5, b"\xff", b"[3]", b"[{}]", b"[]"])
def test_another_thing_than_an_array(tmp_path, content):
    write_packed(tmp_path, mbpp.SANITIZED, content)
    with pytest.raises(UserError, match=r"sanitized-mbpp\.json\.gz is damaged: .*; get it from"):
        mbpp.read_sanitized(str(tmp_path))


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("It is.\n#### 18", 18),
        ("#### 1\n#### 2,125", 2125),
        ("#### 1,450,000", 1450000),
        ("#### -7 ", -7),
        ("#### 0.5", 0.5),
        ("#### 1,000.25", 1000.25),
    ],
)
def test_references_of_gsm8k(tmp_path, answer, reference):
    write_lines(tmp_path, gsm8k.SOURCE, [{"question": "How?", "answer": answer}] * 2)
    first, second = gsm8k.read(str(tmp_path)).tasks
    assert first == gsm8k.GsmTask("GSM8K/0", "How?", answer, reference)
    assert type(first.reference) is type(reference)
    assert second.task_id == "GSM8K/1"
    assert first.texts() == ("How?", answer)


@pytest.mark.parametrize(
    "answer", ["18", "####18", "#### ", "#### nan", "#### 1e3", "#### 1_0", "#### 3 cats", "#### ٣"]
)
def test_an_answer_without_a_number(tmp_path, answer):
    write_lines(tmp_path, gsm8k.SOURCE, [{"question": "How?", "answer": answer}])
    with pytest.raises(UserError, match=r"record 0 has another shape .*does not end in '#### ' and a number"):
        gsm8k.read(str(tmp_path))


def test_the_real_references_of_gsm8k():
    tasks = gsm8k.read(real_folder()).tasks
    assert [task.reference for task in tasks[:3]] == [18, 3, 70000]
    assert tasks[146].reference == 2125
    assert all(isinstance(task.reference, int) for task in tasks)


def test_pal_has_eight_examples_that_solve_their_questions():
    examples = gsm8k.pal_examples()
    assert len(examples) == 8
    results = []
    for example in examples:
        names: dict[str, Any] = {}
        exec(f"def solution():\n{example.solution}\n", names)  # of this project's own files
        results.append(names["solution"]())
    assert results == [8, 33, 29, 9, 8, 39, 5, 6]


def test_cruxeval_and_its_prompts(tmp_path):
    record = {"id": "sample_7", "code": "def f(a):\n    return {'{input}': a}", "input": "'{code}'", "output": "{}"}
    write_lines(tmp_path, cruxeval.SOURCE, [record])
    (task,) = cruxeval.read(str(tmp_path)).tasks
    assert task == cruxeval.CruxTask("sample_7", record["code"], "'{code}'", "{}")
    assert task.texts() == (record["code"],)
    asked_output, asked_input = cruxeval.direct_prompt(task, "output"), cruxeval.direct_prompt(task, "input")
    code = "[PYTHON]\ndef f(a):\n    return {'{input}': a}\n"
    assert asked_output.endswith(f"{code}assert f('{{code}}') == ??\n[/PYTHON]\n[ANSWER]\n")
    assert asked_input.endswith(f"{code}assert f(??) == {{}}\n[/PYTHON]\n[ANSWER]\n")
    assert asked_output.startswith("You are given a Python function and an assertion containing an input")
    assert asked_input.startswith("You will be given a function f and an output in the form f(??) == output.")
    for prompt in (asked_output, asked_input):
        assert prompt.count("[PYTHON]\n") == prompt.count("[/PYTHON]\n") == prompt.count("[ANSWER]\n") == 3
        assert prompt.count("[/ANSWER]\n") == 2


def test_a_line_of_humaneval_to_fill_in(tmp_path):
    record = {"task_id": "SingleLineInfilling/HumanEval/0/L1", "entry_point": "f", "prompt": "a\n", "suffix": "c\n"}
    write_lines(tmp_path, infilling.SOURCE, [{**record, "canonical_solution": "b\n", "test": "t"}])
    (task,) = infilling.read(str(tmp_path)).tasks
    assert task == infilling.InfillingTask(record["task_id"], "f", "a\n", "c\n", "b\n", "t")
    assert task.texts() == ("a\nb\nc\n",)


def test_the_real_lines_to_fill_in_are_humanevals():
    folder = real_folder()
    programs = {task.task_id: task.prompt + task.canonical_solution for task in humaneval.read(folder).tasks}
    for task in infilling.read(folder).tasks:
        _, name, number, _ = task.task_id.split("/")
        (program,) = task.texts()
        # A blank line more stands before the first line of most.
        assert program.replace("\n", "") == programs[f"{name}/{number}"].replace("\n", "")


def fim_table(**columns: Any) -> pa.Table:
    names = ("name", "language", "prompt", "suffix", "canonical_solution", "tests")
    return pa.table({name: [name, name] for name in names} | {"language": ["py", "js"]} | columns)


def test_lines_to_fill_in_of_santacoder(tmp_path):
    path = tmp_path / santacoder.SOURCE.path
    path.parent.mkdir()
    pq.write_table(fim_table(), path)
    found = santacoder.read(str(tmp_path))
    assert found.tasks[0] == santacoder.FimTask("py/name", "py", "prompt", "suffix", "canonical_solution")
    assert found.tasks[1].task_id == "js/name"
    assert found.tasks[0].texts() == ("prompt\ncanonical_solution\nsuffix",)
    assert found.file["sha256"] == found.file["content_sha256"]
    stored = path.read_bytes()
    for length in range(0, len(stored), 7):
        path.write_bytes(stored[:length])
        with pytest.raises(UserError, match=r"train\.parquet is damaged: it is no such Parquet file .*; get it from"):
            santacoder.read(str(tmp_path))


def test_five_hundred_flipped_bytes_of_parquet_raise_nothing_else(tmp_path):
    path, chance = tmp_path / santacoder.SOURCE.path, random.Random(0)
    path.parent.mkdir()
    pq.write_table(fim_table(), path)
    stored = path.read_bytes()
    for _ in range(500):
        damaged = bytearray(stored)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            santacoder.read(str(tmp_path))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (fim_table(language=["py", "py"]), "record 1 is the second of the task 'py/name'"),
        (fim_table(language=["py", "go"]), "Invalid enum value 'go'"),
        (fim_table(prompt=["a", None]), "Expected `str`, got `null`"),
        (fim_table(suffix=[1, 2]), "Expected `str`, got `int`"),
        (fim_table().drop_columns(["suffix"]), "missing required field `suffix`"),
        (fim_table().slice(0, 0), "it has no records"),
    ],
    ids=range(6),
)
def test_another_table(tmp_path, table, said):
    path = tmp_path / santacoder.SOURCE.path
    path.parent.mkdir()
    pq.write_table(table, path)
    with pytest.raises(UserError, match=rf"train\.parquet is damaged: .*{said}|{said}.*; get it from"):
        santacoder.read(str(tmp_path))


def test_the_real_lines_of_santacoder():
    tasks = santacoder.read(real_folder()).tasks
    counts = {language: sum(task.language == language for task in tasks) for language in ("js", "java", "py")}
    assert counts == {"js": 1969, "java": 1780, "py": 1043}
    assert all("\n" not in task.canonical_solution and task.canonical_solution.strip() for task in tasks)
