"""`sc2jax evaluate --config=evaluate:NAME` from prompts to scores, with a model that plays right answers back."""

import json
import os
from pathlib import Path

import pytest
from playback import playback

from sc2jax import cli
from sc2jax.evaluation.measures import read_benchmark
from sc2jax.runs import benchmarks
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.verbs import evaluate

BENCHMARKS, TOKENIZER = os.environ.get("SC2JAX_BENCHMARKS", ""), os.environ.get("SC2JAX_TOKENIZER", "")
pytestmark = pytest.mark.skipif(
    not BENCHMARKS or not TOKENIZER, reason="SC2JAX_BENCHMARKS and SC2JAX_TOKENIZER name real files"
)


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """Gives a working folder with a model that answers a benchmark right."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(name: str) -> Path:
        workdir = tmp_path / "run"
        monkeypatch.setattr(benchmarks, "input_digests", lambda *_: {"train": "a stand-in"})
        benchmark = read_benchmark(name, BENCHMARKS)
        programs = {problem.task_id: _program(benchmark, problem) for problem in benchmark.problems}
        model = playback(load_tokenizer(TOKENIZER), benchmark.problems, programs)
        monkeypatch.setattr(evaluate, "open_model", lambda _: model)
        return workdir

    return make


def _program(benchmark, problem) -> str:
    case = benchmark.case(benchmark.golds[problem.task_id], {})
    return case.program[case.program.index(problem.prompt) :]


def command(name: str, workdir: Path, *more: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", f"--config=evaluate:{name}", f"--config.paths.tokenizer={TOKENIZER}",
                  f"--workdir={workdir}", *more])  # fmt: skip
    assert end.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tasks"), [("humaneval", 164)])
def test_right_answers_played_back_as_tokens_score_all(run_of, name, tasks):
    workdir = run_of(name)
    command(name, workdir)
    folder = workdir / "evaluate" / name
    scores = json.loads((folder / "verdicts" / "scores.json").read_bytes())
    assert scores["verdicts"]["all"]["passed"] == tasks == scores["tasks"]
    assert scores["metrics"]["all"]["pass@1"]["value"] == 1.0
    samples = [json.loads(line) for line in (folder / "samples" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == tasks
    assert {sample["finish"] for sample in samples} == {"stop"}
