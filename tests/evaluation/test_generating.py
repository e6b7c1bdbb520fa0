"""Samples of a benchmark: what is in the file, and that it is the same however often its making was interrupted."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from playback import Playback, playback

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.evaluation.generating import MOST_SAMPLES, generate_samples
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import read_samples
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import load_tokenizer

STOPS = ("\nprint(", "\nif __name__", "\ndef main(")
PROBLEMS = [
    Problem("T/0", ["def add(a, b):"], STOPS),
    Problem("T/1", [Special.FIM_PREFIX, "x = ", Special.FIM_SUFFIX, "\n", Special.FIM_MIDDLE], ("\n",)),
    Problem("T/2", ["def é():"], STOPS),
]
SAMPLING = Sampling(temperature=0.2, top_p=0.95, samples=5, max_new_tokens=60)
WRITTEN = {
    PROBLEMS[0].prompt: "\n    return a + b",
    PROBLEMS[1].prompt: "1",
    PROBLEMS[2].prompt: "\n    return '€' * 2 + \"\\n\"",
}


@pytest.fixture
def model(byte_tokenizer) -> Playback:
    return Playback(byte_tokenizer, WRITTEN)


def test_lines_hold_what_was_sent_and_written(model, tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["task_id"], line["sample"]) for line in lines] == [
        (f"T/{task}", number) for task in range(3) for number in range(5)
    ]
    assert {line["seed"] for line in lines} == {7}
    for line in lines:
        assert line["completion"].rstrip("\n") == WRITTEN[line["prompt"]]
        assert line["finish"] == "stop"
        assert model.tokenizer.decode(line["ids"]).startswith(line["completion"])
    assert lines[5]["prompt"] == "<fim_prefix>x = <fim_suffix>\n<fim_middle>"
    # The fourth text that follows is the end of the text.
    assert [line["ids"][-1] == 0 for line in lines[:5]] == [False, False, False, True, False]


def test_what_is_written_is_read_for_judging(model, tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    read = read_samples(str(path), ["T/0", "T/1", "T/2"])
    assert read.per_task == 5
    assert {answer.prompt for answer in read.answers} == set(WRITTEN)
    assert all(answer.text.rstrip("\n") == WRITTEN[answer.prompt or ""] for answer in read.answers)


def test_cut_off_anywhere_it_goes_on_to_the_same_bytes(model, tmp_path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(whole))
    content = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for length in sorted(
        {*range(0, len(content), 97), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}
    ):
        cut.write_bytes(content[:length])
        said: list[str] = []
        generate_samples(model, PROBLEMS, SAMPLING, 7, str(cut), say=said.append)
        assert cut.read_bytes() == content
        stored = content[:length].count(b"\n")
        assert said == ([f"going on after {stored} of 15 samples in {cut}"] if 0 < stored < 15 else [])


def test_what_is_there_is_not_generated_again(model, tmp_path, monkeypatch) -> None:
    path = tmp_path / "samples.jsonl"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]))
    asked = []
    monkeypatch.setattr(
        Playback, "_complete", lambda *given, real=Playback._complete: (asked.append(1), real(*given))[1]
    )
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    assert len(asked) == 7
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    assert len(asked) == 7


def test_draws_are_numbered_by_task_and_sample_alone(model, tmp_path, monkeypatch) -> None:
    given = []
    real = Playback.complete_texts

    def complete_texts(self, prompts, **texts):
        given.append(list(zip(map(tuple, prompts), texts["numbers"], texts["names"], strict=True)))
        assert (texts["seed"], texts["temperature"], texts["top_p"], texts["max_new_tokens"]) == (7, 0.2, 0.95, 60)
        return real(self, prompts, **texts)

    monkeypatch.setattr(Playback, "complete_texts", complete_texts)
    for samples in (2, 5):
        few = Sampling(temperature=0.2, top_p=0.95, samples=samples, max_new_tokens=60)
        generate_samples(model, PROBLEMS, few, 7, str(tmp_path / str(samples)))
    few, many = given
    assert set(few) < set(many)
    assert len({number for _, number, _ in many}) == 15
    assert max(number for _, number, _ in many) == 2 * MOST_SAMPLES + 4 < 2**32
    assert few[2][2] == "the prompt of T/1"


PROGRAM = """
import os, signal, sys
from test_generating import PROBLEMS, SAMPLING, WRITTEN, Playback, generate_samples
from playback import byte_tokens
class Dying(Playback):
    def complete_texts(self, prompts, **texts):
        for place, completion in enumerate(super().complete_texts(prompts, **texts)):
            if place == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            yield completion
generate_samples(Dying(byte_tokens(), WRITTEN), PROBLEMS, SAMPLING, 7, sys.argv[1])
"""


def test_a_killed_process_leaves_the_beginning_and_the_next_one_ends_it(model, tmp_path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(whole))
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), str(here.parent.parent)])
    command = [sys.executable, "-c", PROGRAM, str(killed)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    content = whole.read_bytes()
    assert killed.read_bytes() == b"".join(content.splitlines(keepends=True)[:6])
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(killed))
    assert killed.read_bytes() == content


def test_in_an_object_store_the_same_file(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sc2jax.evaluation.growing_lines._AT_A_TIME", 4)
    path = tmp_path / "samples.jsonl"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    content = path.read_bytes()
    fsspec.filesystem("memory").pipe_file("/run/samples.jsonl", content[: len(content) // 3])
    written = []
    real = storage.write_whole
    monkeypatch.setattr(
        "sc2jax.storage.write_whole",
        lambda *given: (written.append(len(given[1])), real(*given))[1],
    )
    generate_samples(model, PROBLEMS, SAMPLING, 7, "memory://run/samples.jsonl")
    assert fsspec.filesystem("memory").cat_file("/run/samples.jsonl") == content
    assert len(written) == 4  # without the line that was cut off, twice 4 lines, and all
    fsspec.filesystem("memory").rm_file("/run/samples.jsonl")


@pytest.mark.parametrize(
    ("problems", "sampling", "seed", "message"),
    [
        (PROBLEMS, SAMPLING, 8, r"line 1, is not sample 0 of T/0 with this prompt and seed 8; delete"),
        (PROBLEMS[1:], SAMPLING, 7, "line 1, is not sample 0 of T/1"),
        (PROBLEMS[:2], SAMPLING, 7, "line 11, is one sample more"),
        (PROBLEMS, Sampling(0.2, 0.95, 4, 60), 7, "line 5, is not sample 0 of T/1"),
        ([Problem("T/0", ["def sub(a, b):"], STOPS), *PROBLEMS[1:]], SAMPLING, 7, "line 1, is not"),
    ],
)
def test_a_file_of_something_else_is_left_alone(model, tmp_path, problems, sampling, seed, message) -> None:
    path = tmp_path / "samples.jsonl"
    generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))
    path.write_bytes(path.read_bytes() + b'{"cut')
    content = path.read_bytes()
    with pytest.raises(UserError, match=message):
        generate_samples(model, problems, sampling, seed, str(path))
    assert path.read_bytes() == content


def test_a_damaged_line_is_named(model, tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b"\0" * 20 + b"\n")
    with pytest.raises(UserError, match=r"line 1, is damaged.*delete the file"):
        generate_samples(model, PROBLEMS, SAMPLING, 7, str(path))


def test_a_prompt_too_long_names_its_task_and_nothing_is_written(model, tmp_path) -> None:
    path = tmp_path / "samples.jsonl"
    with pytest.raises(UserError, match=r"the prompt of T/0 has 14 tokens.*context of 16,384"):
        generate_samples(model, PROBLEMS, Sampling(0.0, 1.0, 1, 16384), 7, str(path))
    assert not path.exists()


def test_more_tasks_or_samples_than_are_numbered_are_a_defect(model, tmp_path) -> None:
    with pytest.raises(ValueError, match="at most"):
        generate_samples(model, PROBLEMS, Sampling(0.0, 1.0, MOST_SAMPLES + 1, 9), 7, str(tmp_path / "samples"))


@pytest.mark.parametrize("end", ["\n", " ", "\t", "\u3000"])
def test_no_prompt_ends_in_white_space(end) -> None:
    for pieces in (["a" + end], [Special.FILE_SEP, "a" + end, ""]):
        with pytest.raises(ValueError, match="T/9 ends in white space"):
            Problem("T/9", pieces, ())
    assert Problem("T/9", ["a" + end, Special.FIM_MIDDLE], ()).prompt == f"a{end}<fim_middle>"


def test_an_empty_prompt_is_a_damaged_file_and_an_empty_stop_a_defect() -> None:
    for pieces in ([], [""]):
        with pytest.raises(UserError, match="prompt of T/9 is empty"):
            Problem("T/9", pieces, ())
    with pytest.raises(ValueError, match="stop of T/9 is empty"):
        Problem("T/9", ["a"], ("b", ""))


def test_gold_solutions_of_humaneval_come_back_through_starcoder2s_tokens(tmp_path) -> None:
    folder, tokens = os.environ.get("SC2JAX_BENCHMARKS", ""), os.environ.get("SC2JAX_TOKENIZER", "")
    if not folder or not tokens:
        pytest.skip("SC2JAX_BENCHMARKS and SC2JAX_TOKENIZER do not name the benchmarks and StarCoder2's tokenizer.json")
    with gzip.open(Path(folder) / "humaneval" / "HumanEval.jsonl.gz") as file:
        tasks = [json.loads(line) for line in file]
    programs = {task["task_id"]: task["prompt"] + task["canonical_solution"] for task in tasks}
    problems = [Problem(task["task_id"], [task["prompt"].rstrip()], STOPS) for task in tasks]
    path = tmp_path / "samples.jsonl"
    model = playback(load_tokenizer(tokens), problems, programs)
    generate_samples(model, problems, Sampling(0.0, 1.0, 1, 512), 0, str(path))
    read = read_samples(str(path), list(programs))
    for answer in read.answers:
        assert ((answer.prompt or "") + answer.text).rstrip() == programs[answer.task_id].rstrip()
