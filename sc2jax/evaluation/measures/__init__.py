"""The measures, a file each; a new one is a file here and its name in `MEASURES`.

Each has a `VERSION`, raised when a change to it changes its results; its `Config`, one of the bases of
`EvaluationConfig`; `measure(model, splits, config, seed)`; the type `Result` of what that returns where it could be
taken, by which it is checked when it is read again; and `summary(result)`, the result in a sentence. What a result
holds under `timing` differs from run to run: it is kept in a file of its own, and nothing is made of it.
"""

import importlib
from collections.abc import Mapping
from typing import Any

MEASURES: Mapping[str, tuple[str, ...]] = {
    "bits_per_byte": ("corpus", "tokenizer", "train"),
    "infilling": ("corpus", "tokenizer", "train"),
    "decoding": ("tokenizer", "train"),
}
"""The stages that each reads, in the order in which they are taken."""


def load(name: str) -> Any:
    """The module of a measure."""
    return importlib.import_module(f"{__name__}.{name}")
