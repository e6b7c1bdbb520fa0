"""The config contract: every key has a default, overrides are checked, and a saved config runs again."""

import dataclasses
import json

import pytest

from sc2jax.assets import asset_path
from sc2jax.cli import parse
from sc2jax.config import (
    Settings,
    check_key,
    default_config,
    differing_keys,
    load_config,
    settings_json,
    to_settings,
)
from sc2jax.errors import UserError


def test_dataclasses_and_config_hold_the_same_keys_and_none_is_none():
    config = default_config().to_dict()
    for section, values in dataclasses.asdict(Settings()).items():
        if isinstance(values, dict):
            assert set(config[section]) == set(values)
            assert None not in config[section].values()


def test_every_shipped_config_gives_settings():
    for path in asset_path("configs").glob("*.py"):
        to_settings(load_config(path.stem))


def test_derived_values_are_filled_in():
    settings = to_settings(load_config("quickstart"))
    assert settings.model.mlp_dim == 4 * settings.model.embed_dim
    assert settings.model.head_dim == settings.model.embed_dim // settings.model.num_heads


def test_overrides_take_the_type_of_their_default():
    _, config, workdir = parse(
        [
            "--config=quickstart",
            "--config.training.steps=70",
            "--config.training.peak_learning_rate=1",
            "--config.model.tie_embeddings=false",
            "--config.corpus.keep_license_types=permissive",
            "--workdir=/somewhere",
        ]
    )
    settings = to_settings(config)
    assert (settings.training.steps, settings.training.peak_learning_rate) == (70, 1.0)
    assert settings.model.tie_embeddings is False
    assert settings.corpus.keep_license_types == ("permissive",)
    assert workdir == "/somewhere"


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--config.training.stepz=7", "did you mean training.steps"),
        ("--config.trainin.steps=7", "did you mean training.steps"),
        ("--config.steps=7", "did you mean training.steps"),
        ("--config.training.steps=many", "does not fit"),
        ("--config.training.steps=1.5", "does not fit"),
        ("--config.model.tie_embeddings=perhaps", "does not fit"),
        ("--config.training.step=7", "did you mean training.steps"),
        ("--config.training.peak_learning_rate=1e999", "must be finite"),
        ("--config.training.peak_learning_rate=True", "does not fit"),
        ("--config.training.steps=True", "does not fit"),
        ("--config.training.steps", "SECTION.KEY=VALUE"),
        ("--config.mesh=3", "no config key"),
        ("--steps=7", "unknown argument"),
        ("steps", "unknown argument"),
        ("--workdir=", "needs a value"),
    ],
)
def test_a_wrong_override_is_refused_with_a_hint(argument, hint):
    with pytest.raises(UserError, match=hint):
        parse(["--config=quickstart", argument])


def test_an_unknown_config_names_the_shipped_ones():
    with pytest.raises(UserError, match=r"did you mean quickstart.*shipped ones are.*quickstart"):
        load_config("quickstrat")


def test_a_config_file_that_sets_what_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from sc2jax.config import default_config\n"
        "def get_config():\n    config = default_config()\n    config.training.stepz = 3\n    return config\n"
    )
    with pytest.raises(UserError, match="stepz") as error:
        load_config(str(path))
    assert str(error.value).count("Did you mean") == 1
    path.write_text(path.read_text().replace("stepz = 3", "steps = 'three'"))
    with pytest.raises(UserError, match=r"mine\.py"):
        load_config(str(path))


@pytest.mark.parametrize(
    "body", ["def get_config(:", "import nothing_of_the_kind", "def get_config():\n    return 3", "raise SystemExit(3)"]
)
def test_a_config_file_that_fails_is_one_error(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(body)
    with pytest.raises(UserError, match=r"mine\.py"):
        load_config(str(path))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UserError, match="seed is"):
        to_settings(parse(["--config=quickstart", f"--config.seed={seed}"])[1])


def test_a_saved_config_runs_again(tmp_path):
    settings = to_settings(load_config("quickstart"))
    path = tmp_path / "config.json"
    path.write_text(settings_json(settings))
    assert to_settings(load_config(str(path))) == settings
    _, config, _ = parse([f"--config={path}", "--config.training.steps=61", f"--workdir={tmp_path}"])
    assert to_settings(config).training.steps == 61
    with pytest.raises(UserError, match="workdir"):
        parse([f"--config={path}"])


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", "holds no object"),
        ('{"training": {"stepz": 1}}', "training.steps"),
        ('{"seed": "x"}', "does not fit"),
    ],
)
def test_a_damaged_saved_config_is_refused(tmp_path, content, hint):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=hint):
        load_config(str(path))


def test_a_saved_config_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=f"there is no config file {tmp_path}/config.json"):
        load_config(f"{tmp_path}/config.json")


def test_check_key_knows_sections_from_fields():
    check_key(default_config(), "training.steps")
    with pytest.raises(UserError, match="no config key 'training'"):
        check_key(default_config(), "training")


def test_saved_configs_are_json_with_sorted_keys():
    text = settings_json(Settings())
    assert json.loads(text)["training"]["beta2"] == 0.95
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_keys_that_differ_are_named_by_their_dots():
    config = {"a": {"b": 1, "c": [2]}, "d": 0}
    assert differing_keys(config, {"a": {"b": 1, "c": [2], "more": 3}, "d": 0}) == []
    assert differing_keys(config, {"a": {"b": 2, "c": [2]}}) == ["a.b", "d"]
    assert differing_keys(config, {"a": {"b": 1, "c": [3]}, "d": False}) == ["a.c"]
