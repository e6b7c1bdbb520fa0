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
    batch_sizes: list[int] = dataclasses.field(default_factory=list)

    def complete(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Completion]:
        return self.answer(prompts, **options)

    def score(self, rows: Sequence[Sequence[int]], *, batch_size: int) -> list[np.ndarray]:
        self.batch_sizes.append(batch_size)
        return self.likelihoods(rows)


def scripted_model(
    tokenizer: Tokenizer, *, complete: Callable[..., Any] = unexpected, score: Callable[..., Any] = unexpected
) -> ScriptedModel:
    nothing: Any = None
    return ScriptedModel(nothing, nothing, tokenizer, nothing, complete, score)
