"""The refusal of a model whose numbers are none: nothing is chosen or measured by them."""

import jax
import numpy as np

from sc2jax.errors import UserError


def refuse_not_finite(finite: np.ndarray | jax.Array) -> None:
    """Makes sure that what a model computed was finite, of which `finite` says for each part whether it was.

    Raises:
        UserError: some of it was not.
    """
    if not finite.all():
        raise UserError(
            "the model's logits are not finite: its training has diverged, or its weights are too large for "
            "model.compute_dtype; train again with a lower learning rate, take an earlier checkpoint, or convert other "
            "weights"
        )
