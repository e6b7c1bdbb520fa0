"""The model of a run: its shape is the checkpoint's, how it is computed is the command's."""

import dataclasses

import jax
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import init_params, parameter_table, stacked_mask
from sc2jax.records.manifest import write_output
from sc2jax.records.stage import Stage
from sc2jax.runs.models import fitted_model, open_model, trained_model
from sc2jax.runs.run import Run, open_run
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer

MODEL = ModelConfig(
    vocab_size=330, context_length=16, embed_dim=16, num_layers=2, num_heads=4, num_kv_heads=2, window=8,
    compute_dtype="bfloat16", rematerialization="full",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run with a tokenizer of 320 tokens and a checkpoint of step 3."""
    folder = tmp_path_factory.mktemp("run")
    run = open_run(Settings(), str(folder))
    text = "def f(x):\n    return x + 1\n" * 20
    model = train_tokenizer([text, text.replace("f", "gh")], TokenizerConfig(vocab_size=320), 0)
    run.do(Stage("tokenizer", 1, {}, {}, lambda at: ([write_output(at, "tokenizer.model", model)], {})))
    checkpoints = Checkpoints(f"{folder}/train/checkpoints", 1)
    table = parameter_table(MODEL)
    params = init_params(table, jax.random.key(5))
    progress = Progress(3, "key", np.zeros((1, 1), np.int64))
    checkpoints.save(progress, params, {"count": np.zeros(1)}, stacked_mask(table))
    checkpoints.close()
    run.do(Stage("train", 1, {"model": MODEL}, {}, lambda _: ([], {"steps": 3})))
    return run


def with_model(run: Run, **changes) -> Run:
    model = dataclasses.replace(run.settings.model, **changes)
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, model=model))


def test_the_shape_is_what_was_trained(run):
    trained = trained_model(run)
    assert (trained.step, trained.checkpoints) == (3, f"{run.workdir}/train/checkpoints")
    assert (trained.config.vocab_size, trained.config.embed_dim, trained.config.window) == (330, 16, 8)


def test_a_model_opened_for_use_is_computed_as_the_command_says(run):
    loaded = open_model(with_model(run, compute_dtype="float32", attention="reference", embed_dim=3072))
    assert (loaded.config.compute_dtype, loaded.config.attention) == ("float32", "reference")
    assert (loaded.config.rematerialization, loaded.config.scan_unroll) == ("none", 1)
    assert (loaded.config.embed_dim, loaded.config.num_layers) == (16, 2)
    expected = init_params(parameter_table(MODEL), jax.random.key(5))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), loaded.params, expected))
    assert loaded.tokenizer.vocab_size == 320
    assert loaded.mesh.size == jax.device_count()


def test_a_manifest_without_a_model_is_named(run, tmp_path):
    other = open_run(Settings(), str(tmp_path))
    other.do(Stage("train", 1, {"model": {"layers": 3}}, {}, lambda _: ([], {"steps": 3})))
    with pytest.raises(UserError, match="describes no model of this version"):
        trained_model(other)


def test_the_vocabulary_is_the_tokenizers_unless_the_model_has_a_larger_one(run):
    tokenizer = load_tokenizer(f"{run.workdir}/tokenizer/tokenizer.model")
    assert fitted_model(ModelConfig(), tokenizer).vocab_size == 320
    assert fitted_model(ModelConfig(vocab_size=320), tokenizer).vocab_size == 320
    assert fitted_model(ModelConfig(vocab_size=321), tokenizer).vocab_size == 321
    with pytest.raises(UserError, match=r"model\.vocab_size 319 is less than the tokenizer's 320"):
        fitted_model(ModelConfig(vocab_size=319), tokenizer)
