"""The config for Colab: its tokens are the hour of a TPU that it promises, by the sums of the code."""

import dataclasses
import re

import pytest

from configs import colab
from sc2jax.config import load_config, to_settings
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import count_params, parameter_table
from sc2jax.parallel.chips import chip_of
from sc2jax.training.schedule import fitted_training
from sc2jax.training.utilisation import flops_per_token

SETTINGS = to_settings(load_config("colab"))
SHARE_OF_PEAK = 0.30


def model() -> ModelConfig:
    return dataclasses.replace(SETTINGS.model, vocab_size=SETTINGS.tokenizer.vocab_size)


def hours(device_kind: str) -> float:
    chip = chip_of(device_kind)
    assert chip is not None
    flops = flops_per_token(model(), SETTINGS.model.context_length) * SETTINGS.training.horizon_tokens
    return flops / (SHARE_OF_PEAK * chip.peak_flops) / 3600


def test_it_has_about_25_million_parameters():
    parameters = count_params(parameter_table(model()))
    assert 24e6 < parameters < 27e6
    assert f"{parameters:,}" in str(colab.__doc__)


def test_a_v5e_is_expected_to_read_its_tokens_in_an_hour():
    assert hours("TPU v5e") == pytest.approx(1, abs=0.005)


def test_the_time_of_a_t4_is_that_of_the_same_sum():
    said = re.search(r"takes (\d) hours and (\d) minutes", str(colab.__doc__))
    assert said
    assert hours("Tesla T4") == pytest.approx(int(said[1]) + int(said[2]) / 60, abs=0.01)


def test_the_flops_of_a_token_are_those_of_the_docstring():
    said = re.search(r"= ([\d.]+) MFLOPs", str(colab.__doc__))
    assert said
    assert flops_per_token(model(), colab.CONTEXT) / 1e6 == pytest.approx(float(said[1]), abs=0.05)


def test_it_runs_to_its_horizon():
    training = fitted_training(SETTINGS.training, SETTINGS.model.context_length)
    assert training.steps * colab.BATCH * colab.CONTEXT == pytest.approx(training.horizon_tokens, rel=1e-3)
    assert training.warmup_tokens < training.horizon_tokens / 50
