"""Utilisation: FLOPs counted by hand and by brute force, and what is said of a figure that cannot be."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.starcoder2 import get_config
from sc2jax.config import to_settings
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Parameter
from sc2jax.parallel import rules
from sc2jax.training.utilisation import Utilisation, flops_per_token, mean_visible_keys


@pytest.mark.parametrize("length", [1, 2, 7, 16])
@pytest.mark.parametrize("window", [0, 1, 2, 7, 15, 16, 17, 40])
def test_keys_are_those_of_the_mask(length, window):
    query, key = np.indices((length, length))
    mask = (key <= query) & ((query - key < window) if window else True)
    assert mean_visible_keys(length, window) == pytest.approx(mask.sum() / length)


def released(size: str) -> ModelConfig:
    model = to_settings(get_config(size)).model
    return dataclasses.replace(model, vocab_size=49152)


@pytest.mark.parametrize(
    ("size", "by_hand", "tokens", "published"),
    [
        # 6 x (3,030,371,328 parameters, of which 150,994,944 are embedding and head in one)
        #   + 12 x 30 layers x (24 x 128 channels) x (4097 / 2 keys)
        ("3b", 6 * 3_030_371_328 + 12 * 30 * 3072 * 2048.5, 3.1e12, 5.94e22),
        ("7b", 6 * 7_173_923_840 + 12 * 32 * 4608 * 2048.5, 3.5e12, 1.55e23),
        # The head is a table of its own: 15,957,889,024 parameters without 49,152 x 6144 that are looked up.
        ("15b", 6 * (15_957_889_024 - 301_989_888) + 12 * 40 * 6144 * 2048.5, 4.1e12, 3.87e23),
    ],
)
def test_base_stages_take_what_is_reckoned_by_hand_and_about_what_the_paper_says(size, by_hand, tokens, published):
    found = flops_per_token(released(size), 4096)
    assert found == pytest.approx(by_hand, rel=1e-12)
    assert 1.04 < found * tokens / published < 1.08


def test_the_long_stage_sees_a_window():
    # 4096 - 4096 x 4095 / (2 x 16384) = 3584.125 keys.
    expected = 6 * (15_957_889_024 - 301_989_888) + 12 * 40 * 6144 * 3584.125
    assert flops_per_token(released("15b"), 16384) == pytest.approx(expected, rel=1e-12)


def test_heads_need_not_be_as_wide_as_the_model():
    narrow = ModelConfig(vocab_size=32, context_length=16, embed_dim=16, num_layers=1, num_heads=4, num_kv_heads=2)
    wide = dataclasses.replace(narrow, head_dim=8)
    # q and o: 16 x 32 instead of 16 x 16 each, k and v: 16 x 16 instead of 16 x 8 each; biases of q, k and v.
    weights = 2 * 16 * 16 + 2 * 16 * 8 + 16 + 2 * 8
    attention = 12 * 16 * mean_visible_keys(16, 0)
    assert flops_per_token(wide, 16) - flops_per_token(narrow, 16) == pytest.approx(6 * weights + attention)


def test_frozen_weights_hand_gradients_on_and_have_none():
    """With adapters of rank 2 on the up projection."""
    model = ModelConfig(vocab_size=32, context_length=16, embed_dim=16, num_layers=3, num_heads=4, num_kv_heads=2)
    adapters = (
        Parameter(("into",), (3, 16, 2), (rules.LAYERS, rules.EMBED, rules.HEAD_DIM), 0.1, False),
        Parameter(("out",), (3, 2, 64), (rules.LAYERS, rules.HEAD_DIM, rules.MLP), "zeros", False),
    )
    attention = 12 * 3 * 16 * 8.5
    weights = (flops_per_token(model, 16) - attention) / 6
    expected = 4 * weights + 6 * 3 * (16 * 2 + 2 * 64) + attention
    assert flops_per_token(model, 16, adapters) == pytest.approx(expected)


def test_the_compiler_counts_as_many_in_a_linear_layer():
    """XLA's own count of a layer's products, forward and backward, with the layer trained and frozen."""
    tokens_BD, kernel_DF = jnp.ones((8, 16)), jnp.ones((16, 64))

    def counted(argument: int) -> float:
        # A nonlinear end, so that the forward product is needed.
        gradient = jax.grad(lambda x, w: jnp.sum((x @ w) ** 3), argnums=(0, 1)[: argument + 1])
        cost = jax.jit(gradient).lower(tokens_BD, kernel_DF).compile().cost_analysis()
        assert cost is not None
        return cost["flops"] / (8 * 16 * 64)

    assert counted(0) == pytest.approx(4, abs=0.5)
    assert counted(1) == pytest.approx(6, abs=0.5)


def test_utilisation_is_flops_over_time_and_peak():
    # 1000 positions of 6e9 FLOPs in 2 s, on 4 devices of 1e12: 3e12 of 4e12 a second.
    assert Utilisation(6e9, 4, 1e12).of(1000, 2.0) == pytest.approx(0.75)


def test_without_a_peak_or_a_time_there_is_no_figure():
    assert Utilisation(6e9, 4, 0.0).of(1000, 2.0) is None
    assert Utilisation(6e9, 4, 1e12).of(1000, 0.0) is None


def test_more_than_the_peak_fails_tests_and_is_said_once():
    meter = Utilisation(6e9, 4, 1e12)
    with pytest.warns(UserWarning, match="took 150% of the devices' peak, which cannot be"):
        assert meter.of(1000, 1.0) == pytest.approx(1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert meter.of(1000, 1.0) == pytest.approx(1.5)


def test_exactly_the_peak_is_said_to_no_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Utilisation(1.0, 1, 1.0).of(8, 8.0) == 1
