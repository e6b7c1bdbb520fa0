"""Facts, samples and verdicts of small runs, written by hand."""

from typing import Any

from sc2jax.evaluation.comparison import ComparedRun
from sc2jax.evaluation.scores import Facts, Judged, Sample, make_scores
from sc2jax.evaluation.verdicts import Verdict


def facts(**changes: Any) -> Facts:
    made: Any = {
        "benchmark": "humaneval_plus",
        "model": "tiny",
        "file": {"path": "humanevalplus/tasks.jsonl.gz", "sha256": "a" * 64, "content_sha256": "c" * 64, "records": 4},
        "prompt_rule": "without the white space at its end",
        "sampling": {"temperature": 0.2, "top_p": 0.95, "samples": 2, "max_new_tokens": 512},
        "seed": 3,
        "version": "0.9.0",
        "tools": {"python": "3.11.9"},
        "sandbox": {"rung": 1, "name": "namespaces"},
        "samples_sha256": "b" * 64,
        "published_as": {},
        "command": "sc2jax evaluate --config=evaluate:humaneval_plus",
    }
    return made | changes


def judge(verdicts: dict[str, list[str]], detail: str = "") -> tuple[list[Sample], list[Judged]]:
    """A sample for each verdict; "passed/wrong" is that of `base` and that of `plus`, one word stands for no groups."""
    samples, judged = [], []
    for task, of_task in verdicts.items():
        for number, words in enumerate(of_task):
            each = [Verdict(word) for word in words.split("/")]
            groups: dict[str, Verdict] = {"base": each[0], "plus": each[1]} if len(each) > 1 else {}
            completion = f"    return {number}  # {task}\n"
            samples.append(Sample(task_id=task, sample=number, prompt=f"def {task}():", completion=completion))
            judged.append(Judged(task_id=task, sample=number, verdict=each[-1], groups=groups, detail=detail))
    return samples, judged


def compared(name: str, verdicts: dict[str, list[str]], **changes: Any) -> ComparedRun:
    samples, judged = judge(verdicts)
    return ComparedRun(name, make_scores(facts(model=name, **changes), samples, judged), judged)
