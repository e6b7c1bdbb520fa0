"""What an imported model says of how it is completed, and what is left of it through conversion and `complete`."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hf_folders import BESIDE, TINY, write_folder
from safetensors.numpy import load_file

from sc2jax.cli import run
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.inference.config import CompletionConfig
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.inference.samples import complete_prompt
from sc2jax.interop.generation import Generation, read_generation
from sc2jax.runs.models import open_model
from sc2jax.runs.run import open_run
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.train_tokenizer import train_tokenizer


def read(generation: object = None, config: object = None) -> Generation:
    files = {"generation_config.json": generation, "config.json": config}
    return read_generation({name: json.dumps(it).encode() for name, it in files.items() if it is not None}, "m", 64)


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        (None, None, set()),
        (None, {"eos_token_id": 5}, {5}),
        (None, {"eos_token_id": [5, 6]}, {5, 6}),
        ({"eos_token_id": 7}, {"eos_token_id": 5}, {7}),
        ({"eos_token_id": [0, 7]}, {"eos_token_id": 5}, {0, 7}),
        ({"eos_token_id": None}, {"eos_token_id": 5}, {5}),
        ({"eos_token_id": 0}, {"eos_token_id": 5}, {0}),
        ({"eos_token_id": []}, {"eos_token_id": 5}, set()),
        ({"eos_token_id": [-1, 63, 64, 50256]}, None, {63}),  # 64 tokens, from 0 on
        ({"top_p": 0.9}, {"bos_token_id": 3}, set()),
    ],
)
def test_end_tokens_are_one_or_many(generation, config, ends):
    assert read(generation, config).end_ids == ends


@pytest.mark.parametrize(
    ("generation", "temperature"),
    [
        (None, 0),
        ({}, 0),
        ({"temperature": 0.2}, 0),
        ({"do_sample": False, "temperature": 0.2}, 0),
        ({"do_sample": None}, 0),
        ({"do_sample": True, "temperature": 0.2}, 0.2),
        ({"do_sample": True, "temperature": 0}, 0),
        ({"do_sample": True, "temperature": None}, 1),
        ({"do_sample": True}, 1),
    ],
)
def test_tokens_are_drawn_where_it_says_so(generation, temperature):
    assert read(generation, {"do_sample": True, "temperature": 3}).temperature == temperature


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ([1], "m/generation_config.json is damaged: Expected `object`"),
        ({"eos_token_id": "x"}, r"m/generation_config.json is damaged: .*`\$\.eos_token_id`"),
        ({"eos_token_id": True}, r"`\$\.eos_token_id`"),
        ({"do_sample": 1}, r"`\$\.do_sample`"),
        ({"temperature": -0.5}, "m/generation_config.json: the temperature is -0.5"),
    ],
)
def test_other_values_are_refused(generation, message):
    with pytest.raises(UserError, match=message):
        read(generation)


CONFIG = TINY | {
    "vocab_size": 4096,
    "bos_token_id": 5,
    "eos_token_id": 5,
    "torch_dtype": "float32",
    "_name_or_path": "me/model",
    "made_up": {"é": [1, 2.5, None, 10**17]},
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """The folder of a model with a config of its own and the run that it was read into; not to be changed."""
    folder = tmp_path_factory.mktemp("converted")
    write_folder(folder / "source", CONFIG, dtypes=(np.float32,))
    says = {"bos_token_id": 5, "eos_token_id": [5, 77], "do_sample": True, "temperature": 0.25}
    (folder / "source/generation_config.json").write_text(json.dumps(says))
    own = train_tokenizer([Path(json.__file__).read_text()], TokenizerConfig(vocab_size=400), seed=0)
    (folder / "source/tokenizer.model").write_bytes(own)
    run(["convert", f"--config.convert.from_huggingface={folder / 'source'}", f"--workdir={folder / 'run'}"])
    return folder


@pytest.mark.parametrize("key", ["torch_dtype", "dtype", ""])
def test_another_type_changes_the_type_alone(converted, tmp_path, key):
    kept = dict(CONFIG)
    kept.pop("torch_dtype")
    before = kept | ({key: "float32"} if key else {})
    write_folder(tmp_path / "source", before, dtypes=(np.float32,))
    workdir = f"--workdir={tmp_path / 'run'}"
    run(["convert", f"--config.convert.from_huggingface={tmp_path / 'source'}", workdir])
    target = f"--config.convert.to_huggingface={tmp_path / 'out'}"
    run(["convert", target, workdir, "--config.convert.export_dtype=bfloat16"])
    after = json.loads((tmp_path / "out/config.json").read_text())
    assert after == before | {key or "torch_dtype": "bfloat16"}
    assert list(after)[: len(before)] == list(before)
    for name in ("generation_config.json", *BESIDE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    assert load_file(tmp_path / "out/model.safetensors")["model.norm.weight"].dtype == ml_dtypes.bfloat16


def test_a_damaged_one_is_refused_before_anything_is_written(tmp_path):
    write_folder(tmp_path / "source")
    (tmp_path / "source/generation_config.json").write_text('{"eos_token_id": "x"}')
    with pytest.raises(UserError, match=r"generation_config\.json is damaged"):
        run(["convert", f"--config.convert.from_huggingface={tmp_path / 'source'}", f"--workdir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_a_manifest_that_names_files_elsewhere_is_refused(converted, tmp_path):
    shutil.copytree(converted / "run", tmp_path / "run")
    manifest = tmp_path / "run/train/manifest.json"
    text = manifest.read_text()
    assert "huggingface/generation_config.json" in text
    manifest.write_text(text.replace("huggingface/generation_config.json", "huggingface/../../generation_config.json"))
    (tmp_path / "run/generation_config.json").write_text("{}")
    with pytest.raises(UserError):
        open_model(open_run(Settings(), str(tmp_path / "run")))
    with pytest.raises(UserError):
        run(["convert", f"--config.convert.to_huggingface={tmp_path / 'out'}", f"--workdir={tmp_path / 'run'}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_opened_model_knows_its_ends_and_its_temperature(converted):
    model = open_model(open_run(Settings(), str(converted / "run")))
    assert model.end_ids == {5, 77}
    assert model.temperature == 0.25
    assert LoadedModel(model.params, model.config, model.tokenizer, model.mesh).temperature == 0.7


def test_a_completion_ends_at_any_of_them_and_is_drawn_as_the_model_says(converted, monkeypatch):
    asked = []

    def generate(*_: object, stop_ids: frozenset[int], temperature: float, **__: object) -> list:
        asked.append((stop_ids, temperature))
        return []

    monkeypatch.setattr("sc2jax.inference.loaded_model.stream", generate)
    monkeypatch.setattr("sc2jax.inference.loaded_model.generate", generate)
    model = open_model(open_run(Settings(), str(converted / "run")))
    for temperature in (-1.0, 0.0, 0.5):
        complete_prompt(model, CompletionConfig(prompt="a", temperature=temperature), 0)
    model.complete([[1]], max_new_tokens=1, stop_ids=frozenset([3]), temperature=0.0)
    assert [temperature for _, temperature in asked] == [0.25, 0.0, 0.5, 0.0]
    assert all(stop_ids > {5, 77} for stop_ids, _ in asked[:3])
    assert asked[3][0] == {3, 5, 77}
