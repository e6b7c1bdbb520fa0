"""The small, high-quality sets of exercises with solutions (LHQ) as documents.

StarCoder2 paper, section 2; their layouts are those of the reference pipeline (bigcode's the-stack-v2, lhq). None of
them has special tokens. MultiPL-T and Proofsteps are plain text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sc2jax.text.special_tokens import Piece


def exercise(record: Mapping[str, Any]) -> list[Piece]:
    """An exercise and its solutions, in the layout of its kind."""
    return [_LAYOUTS[record["kind"]](record)]


def _apps(record: Mapping[str, Any]) -> str:
    """APPS: how the solution is called, and the first solution."""
    call = "Call-Based" if record["call_based"] else "Standard Input"
    return (
        f"\nQUESTION:\n{record['question']}{record['starter_code']}\nUse {call} format\n"
        f"ANSWER:\n{record['solutions'][0]['text']}"
    )


def _code_contests(record: Mapping[str, Any]) -> str:
    """Code Contests: the first solution in each language, right after its heading as in the reference pipeline."""
    first: dict[str, str] = {}
    for solution in record["solutions"]:
        first.setdefault(solution["language"], solution["text"])
    solutions = "".join(f"Solution ({language}):{text}\n" for language, text in first.items())
    return f"{record['question']}\n{solutions}".strip()


def _rosetta_code(record: Mapping[str, Any]) -> str:
    """Rosetta Code: a task (its name is the first line of the question) in all languages, separated by blank lines."""
    solutions = [f"Language: {solution['language']}\n{solution['text']}" for solution in record["solutions"]]
    return "\n\n".join([record["question"], *solutions])


def _question_answer(record: Mapping[str, Any]) -> str:
    """GSM8K, SciRel and DeepMind Mathematics."""
    return f"{record['question']}\n{record['solutions'][0]['text']}"


_LAYOUTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "apps": _apps,
    "code_contests": _code_contests,
    "rosetta_code": _rosetta_code,
    "question_answer": _question_answer,
}
