"""The released sizes against the published ones."""

import numpy as np
import pytest

from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.feed.mixtures import read_mixture
from sc2jax.model.params import count_params, parameter_table
from sc2jax.runs.model_of_start import SHAPE
from sc2jax.training.schedule import fitted_training, learning_rate_schedule


@pytest.mark.parametrize(
    ("size", "parameters", "base_theta", "long_theta", "tokens_a_step", "tokens", "sequence"),
    [
        ("3b", 3_030_371_328, 1e5, 999999.4420358813, 2.6e6, 3.1e12, 2),
        ("7b", 7_173_923_840, 1e5, 1e6, 3.5e6, 3.5e12, 4),
        ("15b", 15_957_889_024, 1e4, 1e5, 4.1e6, 4.1e12, 1),
    ],
)
def test_sizes_and_stages(size, parameters, base_theta, long_theta, tokens_a_step, tokens, sequence):
    base = to_settings(load_config(f"starcoder2:{size},stage=base"))
    long = to_settings(load_config(f"starcoder2:{size},stage=long"))
    assert to_settings(load_config(f"starcoder2:{size}")) == long
    counts = {count_params(parameter_table(settings.model)) for settings in (base, long)}
    assert counts == {parameters}
    assert (base.model.rope_theta, long.model.rope_theta) == (base_theta, long_theta)
    assert (base.model.context_length, long.model.context_length) == (4096, 16384)
    assert base.model.window == long.model.window == 4096
    assert base.model.head_dim == 128
    for settings in (base, long):
        step = settings.training.batch_size * settings.model.context_length
        nearest = min(range(256, 2048, 256), key=lambda rows: abs(rows * 4096 - tokens_a_step))
        assert step == nearest * 4096  # of what 256 chips divide
    assert (base.training.horizon_tokens, long.training.horizon_tokens) == (tokens, 200e9)
    assert base.training.batch_size % 256 == 0
    assert long.training.batch_size * sequence % 256 == 0


@pytest.mark.parametrize("size", ["3b", "7b", "15b"])
def test_the_learning_rates_of_the_stages(size):
    """Base: a warm-up of 1000 steps, then a cosine to a tenth; long: constant for 80 %, then linear to a tenth."""
    for stage, shape in (
        ("base", {1000: 3e-4, 0.5: 1.65e-4, 1.0: 3e-5}),
        ("long", {0: 3e-5, 0.8: 3e-5, 0.9: 1.65e-5, 1.0: 3e-6}),
    ):
        settings = to_settings(load_config(f"starcoder2:{size},stage={stage}"))
        length = settings.model.context_length
        training = fitted_training(settings.training, length)
        tokens = training.steps * training.batch_size * length
        assert 0 <= tokens - training.horizon_tokens < training.batch_size * length
        schedule = learning_rate_schedule(training, length)
        for place, rate in shape.items():
            step = place if isinstance(place, int) else round(place * training.steps)
            np.testing.assert_allclose(np.asarray(schedule(step)), rate, rtol=2e-3)


def test_the_long_stage_of_15b_goes_on_from_the_base_stage_by_one_override():
    """The shape is the base stage's, so that its parameters fit; what differs is the context, the base and the rest."""
    base, long = (load_config(f"starcoder2:15b,stage={stage}") for stage in ("base", "long"))
    long.update_from_flattened_dict({"paths.start": "BASE/train"})
    base, long = to_settings(base), to_settings(long)
    assert (base.paths.start, long.paths.start) == ("", "BASE/train")
    assert {name for name in SHAPE if getattr(base.model, name) != getattr(long.model, name)} == set()
    assert (long.model.embed_dim, long.model.num_layers, long.model.num_heads) == (6144, 40, 48)
    assert (long.model.num_kv_heads, long.model.mlp_dim or 4 * 6144, long.model.tie_embeddings) == (4, 24576, False)
    training = fitted_training(long.training, long.model.context_length)
    assert training.batch_size * long.model.context_length == 2**22
    assert training.steps == -(-200_000_000_000 // 2**22)
    assert not training.start_with_optimizer


@pytest.mark.parametrize(("size", "tokens"), [("3b", 612.45), ("7b", 663.25), ("15b", 913.23)])
def test_each_size_has_the_mixture_of_the_paper_and_keeps_repositories_together(size, tokens):
    for stage in ("base", "long"):
        settings = to_settings(load_config(f"starcoder2:{size},stage={stage}"))
        feed = settings.feed
        mixture = read_mixture(feed.mixture)
        assert sum(share.share for share in mixture) == pytest.approx(tokens)
        assert mixture[0].name == ("source_code_full" if size == "15b" else "source_code_smol")
        assert mixture[0].format == "repository"
        assert settings.model.context_length == {"base": 4096, "long": 16384}[stage]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("16b", "did you mean 15b"),
        ("", "the sizes are 3b, 7b, 15b"),
        ("3b,stag=base", "did you mean stage"),
        ("3b,stage=basis", "did you mean base"),
    ],
)
def test_unknown_arguments_name_the_nearest(argument, message):
    with pytest.raises(UserError, match=message):
        load_config(f"starcoder2:{argument}")
