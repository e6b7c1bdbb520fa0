"""The model against transformers' Starcoder2ForCausalLM, from weights that come through the conversion.

The golden cases are written by tests/golden/make_golden.py. A larger one, with hidden states and attention, is compared
with where it lies beside the tokenizer that SC2JAX_TOKENIZER names.
"""

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.inference.generate import generate
from sc2jax.interop.convert import import_model
from sc2jax.interop.weights import tensor_parameters, to_huggingface
from sc2jax.kernels.reference import reference_attention, rotary_angles, rotate
from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import token_losses
from sc2jax.model.params import Params, abstract_params, parameter_table
from sc2jax.model.transformer import forward, layer_norm, output_logits, transformer_layer
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.safetensors"))
SHARED = "hf_tiny_sw16_untied"


@dataclasses.dataclass(frozen=True)
class Case:
    config: ModelConfig
    params: Params
    expected: Mapping[str, np.ndarray]


def load_case(folder: Path, scratch: Path) -> Case:
    imported = import_model(folder, str(scratch), ModelConfig(compute_dtype="float32"))
    # Rates of a case that transformers computed without dropout.
    config = dataclasses.replace(imported.model, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    checkpoints = Checkpoints(str(scratch), 1)
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    params = checkpoints.restore_params(0, abstract_params(parameter_table(config), mesh))
    checkpoints.close()
    return Case(config, params, load_file(folder / "expected.safetensors"))


@pytest.fixture(scope="module", params=[*CASES, SHARED])
def case(request, tmp_path_factory) -> Case:
    folder = GOLDEN / request.param
    if request.param == SHARED:
        folder = Path(os.environ.get("SC2JAX_TOKENIZER", "")).parent / SHARED
        if not folder.is_dir():
            pytest.skip(f"no folder {SHARED} lies beside the tokenizer that SC2JAX_TOKENIZER names")
    return load_case(folder, tmp_path_factory.mktemp("converted"))


@partial(jax.jit, static_argnames="config")
def compute_logits(params: Params, tokens: jax.Array, config: ModelConfig, **place: Any) -> jax.Array:
    return output_logits(params, forward(params, tokens, config, **place), config)


def test_the_cases_cover_what_they_should():
    assert len(CASES) >= 6


def test_logits(case):
    tokens = jnp.asarray(case.expected["input_ids"])
    logits = compute_logits(case.params, tokens, case.config)
    np.testing.assert_allclose(logits, case.expected["logits"], atol=1e-4, rtol=0)


def test_logits_of_rows_padded_on_the_left(case):
    mask = case.expected["attention_mask_leftpad"]
    logits = compute_logits(
        case.params,
        jnp.asarray(case.expected["input_ids"] * mask),
        case.config,
        segment_ids_BT=jnp.asarray(mask),
        positions_BT=jnp.asarray(case.expected["position_ids_leftpad"]),
    )
    real = mask.astype(bool)
    np.testing.assert_allclose(logits[real], case.expected["logits_leftpad"][real], atol=1e-4, rtol=0)


def test_loss_and_gradients(case):
    tokens = jnp.asarray(case.expected["input_ids"])
    batch = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segment_ids": jnp.ones_like(tokens[:, 1:]),
        "positions": jnp.broadcast_to(jnp.arange(tokens.shape[1] - 1), tokens[:, 1:].shape),
    }

    def loss(params: Params) -> jax.Array:
        return jnp.mean(token_losses(params, batch, case.config, None, jax.random.key(0)))

    value, gradients = jax.jit(jax.value_and_grad(loss))(case.params)
    np.testing.assert_allclose(value, case.expected["loss"][0], rtol=1e-5)
    for name, (parameter, layer) in tensor_parameters(parameter_table(case.config)).items():
        ours: Any = gradients
        for key in parameter.path:
            ours = ours[key]
        found = to_huggingface(np.asarray(ours[layer] if parameter.stacked else ours), parameter)
        expected = case.expected[f"{name}.grad"]
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0, err_msg=name)


def test_greedy_decoding(case):
    tokens, mask = case.expected["input_ids"], case.expected["attention_mask_leftpad"].astype(bool)
    # The continued rows begin with their prompts, which are the first tokens of the input.
    continued = case.expected["greedy"]
    length = int((continued[:, : tokens.shape[1]] == tokens).all(axis=0).cumprod().sum())
    assert length == 20
    # Without a mask transformers takes the token 0 of a prompt for padding: such a row is no reference.
    unmasked = (tokens[:, :length] != 0).all(axis=1)
    prompts, new = tokens[unmasked, :length], continued[unmasked, length:]
    assert continue_greedily(case, prompts.tolist(), new) == new.tolist()
    if "greedy_leftpad" in case.expected:
        ragged = [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]
        new = case.expected["greedy_leftpad"][:, tokens.shape[1] :]
        assert continue_greedily(case, ragged, new) == new.tolist()


def continue_greedily(case: Case, prompts: list[list[int]], expected: np.ndarray) -> list[list[int]]:
    made = generate(case.params, case.config, prompts, max_new_tokens=expected.shape[1], stop_ids=frozenset())
    return [completion.ids for completion in made]


@pytest.mark.parametrize("case", [SHARED], indirect=True)
def test_hidden_states_and_attention(case):
    tokens = jnp.asarray(case.expected["input_ids"])
    hidden, attention = jax.jit(layer_by_layer, static_argnums=2)(case.params, tokens, case.config)
    for number, state in enumerate(hidden):
        np.testing.assert_allclose(state, case.expected[f"hidden_{number}"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(attention[0], case.expected["attn_0"], atol=1e-5, rtol=0)


def layer_by_layer(params: Params, tokens: jax.Array, config: ModelConfig) -> tuple[list[jax.Array], list[jax.Array]]:
    """The embedding and what each layer makes of it, the last one normed, and each layer's attention weights."""
    B, T = tokens.shape
    segments = jnp.zeros((B, T), jnp.int32)
    angles = rotary_angles(jnp.broadcast_to(jnp.arange(T), (B, T)), config.head_dim, config.rope_theta)
    attention: list[jax.Array] = []

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, None]:
        q, k = rotate(q, *angles), rotate(k, *angles)
        # Values that are rows of the identity make the output the weights themselves.
        parts = []
        for start in range(0, T, config.head_dim):
            rows = jnp.eye(T)[:, start : start + config.head_dim]
            identity = jnp.broadcast_to(rows[None, :, None], (B, T, config.num_kv_heads, rows.shape[1]))
            parts.append(reference_attention(q, k, identity, segments, config.window))
        attention.append(jnp.concatenate(parts, axis=-1).transpose(0, 2, 1, 3))
        return reference_attention(q, k, v, segments, config.window), None

    hidden = [params["embedding"][tokens]]
    for layer in range(config.num_layers):
        layer_params = jax.tree.map(lambda array, layer=layer: array[layer], params["layers"])
        hidden.append(transformer_layer(layer_params, hidden[-1], config, attend)[0])
    hidden[-1] = layer_norm(hidden[-1], params["final_norm"], config.norm_epsilon)
    return hidden, attention
