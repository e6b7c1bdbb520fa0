"""A model whose answers are the test's, in place of one that computes them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sc2jax.inference.generate import Completion
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.text.tokenizer import Tokenizer


def unexpected(*_: Any, **__: Any) -> Any:
    raise AssertionError("the model was not to be asked this")


@dataclasses.dataclass(frozen=True)
class ScriptedModel(LoadedModel):
    answer: Callable[..., list[Completion]]
    likelihoods: Callable[[Sequence[Sequence[int]]], list[np.ndarray]]

    def complete(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Completion]:
        return self.answer(prompts, **options)

    def score(self, rows: Sequence[Sequence[int]], *, batch_size: int) -> list[np.ndarray]:
        assert batch_size > 0
        return self.likelihoods(rows)


def scripted_model(
    tokenizer: Tokenizer, *, complete: Callable[..., Any] = unexpected, score: Callable[..., Any] = unexpected
) -> ScriptedModel:
    nothing: Any = None
    return ScriptedModel(nothing, nothing, tokenizer, nothing, complete, score)
