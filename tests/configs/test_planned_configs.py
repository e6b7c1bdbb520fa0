"""Every shipped config that is trained on TPUs still compiles for the slice that it names, with room to spare."""

import dataclasses
import importlib.util

import pytest
from quick_compilation import QUICK

from sc2jax.config import load_config, to_settings
from sc2jax.plan.compilation import CompiledStep, compile_step
from sc2jax.plan.planning import COMFORTABLE, FEW_LAYERS
from sc2jax.plan.slices import find_slice
from sc2jax.verbs.plan import planned_step

CONFIGS = ("colab", "starcoder2:3b,stage=base", "starcoder2:7b,stage=base", "starcoder2:15b,stage=base")


@pytest.mark.parametrize("config", [*CONFIGS, "starcoder2:3b", "starcoder2:7b", "starcoder2:15b"])
def test_it_names_a_slice(config):
    assert find_slice(to_settings(load_config(config)).plan.slice).chips


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[plan]'"
)
@pytest.mark.parametrize("config", CONFIGS)
def test_it_compiles_and_fits(config):
    settings = to_settings(load_config(config))
    slice_, step = find_slice(settings.plan.slice), planned_step(settings)
    quickly = dataclasses.replace(step.training, compiler_options=QUICK)
    step = dataclasses.replace(step, model=dataclasses.replace(step.model, num_layers=FEW_LAYERS), training=quickly)
    found = compile_step(step, slice_)
    assert isinstance(found, CompiledStep), found
    assert found.memory.peak < COMFORTABLE * slice_.tpu.usable_memory_bytes
