"""The verbs of the command line, a file each: its docstring is its help, its function `run` composes the rooms.

A new verb is a file here and its name in `VERBS`.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERBS = (
    "quickstart",
    "curate",
    "tokenizer",
    "tokenize",
    "show",
    "train",
    "evaluate",
    "complete",
    "convert",
    "ablate",
    "plan",
    "report",
    "check",
)
"""In the order in which help lists them."""

WRITES = {
    "quickstart": ("corpus", "tokenizer", "tokenize", "train"),
    "curate": ("corpus",),
    "tokenizer": ("tokenizer",),
    "tokenize": ("tokenize",),
    "train": ("train",),
}
"""The stages that a verb writes and whose folders `paths` may name for others to read.

`convert` stands in `written`, for it writes one or reads it.
"""

TAKES_FOLDER = ("check",)
"""Verbs that may be given their working folder without `--workdir=` before it."""

TAKES_CONFIG = ("ablate",)
"""Verbs that make configs of the one they are given: they take the `ConfigDict`, in which nothing is filled in yet."""


FLAGS = {
    "plan": {"search": "plan.search", "measured": "plan.measured"},
    "evaluate": {"sandbox": "evaluation.sandbox", "unsafe": "evaluation.unsafe", "compare": "evaluation.compare"},
}
"""Short forms of keys by verb, `--search` for `--config.plan.search=true`, of what only chooses what to do or show."""

SWITCHES = ("search", "unsafe")
"""Of these, those that mean true where they stand alone."""


def written(verb: str, config: Any) -> tuple[str, ...]:
    """The stages that a verb is going to write with a config, of those that `paths` may name."""
    if verb == "convert" and config.convert.from_huggingface:
        return ("train",)  # a tokenizer that `paths` names is read instead of the one that comes with the model
    return WRITES.get(verb, ())


def docstring(verb: str) -> str:
    """A verb's help, read from its file: importing it would import all that it works with."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def sentence(verb: str) -> str:
    """The first line of a verb's help: what it does."""
    return docstring(verb).splitlines()[0]


def load(verb: str) -> Callable[..., None]:
    """A verb's function, which takes the settings, or what they are made from, and the working folder."""
    return importlib.import_module(f"{__name__}.{verb}").run
