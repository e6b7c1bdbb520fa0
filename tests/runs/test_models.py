"""The model of a run: its shape is the checkpoint's, how it is computed is the command's."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import init_params, parameter_table, stacked_mask
from sc2jax.records.manifest import write_output
from sc2jax.records.stage import Stage
from sc2jax.runs.model_checkpoint import PARAMETERS
from sc2jax.runs.models import fitted_model, open_model, trained_model
from sc2jax.runs.run import Run, open_run
from sc2jax.runs.tokenizer_file import tokenizer_digest
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
    make_tokenizer(run, "gh")
    train(run)
    return run


def make_tokenizer(run: Run, name: str) -> None:
    text = "def f(x):\n    return x + 1\n" * 20
    model = train_tokenizer([text, text.replace("f", name)], TokenizerConfig(vocab_size=320), 0)
    run.do(Stage("tokenizer", 1, {}, {}, lambda at: ([write_output(at, "tokenizer.model", model)], {})))


STATISTICS = {"parameters": 1, "steps": 3, "tokens": 1}


def train(run: Run, seed: int = 5) -> None:
    table = parameter_table(MODEL)
    params = init_params(table, jax.random.key(seed))
    inputs = {"tokenizer": tokenizer_digest(run)}

    def write(unfinished: str):
        checkpoints = Checkpoints(f"{run.folder('train')}/checkpoints", 1)
        progress = Progress(3, stage.key)
        checkpoints.save(progress, params, {"count": np.zeros(1)}, stacked_mask(table))
        checkpoints.close()
        return [write_output(unfinished, PARAMETERS, json.dumps(fingerprint(params)).encode())], STATISTICS

    stage = Stage("train", 1, {"model": MODEL, "seed": seed}, inputs, write)
    run.do(stage)


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
    parameters = Path(run.workdir, "train", PARAMETERS).read_bytes()
    for folder, settings, statistics in (
        ("no step", {"model": {}}, {}),
        ("no model", {}, STATISTICS),
        ("other model", {"model": {"layers": 3}}, STATISTICS),
    ):
        other = open_run(Settings(), str(tmp_path / folder))
        other.do(
            Stage(
                "convert", 1, settings, {}, lambda at, of=statistics: ([write_output(at, PARAMETERS, parameters)], of)
            ),
            "train",
        )
        shutil.copytree(f"{run.workdir}/train/checkpoints", tmp_path / folder / "train/checkpoints")
        with pytest.raises(UserError, match=r"describes no model of this version|holds a model of another version"):
            trained_model(other)


@pytest.fixture
def copied(run, tmp_path) -> Run:
    """The same run elsewhere."""
    shutil.copytree(run.workdir, tmp_path / "copy")
    return open_run(Settings(), str(tmp_path / "copy"))


def test_a_run_that_was_copied_or_moved_opens(copied, run):
    expected = trained_model(run)
    assert trained_model(copied) == dataclasses.replace(expected, checkpoints=f"{copied.workdir}/train/checkpoints")


def test_another_tokenizer_of_the_same_size_is_refused(copied):
    shutil.rmtree(f"{copied.workdir}/tokenizer")
    make_tokenizer(copied, "fine")
    with pytest.raises(
        UserError, match=r"train was made with another tokenizer than the run holds now \(.*/tokenizer\)"
    ):
        open_model(copied)


def test_a_tokenizer_that_its_stage_did_not_write_is_refused(copied):
    path = Path(copied.workdir, "tokenizer/tokenizer.model")
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(UserError, match=r"tokenizer\.model is not what its stage wrote"):
        open_model(copied)


def test_the_checkpoint_of_another_run_is_refused(copied, run, tmp_path):
    shutil.copytree(f"{run.workdir}/tokenizer", tmp_path / "other/tokenizer")
    other = open_run(Settings(), str(tmp_path / "other"))
    train(other, seed=6)
    shutil.rmtree(f"{copied.workdir}/train/checkpoints")
    shutil.copytree(f"{other.workdir}/train/checkpoints", f"{copied.workdir}/train/checkpoints")
    with pytest.raises(UserError, match=r"checkpoints/3 is not the checkpoint that .*manifest\.json was written for"):
        open_model(copied)
    for name in ("train", "tokenizer"):
        shutil.rmtree(f"{copied.workdir}/{name}")
        shutil.copytree(f"{other.workdir}/{name}", f"{copied.workdir}/{name}")
    assert open_model(copied).config == open_model(other).config


def test_the_vocabulary_is_the_tokenizers_unless_the_model_has_a_larger_one(run):
    tokenizer = load_tokenizer(f"{run.workdir}/tokenizer/tokenizer.model")
    assert fitted_model(ModelConfig(), tokenizer).vocab_size == 320
    assert fitted_model(ModelConfig(vocab_size=320), tokenizer).vocab_size == 320
    assert fitted_model(ModelConfig(vocab_size=321), tokenizer).vocab_size == 321
    with pytest.raises(UserError, match=r"model\.vocab_size 319 is less than the tokenizer's 320"):
        fitted_model(ModelConfig(vocab_size=319), tokenizer)
