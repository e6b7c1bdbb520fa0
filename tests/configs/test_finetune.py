"""The config for fine-tuning: which ways there are, and what they leave to the start."""

import pytest

from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.model.config import LINEAR_LAYERS


def test_the_ways():
    adapters, everything = (to_settings(load_config(f"finetune:{way}")) for way in ("adapters", "all"))
    assert adapters == to_settings(load_config("finetune"))
    assert (adapters.adapters.rank, adapters.adapters.targets, everything.adapters.rank) == (16, LINEAR_LAYERS, 0)
    for settings in (adapters, everything):
        assert settings.training.model_of_start
        assert not settings.training.start_with_optimizer
    # All parameters move a released model at a tenth of the rate.
    assert everything.training.peak_learning_rate == adapters.training.peak_learning_rate / 10


def test_an_unknown_way_is_named():
    with pytest.raises(UserError, match=r"no way 'adapter' \(did you mean adapters\?\)|no way 'adapter'.*adapters"):
        load_config("finetune:adapter")
