"""Encodes the documents of the mixture, so that training reads tokens; `train` does it first where it is not done.

Reads `corpus/` and `tokenizer/`; writes `tokenize/`. Run again after an interruption, it goes on with the parts that
are missing.
"""

from sc2jax.config import Settings
from sc2jax.runs.run import open_run
from sc2jax.runs.tokens import tokenize


def run(settings: Settings, workdir: str) -> None:
    """Encodes the mixture's training documents."""
    tokenize(open_run(settings, workdir))
