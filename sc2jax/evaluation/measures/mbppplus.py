"""MBPP+: functions to write from a docstring with one assertion, with EvalPlus' inputs (arXiv 2305.01210).

The paper's scores of MBPP and MBPP+ are those of the groups `base` and `plus` of v0.1.0, which has 399 tasks. The
prompt is the task's docstring; stops are evalplus' for base models.
"""

from typing import Literal

from sc2jax.benchmarks.evalplus import read_mbpp_plus
from sc2jax.evaluation.benchmark import Benchmark
from sc2jax.evaluation.measures.humanevalplus import plus_benchmark

STOPS = ("\nif __name__", "\ndef main(", "\nprint(", '\n"""', "\nassert")
PROMPT_RULE = "the task's docstring, which holds one assertion, without white space around it"


def read(folder: str, variant: Literal["0.1.0", "0.2.0"] = "0.1.0") -> Benchmark:
    """The benchmark in one of its versions.

    Raises:
        UserError: its file is not there or damaged.
    """
    published = {"base": "MBPP", "plus": "MBPP+"} if variant == "0.1.0" else {}
    return plus_benchmark(read_mbpp_plus(folder, variant), STOPS, published, PROMPT_RULE)
