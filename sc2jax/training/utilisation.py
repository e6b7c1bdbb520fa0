"""Model FLOPs utilisation: the share of the devices' peak that the model's own arithmetic takes (PaLM, appendix B).

What is counted follows from the model alone, so that the figure cannot be raised by computing something twice:

- A product of a weight with a token's activations costs 2 FLOPs a weight forward, 2 for the gradient of the
  activations and 2 for the gradient of the weight: 6 where the weight is trained, 4 where it is frozen and only hands
  gradients on. Norms and biases count like weights; they are a ten-thousandth of the whole.
- The input embedding is looked up and costs nothing; the output head is a product, also where it is the same table.
- Attention costs 12 a layer, key and channel, for its two products have gradients of both of their factors. Only keys
  that are seen count: those before the query, within the window, as if a row were one document.
- What is computed again in the backward pass does not count.
- All positions of a row count, padding included: the devices compute it.

For StarCoder2's base stages that is 5 to 7 % more than the paper reports (5.94e22, 1.55e23 and 3.87e23 for 3B, 7B and
15B), which does not say what it counted.
"""

import warnings

from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Table, count_params, parameter_table


def mean_visible_keys(row_length: int, window: int) -> float:
    """The keys that a query of a row sees, itself included, on average; a window of 0 sees all before it."""
    seen = min(window or row_length, row_length)
    return seen - seen * (seen - 1) / (2 * row_length)


def flops_per_token(model: ModelConfig, row_length: int, adapters: Table = ()) -> float:
    """FLOPs of a training step for each position of its rows, forward and backward.

    Args:
        model: its shape.
        row_length: positions of a row.
        adapters: what is trained in place of the model's parameters, which are frozen then; none: all of them are.
    """
    embedding = model.vocab_size * model.embed_dim
    looked_up = 0 if model.tie_embeddings else embedding
    weights = count_params(parameter_table(model)) - looked_up
    products = 4 * weights + 6 * count_params(adapters) if adapters else 6 * weights
    channels = model.num_heads * model.head_dim
    return products + 12 * model.num_layers * channels * mean_visible_keys(row_length, model.window)


class Utilisation:
    """The utilisation of a run's devices, from the time that its tokens took."""

    def __init__(self, flops_per_token: float, devices: int, peak_flops: float) -> None:
        """Of so many devices of a peak each; a peak of 0 is not known, and neither is the utilisation then."""
        self._seconds_per_token = flops_per_token / (devices * peak_flops) if peak_flops else 0.0
        self._is_told = False

    def of(self, positions: int, seconds: float) -> float | None:
        """The share of the peak that so many positions in so many seconds come to; None where the peak is not known.

        More than the peak cannot be: it is said once, as a warning, and the figure stands as it is.
        """
        if not self._seconds_per_token or seconds <= 0:
            return None
        share = positions * self._seconds_per_token / seconds
        if share > 1 and not self._is_told:
            self._is_told = True
            warnings.warn(
                f"the model's arithmetic took {share:.0%} of the devices' peak, which cannot be: the peak in "
                "sc2jax/parallel/chips.py, the count of FLOPs or the clock is wrong; the training goes on",
                stacklevel=2,
            )
        return share


UNKNOWN = Utilisation(0.0, 1, 0.0)
"""That of devices whose peak is not known."""
