"""`sc2jax evaluate --config=evaluate:NAME` from prompts to scores, with a model that plays answers back."""

import errno
import gzip
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from playback import byte_tokens, playback

from sc2jax import cli
from sc2jax.evaluation import judging_samples
from sc2jax.evaluation.judging import gold
from sc2jax.evaluation.measures import read_benchmark
from sc2jax.runs import benchmarks
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.verbs import evaluate

BENCHMARKS, TOKENIZER = os.environ.get("SC2JAX_BENCHMARKS", ""), os.environ.get("SC2JAX_TOKENIZER", "")

TASKS = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def add_{number}(x):\n    """Adds {number}."""\n',
        "entry_point": f"add_{number}",
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n    assert candidate(-1) != {number}",
    }
    for number in range(14)
]
"""In HumanEval's form; the judge wants ten right answers and two more before it is believed."""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of benchmarks with these tasks, and a user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tasks(tmp_path / "benchmarks", TASKS)
    return tmp_path / "benchmarks"


def write_tasks(folder: Path, tasks: list[dict[str, str]]) -> None:
    (folder / "humaneval").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(task) + "\n" for task in tasks)
    (folder / "humaneval" / "HumanEval.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


@pytest.fixture
def answers(monkeypatch):
    """Has the run's model write these answers, by task; one that is not named is right."""

    def give(folder: str, name: str, wrong: dict[str, str], tokenizer=None) -> None:
        benchmark = read_benchmark(name, folder)
        programs = {}
        for problem in benchmark.problems:
            case: Any = benchmark.case(benchmark.golds[problem.task_id], {})
            right = case.program[case.program.index(problem.prompt) :]
            answer = wrong.get(problem.task_id)
            programs[problem.task_id] = right if answer is None else problem.prompt + answer
        monkeypatch.setattr(benchmarks, "input_digests", lambda *_: {"train": "a stand-in"})
        monkeypatch.setattr(
            evaluate, "open_model", lambda _: playback(tokenizer or byte_tokens(), benchmark.problems, programs)
        )

    return give


def command(workdir: Path, folder: Path | str, *more: str, name: str = "humaneval") -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", f"--config=evaluate:{name}", f"--config.paths.benchmarks={folder}",
                  f"--workdir={workdir}", *more])  # fmt: skip
    return int(end.value.code or 0)


def left_by(workdir: Path, name: str = "humaneval") -> dict[str, bytes]:
    """All results, by path."""
    root = workdir / "evaluate" / name
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.json*") if ".sc2jax" not in str(path)
    }


def test_samples_are_judged_and_scored(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {"HumanEval/3": "\n    return x", "HumanEval/5": "\n    while True: x += 1"})
    workdir = tmp_path / "run"
    assert command(workdir, folder) == 0
    scores = json.loads((workdir / "evaluate/humaneval/verdicts/scores.json").read_bytes())
    assert {name: count for name, count in scores["verdicts"]["all"].items() if count} == {
        "passed": 12, "wrong": 1, "timeout": 1,
    }  # fmt: skip
    assert scores["metrics"]["all"]["pass@1"]["value"] == pytest.approx(12 / 14)
    assert scores["file"]["records"] == 14
    assert scores["published_as"] == {}  # it is not the file that others have published scores of
    assert scores["sandbox"]["rung"] >= 1
    assert (workdir / "evaluate/humaneval/verdicts/index.html").is_file()
    first = left_by(workdir)
    capsys.readouterr()
    assert command(workdir, folder) == 0
    assert capsys.readouterr().out.count("complete already") == 2
    assert left_by(workdir) == first


def test_scores_are_made_again_byte_for_byte_of_stored_samples(tmp_path, folder, answers):
    answers(str(folder), "humaneval", {"HumanEval/0": "\n    return 7"})
    assert command(tmp_path / "run", folder) == 0
    verdicts = tmp_path / "run/evaluate/humaneval/verdicts"
    first = (verdicts / "scores.json").read_bytes()
    for path in sorted(verdicts.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    verdicts.rmdir()
    assert command(tmp_path / "run", folder) == 0
    assert (verdicts / "scores.json").read_bytes() == first


def test_judging_goes_on_where_it_was_interrupted(tmp_path, folder, answers, monkeypatch):
    answers(str(folder), "humaneval", {"HumanEval/1": "\n    return None"})
    assert command(tmp_path / "whole", folder, "--config.evaluation.model_name=one") == 0
    made, right = [], judging_samples._judged

    def interrupted(*given):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(right(*given))
        return made[-1]

    monkeypatch.setattr(judging_samples, "_judged", interrupted)
    assert command(tmp_path / "run", folder, "--config.evaluation.model_name=one") == 130
    monkeypatch.setattr(judging_samples, "_judged", lambda *given: made.append(right(*given)) or made[-1])
    assert command(tmp_path / "run", folder, "--config.evaluation.model_name=one") == 0
    assert len(made) <= len(TASKS) + 1  # nothing that was written is judged again
    assert left_by(tmp_path / "run")["verdicts/scores.json"] == left_by(tmp_path / "whole")["verdicts/scores.json"]
    assert (
        left_by(tmp_path / "run")["verdicts/verdicts.jsonl"] == left_by(tmp_path / "whole")["verdicts/verdicts.jsonl"]
    )


def test_an_interruption_does_not_wait_for_the_samples_under_way(tmp_path, folder, answers, monkeypatch):
    answers(str(folder), "humaneval", {})
    under_way, freed = threading.Event(), threading.Event()

    def judged(_bench, _case, answer):
        if answer.task_id == TASKS[0]["task_id"]:
            under_way.wait(100)
            raise KeyboardInterrupt
        under_way.set()
        freed.wait(100)

    monkeypatch.setattr(judging_samples, "_judged", judged)
    begun = time.monotonic()
    try:
        assert command(tmp_path / "run", folder, "--config.evaluation.judge_workers=2") == 130
    finally:
        freed.set()
    assert time.monotonic() - begun < 90


def write_samples(path: Path, lines: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"--config.evaluation.samples_file={path}"


def test_samples_of_other_models_are_judged(tmp_path, folder):
    lines = [{"task_id": task["task_id"], "completion": task["canonical_solution"]} for task in TASKS[:12]]
    lines += [{"task_id": "HumanEval/12", "solution": "def add_12(x): return x + 12"}]
    lines += [{"task_id": "HumanEval/13", "completion": "    return x + 13\0"}]
    assert command(tmp_path / "run", folder, write_samples(tmp_path / "other.jsonl", lines)) == 0
    scores = json.loads((tmp_path / "run/evaluate/humaneval/verdicts/scores.json").read_bytes())
    assert scores["model"] == "other.jsonl"
    assert scores["verdicts"]["all"]["passed"] == 13
    assert scores["verdicts"]["all"]["wrong"] == 1
    assert not (tmp_path / "run/evaluate/humaneval/samples").exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"task_id": "Mbpp/2", "completion": ""}], "another benchmark"),
        ([{"task_id": task["task_id"], "completion": ""} for task in TASKS[1:]], "no sample of HumanEval/0"),
        ([{"task_id": task["task_id"], "completion": ""} for task in [*TASKS, TASKS[0]]], "2 samples of HumanEval/0"),
    ],
)
def test_samples_of_something_else_are_refused_in_one_message(tmp_path, folder, capsys, lines, told):
    assert command(tmp_path / "run", folder, write_samples(tmp_path / "other.jsonl", lines)) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_samples_that_differ_in_their_prompt_alone_are_judged_apart(tmp_path, folder):
    lines: list[dict[str, str]] = []
    for task in TASKS:
        sample = {"task_id": task["task_id"], "completion": task["canonical_solution"]}
        lines += [sample, sample | {"prompt": "as it was sent, without the newline that this completion needs"}]
        lines += [sample | {"prompt": task["prompt"]}]
    assert command(tmp_path / "run", folder, write_samples(tmp_path / "other.jsonl", lines)) == 0
    scores = json.loads((tmp_path / "run/evaluate/humaneval/verdicts/scores.json").read_bytes())
    assert {name: count for name, count in scores["verdicts"]["all"].items() if count} == {"passed": 28, "wrong": 14}


def test_the_saved_config_gives_the_scores_again_in_another_folder(tmp_path, folder, monkeypatch):
    lines = [{"task_id": task["task_id"], "completion": task["canonical_solution"]} for task in TASKS]
    write_samples(tmp_path / "other.jsonl", lines)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SC2JAX_BENCHMARKS", "benchmarks")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--config=evaluate:humaneval", "--config.evaluation.samples_file=other.jsonl",
                  "--workdir=run"])  # fmt: skip
    first = tmp_path / "run/evaluate/humaneval/verdicts"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("SC2JAX_BENCHMARKS")
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", f"--config={first}/config.json", "--workdir=again"])
    assert not end.value.code
    again = tmp_path / "elsewhere/again/evaluate/humaneval/verdicts"
    assert (again / "scores.json").read_bytes() == (first / "scores.json").read_bytes()


def test_the_config_beside_verdicts_names_what_the_samples_are_of(tmp_path, folder, answers):
    answers(str(folder), "humaneval", {})
    assert command(tmp_path / "run", folder) == 0
    config = json.loads((tmp_path / "run/evaluate/humaneval/verdicts/config.json").read_bytes())
    assert config["paths"]["train"] == f"{tmp_path}/run/train"


def test_a_wrong_file_of_samples_is_refused_before_right_answers_are_judged(tmp_path, folder, capsys):
    lines = [{"task_id": "Mbpp/2", "completion": ""}]
    assert command(tmp_path / "run", folder, write_samples(tmp_path / "other.jsonl", lines)) == 2
    assert "solutions" not in capsys.readouterr().out


def test_a_model_that_is_not_there_is_told_before_right_answers_are_judged(tmp_path, folder, capsys):
    assert command(tmp_path / "run", folder) == 2
    said = capsys.readouterr()
    assert f"{tmp_path}/run/tokenizer holds no manifest.json" in said.err
    assert "solutions" not in said.out


def test_a_run_to_compare_with_that_is_not_there_is_told_before_anything_is_judged(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {})
    assert command(tmp_path / "run", folder, f"--compare={tmp_path}/other") == 2
    said = capsys.readouterr()
    assert f"{tmp_path}/other/evaluate/humaneval/verdicts" in said.err
    assert "solutions" not in said.out


def test_a_run_is_not_compared_with_itself(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {})
    assert command(tmp_path / "run", folder) == 0
    capsys.readouterr()
    assert command(tmp_path / "run", folder, f"--compare={tmp_path}/run/") == 2
    said = capsys.readouterr()
    assert "cannot be compared with itself" in said.err
    assert "rung" not in said.out  # nothing was opened for it


def test_a_benchmark_named_twice_is_measured_once(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {})
    assert command(tmp_path / "run", folder, name="humaneval,humaneval") == 0
    assert capsys.readouterr().out.count("pass@1") == 1


def test_where_right_answers_cannot_be_remembered_it_is_said(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {})
    (tmp_path / "cache/sc2jax").mkdir(parents=True)
    (tmp_path / "cache/sc2jax/right-answers").symlink_to(tmp_path)
    assert command(tmp_path / "run", folder) == 0
    assert "is not remembered" in capsys.readouterr().out


def test_a_benchmark_whose_own_solution_fails_ends_before_the_model_is_opened(
    tmp_path, folder, answers, monkeypatch, capsys
):
    broken = [*TASKS[:-1], TASKS[-1] | {"canonical_solution": "    return x\n"}]
    write_tasks(folder, broken)
    answers(str(folder), "humaneval", {})
    monkeypatch.setattr(evaluate, "open_model", lambda _: pytest.fail("the model was opened"))
    assert command(tmp_path / "run", folder) == 2
    assert "HumanEval/13: wrong" in capsys.readouterr().err
    assert not (tmp_path / "run/evaluate/humaneval").exists()


def test_a_benchmark_that_is_not_there_says_where_to_get_it(tmp_path, capsys):
    assert command(tmp_path / "run", tmp_path / "nowhere") == 2
    said = capsys.readouterr().err
    assert "humaneval/HumanEval.jsonl.gz" in said
    assert "https://github.com/openai/human-eval" in said


def test_a_benchmark_that_does_not_exist_is_told_with_the_nearest(tmp_path, folder, capsys):
    assert command(tmp_path / "run", folder, name="humanevalpus") == 2
    assert "humanevalplus" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS or not TOKENIZER, reason="SC2JAX_BENCHMARKS and SC2JAX_TOKENIZER name real files")
@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("humaneval", 164),
        pytest.param(
            "mbppplus",
            399,
            marks=pytest.mark.skipif("SC2JAX_LONG" not in os.environ, reason="six minutes; SC2JAX_LONG=1 runs it"),
        ),
    ],
)
def test_right_answers_played_back_as_tokens_score_all(tmp_path, monkeypatch, answers, name, tasks):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answers(BENCHMARKS, name, {}, load_tokenizer(TOKENIZER))
    assert command(tmp_path / "run", BENCHMARKS, name=name) == 0
    scores = json.loads((tmp_path / "run/evaluate" / name / "verdicts/scores.json").read_bytes())
    assert [counted["passed"] for counted in scores["verdicts"].values()] == [tasks] * len(scores["verdicts"])
    samples = (tmp_path / "run/evaluate" / name / "samples/samples.jsonl").read_text().splitlines()
    assert {json.loads(sample)["finish"] for sample in samples} == {"stop"}


def test_right_answers_are_judged_again_where_a_sample_may_use_less(tmp_path, folder, answers, capsys):
    answers(str(folder), "humaneval", {})
    told = []
    for memory in (1 << 30, 1 << 30, 1 << 29):
        assert command(tmp_path / f"run{len(told)}", folder, f"--config.evaluation.judge_memory={memory}") == 0
        told.append("own 14 solutions" in capsys.readouterr().out)
    assert told == [True, False, True]


def test_a_cache_without_room_ends_nothing(tmp_path, folder, answers, monkeypatch, capsys):
    answers(str(folder), "humaneval", {})
    real = gold.storage.write_whole

    def full(path: str, content: bytes) -> None:
        if "right-answers" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(gold.storage, "write_whole", full)
    assert command(tmp_path / "run", folder) == 0
    assert "not remembered: No space left on device" in capsys.readouterr().out
