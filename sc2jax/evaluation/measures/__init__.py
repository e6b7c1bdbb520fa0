"""The measures, a file each; a new one is a file here and its name in `MEASURES` or `BENCHMARKS`.

Each of `MEASURES` has a `VERSION`, raised when a change to it changes its results; its `Config`, one of the bases of
`EvaluationConfig`; `measure(model, splits, config, seed)`; the type `Result` of what that returns where it could be
taken, by which it is checked when it is read again; and `summary(result)`, the result in a sentence. What a result
holds under `timing` differs from run to run: it is kept in a file of its own, and nothing is made of it.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sc2jax.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from sc2jax.evaluation.benchmark import Benchmark

MEASURES: Mapping[str, tuple[str, ...]] = {
    "bits_per_byte": ("corpus", "tokenizer", "train"),
    "infilling": ("corpus", "tokenizer", "train"),
    "decoding": ("tokenizer", "train"),
}
"""The stages that each reads, in the order in which they are taken."""


BENCHMARKS: Mapping[str, tuple[str, str]] = {
    "humaneval": ("humaneval", ""),
    "humaneval-infilled": ("humaneval", "infilled"),
    "humanevalplus": ("humanevalplus", "0.1.9"),
    "humanevalplus-0.1.10": ("humanevalplus", "0.1.10"),
    "mbpp": ("mbpp", ""),
    "mbppplus": ("mbppplus", "0.1.0"),
    "mbppplus-0.2.0": ("mbppplus", "0.2.0"),
    "gsm8k": ("gsm8k", ""),
    "cruxeval-input": ("cruxeval", "input"),
    "cruxeval-output": ("cruxeval", "output"),
    "humaneval-infilling": ("humaneval_infilling", ""),
    "santacoder-fim": ("santacoder_fim", ""),
}
"""The benchmarks by name: the file of each here, whose function `read(folder, variant)` opens it, and the variant."""


def read_benchmark(name: str, folder: str) -> "Benchmark":
    """A benchmark whose file lies in the folder of benchmarks.

    Raises:
        UserError: there is none of this name, or its file is not there or damaged.
    """
    if name not in BENCHMARKS:
        raise UserError(
            f"there is no benchmark {name!r}{did_you_mean(name, BENCHMARKS)}; they are {', '.join(BENCHMARKS)}"
        )
    file, variant = BENCHMARKS[name]
    return load(file).read(folder, variant)


def load(name: str) -> Any:
    """The module of a measure."""
    return importlib.import_module(f"{__name__}.{name}")
