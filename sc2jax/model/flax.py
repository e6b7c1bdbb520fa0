"""StarCoder2 as a Flax nnx module: a thin view of the same parameter table and the same forward.

It is for users of Flax: `nnx.grad`, `nnx.jit` and optimizers work on it as on any module. It computes nothing itself.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Parameter, Params, init_params, map_table, parameter_table
from sc2jax.model.transformer import forward, output_logits


class StarCoder2(nnx.Module):
    """Tokens in, logits out; `params` holds one `nnx.Param` for each entry of the table, at its path.

    Each carries the logical names of its dimensions, `param.get_metadata("axes")`, of parallel/rules.py.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, params: Params | None = None) -> None:
        """With random parameters from the stream `params`, or with given ones, such as a restored checkpoint's."""
        self.config = config
        table = parameter_table(config)
        values = init_params(table, rngs.params()) if params is None else params
        self.params = nnx.data(_nested(map_table(table, lambda parameter: _variable(parameter, values))))

    def __call__(
        self,
        tokens_BT: jax.Array,
        *,
        segment_ids_BT: jax.Array | None = None,
        positions_BT: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Logits (B, T, V), float32; without `rngs`, whose stream `dropout` is used, there is no dropout."""
        params = self.arrays()
        hidden_BTD = forward(
            params,
            tokens_BT,
            self.config,
            segment_ids_BT=segment_ids_BT,
            positions_BT=positions_BT,
            dropout_key=None if rngs is None else rngs.dropout(),
        )
        return output_logits(params, hidden_BTD, self.config)

    def arrays(self) -> Params:
        """The parameters as the functional model takes them, for generating or saving."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))["params"]


def _variable(parameter: Parameter, values: Params) -> nnx.Param:
    for name in parameter.path:
        values = values[name]
    return nnx.Param(values, axes=parameter.axes)


def _nested(tree: Mapping[str, Any]) -> nnx.Dict:
    return nnx.Dict({name: _nested(node) if isinstance(node, Mapping) else node for name, node in tree.items()})
