"""A benchmark's file is read as it is, or one message says what is wrong, where, and what to do; nothing in it runs."""

import ast
import gzip
import hashlib
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import real_folder, write_lines, write_packed

from sc2jax.benchmarks import cruxeval, evalplus, files, gsm8k, humaneval, infilling, mbpp, santacoder
from sc2jax.benchmarks.files import Source, Tasks
from sc2jax.errors import UserError

SOURCE = humaneval.SOURCE
READERS: list[tuple[Source, Callable[[str], Tasks[Any]], int]] = [
    (humaneval.SOURCE, humaneval.read, 164),
    (evalplus.HUMANEVAL_PLUS["0.1.9"], lambda folder: evalplus.read_humaneval_plus(folder, "0.1.9"), 164),
    (evalplus.HUMANEVAL_PLUS["0.1.10"], lambda folder: evalplus.read_humaneval_plus(folder, "0.1.10"), 164),
    (evalplus.MBPP_PLUS["0.1.0"], lambda folder: evalplus.read_mbpp_plus(folder, "0.1.0"), 399),
    (evalplus.MBPP_PLUS["0.2.0"], lambda folder: evalplus.read_mbpp_plus(folder, "0.2.0"), 378),
    (mbpp.SOURCE, mbpp.read, 500),
    (mbpp.SANITIZED, mbpp.read_sanitized, 427),
    (gsm8k.SOURCE, gsm8k.read, 1319),
    (cruxeval.SOURCE, cruxeval.read, 800),
    (infilling.SOURCE, infilling.read, 1033),
    (santacoder.SOURCE, santacoder.read, 4792),
]


def record(number: int, **fields: Any) -> dict[str, Any]:
    texts = {"prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n", "test": "check = f"}
    return {"task_id": f"HumanEval/{number}", **texts, **fields}


def test_records_become_tasks_in_their_order(tmp_path):
    path = write_lines(tmp_path, SOURCE, [record(1, test="α\u2028"), record(0, more=3)])
    read = humaneval.read(str(tmp_path))
    assert [task.task_id for task in read.tasks] == ["HumanEval/1", "HumanEval/0"]
    assert read.tasks[0] == humaneval.HumanEvalTask("HumanEval/1", "def f():\n", "f", "    return 1\n", "α\u2028")
    assert read.tasks[0].texts() == ("def f():\n", "    return 1\n")
    stored = path.read_bytes()
    assert read.file == {
        "path": "humaneval/HumanEval.jsonl.gz",
        "sha256": hashlib.sha256(stored).hexdigest(),
        "content_sha256": hashlib.sha256(gzip.decompress(stored)).hexdigest(),
        "records": 2,
    }
    assert not read.known


@pytest.mark.parametrize("shape", ["{}/", "file://{}", "file://{}/"])
def test_a_folder_may_end_in_a_slash_or_be_a_url(tmp_path, shape):
    write_lines(tmp_path, SOURCE, [record(0)])
    assert humaneval.read(shape.format(tmp_path)) == humaneval.read(str(tmp_path))


def test_blank_lines_and_a_missing_last_newline_are_nothing(tmp_path):
    write_packed(tmp_path, SOURCE, f"{json.dumps(record(0))}\r\n\n  \n{json.dumps(record(1))}".encode())
    assert len(humaneval.read(str(tmp_path)).tasks) == 2


def test_the_same_content_compressed_otherwise_is_known(tmp_path, monkeypatch):
    content = json.dumps(record(0)).encode()
    known = Source("a.jsonl.gz", hashlib.sha256(content).hexdigest(), 1, "https://x/a.jsonl.gz", "MIT")
    monkeypatch.setattr(humaneval, "SOURCE", known)
    path = write_packed(tmp_path, known, content)
    one = humaneval.read(str(tmp_path))
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=99))
    other = humaneval.read(str(tmp_path))
    assert one.known
    assert other.known
    assert one.file["sha256"] != other.file["sha256"]


@pytest.mark.parametrize("source", [source for source, _, _ in READERS], ids=lambda source: source.path)
def test_what_is_not_there_says_where_to_get_it_and_where_to_put_it(tmp_path, source):
    read = next(read for other, read, _ in READERS if other is source)
    with pytest.raises(UserError) as caught:
        read(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/{source.path} is not there; get it from https://")
    assert source.url in message
    assert message.endswith(f"put it at {tmp_path}/{source.path}")
    packs = source.path.endswith(".gz") and not source.url.endswith(".gz")
    assert ("compress it with gzip" in message) == packs


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "humaneval").write_text("")
    with pytest.raises(UserError, match="is not there; get it from"):
        humaneval.read(str(tmp_path))


GOOD = [json.dumps(record(number)) for number in range(3)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD[0], GOOD[1][:-5]], r"gz is damaged: line 2 is no JSON \("),
        ([GOOD[0], "", GOOD[1] + "}"], r"line 3 is no JSON"),
        ([GOOD[0], "[" * 100_000], r"line 2 is no JSON"),
        ([GOOD[0], '"\udcff"'], r"line 2 is no JSON \('utf-8' codec can't decode"),
        ([json.dumps({"task_id": "HumanEval/0"})], r"record 0 of .*gz is damaged: .*missing required field `prompt`"),
        ([GOOD[0], json.dumps(record(1, test=None))], r"record 1 of .*gz is damaged: Expected `str`, got `null`.*test"),
        ([GOOD[0], "3"], r"record 1 of .* is damaged: Expected `object`"),
        ([GOOD[0], GOOD[1], GOOD[0]], r"record 2 is the second of the task 'HumanEval/0'"),
        ([json.dumps(record(0, prompt="\ud800"))], r"record 0 has another shape .*surrogates not allowed"),
        ([], r"it has no records"),
        (["", " "], r"it has no records"),
    ],
    ids=range(11),
)
def test_what_is_wrong_is_named(tmp_path, lines, said):
    write_packed(tmp_path, SOURCE, "\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"(?s){said}.*; get it from https://.* and put it at .*HumanEval\.jsonl\.gz$"):
        humaneval.read(str(tmp_path))


def test_a_file_cut_off_anywhere_or_not_compressed(tmp_path):
    path = write_lines(tmp_path, SOURCE, [record(number) for number in range(5)])
    stored = path.read_bytes()
    for length in range(len(stored)):
        path.write_bytes(stored[:length])
        with pytest.raises(UserError, match=r"is cut off; get it|is damaged"):
            humaneval.read(str(tmp_path))
    path.write_bytes(gzip.decompress(stored))
    with pytest.raises(UserError, match="is damaged: Not a gzipped file"):
        humaneval.read(str(tmp_path))


def test_a_thousand_flipped_bytes_raise_nothing_else(tmp_path):
    path = write_lines(tmp_path, SOURCE, [record(number) for number in range(5)])
    stored, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(stored)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            humaneval.read(str(tmp_path))
        except UserError:
            refused += 1
    assert refused > 900  # what is left are flips in gzip's header, which say nothing


def test_a_file_that_never_ends_is_not_unpacked_to_its_end(tmp_path, monkeypatch):
    content = json.dumps(record(0)).encode()
    write_packed(tmp_path, SOURCE, content)
    monkeypatch.setattr(files, "_LARGEST", len(content))
    humaneval.read(str(tmp_path))
    monkeypatch.setattr(files, "_LARGEST", len(content) - 1)
    with pytest.raises(UserError, match="is no file of this benchmark: it holds more than"):
        humaneval.read(str(tmp_path))
    write_packed(tmp_path, SOURCE, b" " * 2**26)
    tracemalloc.start()
    with pytest.raises(UserError, match="is no file of this benchmark: it holds more than"):
        humaneval.read(str(tmp_path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


def test_no_reader_calls_what_runs_code():
    called = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for path in Path(files.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert "read_tasks" in called
    assert not called & {"eval", "exec", "compile", "literal_eval", "__import__", "import_module", "urlopen"}


def test_what_may_not_be_shown_is_marked():
    assert [source.path for source, _, _ in READERS if not source.shown] == ["santacoder-fim/train.parquet"]


@pytest.mark.parametrize(("source", "read", "tasks"), READERS, ids=[source.path for source, _, _ in READERS])
def test_the_real_files_are_the_known_ones(source, read, tasks):
    folder = real_folder()
    found = read(folder)
    assert found.known
    assert len(found.tasks) == tasks
    assert found.file["records"] == source.records
    assert found.file["sha256"] == hashlib.sha256(Path(folder, source.path).read_bytes()).hexdigest()
    assert all(task.texts() and all(task.texts()) for task in found.tasks)
