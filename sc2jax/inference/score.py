"""Scoring: how likely a model finds given token sequences."""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.inference.finite import refuse_not_finite
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.model.transformer import forward, output_logits
from sc2jax.progress import progress


def token_log_likelihoods(
    params: Params, config: ModelConfig, rows: Sequence[Sequence[int]], *, batch_size: int
) -> list[np.ndarray]:
    """The natural-log likelihood of every token but the first of each row, given the tokens before it.

    Rows longer than the model's context are scored in overlapping windows. The first window scores all of its tokens,
    each later one only its second half; so every token is scored once, with at least half a context before it.

    Returns:
        A float32 array for each row, one element shorter than the row.

    Raises:
        UserError: a likelihood is not finite.
    """
    scores = [np.zeros(max(len(row) - 1, 0), np.float32) for row in rows]
    spans = [(index, *span) for index, row in enumerate(rows) for span in _spans(len(row), config.context_length)]
    # Windows of similar length share a batch; the order does not affect any score.
    spans.sort(key=lambda span: span[2] - span[1])
    for first in progress(range(0, len(spans), batch_size), desc="score", unit="batch"):
        batch = spans[first : first + batch_size]
        length = -(-max(end - start for _, start, end, _ in batch) // 64) * 64
        tokens_BT = np.zeros((batch_size, length), np.int32)
        for place, (index, start, end, _) in enumerate(batch):
            tokens_BT[place, : end - start] = rows[index][start:end]
        likelihoods_BT = np.asarray(_log_likelihoods(params, tokens_BT, config=config))
        for place, (index, start, end, scored_from) in enumerate(batch):
            scores[index][scored_from - 1 : end - 1] = likelihoods_BT[place, scored_from - 1 - start : end - 1 - start]
    for score in scores:
        refuse_not_finite(np.isfinite(score))
    return scores


def _spans(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Windows (start, end, first scored token) that together score each of the tokens 1 to length - 1 once."""
    if length < 2:
        return
    yield 0, min(length, context), 1
    stride = max(context // 2, 1)
    for scored_from in range(context, length, stride):
        end = min(scored_from + stride, length)
        yield max(end - context, 0), end, scored_from


@partial(jax.jit, static_argnames="config")
def _log_likelihoods(params: Params, tokens_BT: jax.Array, *, config: ModelConfig) -> jax.Array:
    """Log-likelihood (B, T - 1) of each token but the first."""
    logits_BTV = output_logits(params, forward(params, tokens_BT[:, :-1], config), config)
    chosen_BT = jnp.take_along_axis(logits_BTV, tokens_BT[:, 1:, None], axis=-1)[..., 0]
    return chosen_BT - jax.nn.logsumexp(logits_BTV, axis=-1)
