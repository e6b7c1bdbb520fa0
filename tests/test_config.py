"""The config contract: every key has a default, overrides are checked, and a saved config runs again."""

import dataclasses
import json
import os
import random

import pytest

from sc2jax.assets import asset_path
from sc2jax.cli import parse
from sc2jax.config import (
    PathsConfig,
    Settings,
    default_config,
    differing_keys,
    load_config,
    settings_json,
    to_settings,
)
from sc2jax.config_values import leaves, value_of
from sc2jax.errors import UserError
from sc2jax.interop.config import ConvertConfig
from sc2jax.runs.run import NAMED, open_run
from sc2jax.verbs import VERBS, WRITES
from sc2jax.verbs.quickstart import STAGES as QUICKSTART


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
        "train",
        [
            "--config=quickstart",
            "--config.training.steps=70",
            "--config.training.peak_learning_rate=1",
            "--config.model.tie_embeddings=false",
            "--config.corpus.keep_license_types=permissive,, no_license,",
            "--config.training.batch_size=0x10",
            "--config.training.warmup_tokens=1_0",
            "--config.ablation.seeds=0, 0x11,",
            "--workdir=/somewhere",
        ],
    )
    settings = to_settings(config)
    assert (settings.training.steps, settings.training.peak_learning_rate) == (70, 1.0)
    assert settings.model.tie_embeddings is False
    assert settings.corpus.keep_license_types == ("permissive", "no_license")
    assert (settings.training.batch_size, settings.training.warmup_tokens) == (16, 10)
    assert settings.ablation.seeds == (0, 17)
    assert workdir == "/somewhere"


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--config.training.stepz=7", "did you mean training.steps"),
        ("--config.trainin.steps=7", "did you mean training.steps"),
        ("--config.steps=7", "did you mean training.steps"),
        ("--config.training.steps=many", "training.steps is 'many'; it must be an integer"),
        ("--config.training.steps=1.5", "must be an integer"),
        ("--config.ablation.seeds=0,many", r"ablation.seeds is \(0, 'many'\); it must be a list of integers"),
        ("--config.model.tie_embeddings=perhaps", "must be true or false"),
        ("--config.training.step=7", "did you mean training.steps"),
        ("--config.training.peak_learning_rate=1e999", "must be finite"),
        ("--config.training.peak_learning_rate=True", "must be a number"),
        ("--config.training.steps=True", "must be an integer"),
        ("--config.training.steps", "SECTION.KEY=VALUE"),
        ("--config.training.steps=" + "1" * 5000, "training.steps is '1111.*must be an integer"),
        ("--config.training.steps=" + "(" * 5000, "must be an integer"),
        ("--config.corpus.keep_license_types=" + "[" * 100_000, "must be a list of names"),
        ("--config.corpus.keep_license_types=[1]", "must be a list of names"),
        ("--config.paths.corpus=a\0b", "without NUL"),
        ("--config.paths.corpus=a\udcffb", "UTF-8 can hold"),
        ("--config.feed.row_length=7", "any more: a row is model.context_length long; leave it out"),
        ("--config." + "x" * 100_000 + "=7", "no config key 'x{100}'"),
        ("--config.mesh=3", "no config key"),
        ("--steps=7", "unknown argument"),
        ("steps", "unknown argument"),
        ("--workdir=", "needs a value"),
        ("--workdir", "needs a value"),
        ("--config", "needs a value"),
        ("--config=other", "--config is given 2 times: 'quickstart', 'other'; give it once"),
        ("--workdir=a\udcff", "--workdir is .*UTF-8 can hold"),
    ],
)
def test_a_wrong_override_is_refused_with_a_hint(argument, hint):
    with pytest.raises(UserError, match=hint):
        parse("train", ["--config=quickstart", argument])


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


def python_config(change: str) -> str:
    return (
        "from sc2jax.config import default_config\n"
        f"def get_config():\n    config = default_config()\n    {change}\n    return config\n"
    )


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("def get_config(:", "SyntaxError"),
        ("a\0b", "null bytes"),
        (b"# \xff", "mine.py"),
        ("import nothing_of_the_kind", "ModuleNotFoundError in line 1: No module named 'nothing_of_the_kind'"),
        ("x = 3", "KeyError: get_config"),
        ("get_config = 3", "not callable"),
        ("def get_config():\n    return get_config()", "RecursionError in line 2"),
        ("def get_config():\n    raise MemoryError", "MemoryError in line 2"),
        ("raise SystemExit(3)", "SystemExit in line 1: 3"),
        ("def get_config():\n    return 3", "must return sc2jax.config.default_config"),
        ("from ml_collections import ConfigDict\nget_config = ConfigDict", "must return sc2jax.config.default_config"),
        (python_config("config.unlock(); config.training = 3"), "TypeError in line 4"),
        (python_config("config.unlock(); config.training.stepz = 3"), "did you mean training.steps"),
        (python_config("config.unlock(); config.stepz = 3"), "no config key 'stepz'"),
        (python_config("config.training.steps = True"), "training.steps is True; it must be an integer"),
        (python_config("config.training.steps = None"), "training.steps is None; it must be an integer"),
        (python_config("config.training.epsilon = float('nan')"), "training.epsilon is nan; it must be finite"),
        (python_config("config.training.epsilon = float('inf')"), "training.epsilon is inf; it must be finite"),
        (python_config("config.training.epsilon = 10**400"), "OverflowError in line 4"),
        (python_config("config.corpus.keep_license_types = (1,)"), "must be a list of names"),
        (python_config("config.paths.source = 'a\\0b'"), "without NUL"),
        (python_config("config.paths.source = 'a\\udcffb'"), "UTF-8 can hold"),
    ],
)
def test_a_config_file_that_fails_is_one_error(tmp_path, body, hint):
    path = tmp_path / "mine.py"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(UserError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"config {path}: ")
    assert hint in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.py"]  # and no bytecode beside the user's file


def test_ranges_hold_for_python_configs_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(python_config("config.training.steps = 10**5000"))
    with pytest.raises(UserError, match=r"training\.steps is a value of type int; it must be at least 0 and at most"):
        to_settings(load_config(str(path)))


@pytest.mark.parametrize("name", ["mine.py", "config.json"])
def test_a_config_that_is_no_regular_file_is_named_and_not_waited_for(tmp_path, name):
    path = tmp_path / name
    for make in (path.mkdir, lambda: os.mkfifo(path)):
        make()
        with pytest.raises(UserError, match=f"{name} is no regular file"):
            load_config(str(path))
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UserError, match="seed is"):
        to_settings(parse("train", ["--config=quickstart", f"--config.seed={seed}"])[1])


def test_a_saved_config_runs_again(tmp_path):
    settings = to_settings(load_config("quickstart"))
    path = tmp_path / "config.json"
    path.write_text(settings_json(settings))
    assert to_settings(load_config(str(path))) == settings
    _, config, _ = parse("train", [f"--config={path}", "--config.training.steps=61", f"--workdir={tmp_path}"])
    assert to_settings(config).training.steps == 61
    with pytest.raises(UserError, match="workdir"):
        parse("train", [f"--config={path}"])


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("{", "is damaged: .*; give a run's config.json as it was written"),
        ("", "is damaged"),
        ("null", "is damaged: Expected `object`, got `null`"),
        ("[1, 2]", "is damaged: Expected `object`, got `array`"),
        ('{"seed": NaN}', "is damaged"),
        ('{"seed": Infinity}', "is damaged"),
        ('{"seed": null}', "is damaged"),
        ('{"a":' * 100_000, "is damaged"),
        ('{"training": {"steps": {"a": 1}}}', "is damaged"),
        ('{"training": {"stepz": 1}}', "did you mean training.steps"),
        ('{"seed": "x"}', "seed is 'x'; it must be an integer"),
        ('{"seed": 1.5}', "must be an integer"),
        ('{"seed": %s}' % ("1" * 400), "seed is 1{200}...; it must be at least 0 and less than"),
        ('{"training": {"epsilon": %s}}' % ("1" * 400), "training.epsilon is inf; it must be finite"),
        ('{"paths": {"source": "a\\u0000b"}}', "without NUL"),
        ('{"paths": {"source": "a\\ud800b"}}', "is damaged"),
        (
            '{"feed": {"row_length": 256}}',
            "'feed.row_length' any more: a row is model.context_length long; leave it out",
        ),
        ('{"feed": {"metadata_rate": 0.5}}', "any more: it is format.metadata_rate"),
    ],
)
def test_a_damaged_saved_config_is_refused(tmp_path, content, hint):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=hint):
        to_settings(load_config(str(path)))


def test_a_saved_config_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=f"there is no config file {tmp_path}/config.json"):
        load_config(f"{tmp_path}/config.json")


def test_a_section_is_no_key():
    assert value_of(default_config(), "training.steps") == 1_478_196
    with pytest.raises(UserError, match="no config key 'training'"):
        value_of(default_config(), "training")


def test_saved_configs_are_json_with_sorted_keys():
    text = settings_json(Settings())
    assert json.loads(text)["training"]["beta2"] == 0.95
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_keys_that_differ_are_named_by_their_dots():
    config = {"a": {"b": 1, "c": [2]}, "d": 0}
    assert differing_keys(config, {"a": {"b": 1, "c": [2], "more": 3}, "d": 0}) == []
    assert differing_keys(config, {"a": {"b": 2, "c": [2]}}) == ["a.b", "d"]
    assert differing_keys(config, {"a": {"b": 1, "c": [3]}, "d": False}) == ["a.c"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_saved_config_names_inputs_and_what_the_verb_writes_lies_in_the_workdir(verb, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    names = [field.name for field in dataclasses.fields(PathsConfig)]
    saved = dataclasses.replace(Settings(), paths=PathsConfig(**{name: f"{old}/{name}" for name in names}))
    path = tmp_path / "config.json"
    path.write_text(settings_json(saved))
    _, config, workdir = parse(verb, [f"--config={path}", f"--workdir={new}"])
    run = open_run(to_settings(config), workdir)
    for stage in ("corpus", "tokenizer", "tokenize", "train"):
        assert run.folder(stage) == f"{new if stage in WRITES.get(verb, ()) else old}/{stage}"
    _, config, _ = parse(verb, [f"--config={path}", "--workdir=w", "--config.paths.train=mine"])
    assert config.paths.train == "mine"


def test_convert_writes_a_model_into_the_workdir_or_reads_the_one_that_a_saved_config_names(tmp_path):
    paths = PathsConfig(train="/old/train", tokenizer="/old/tokenizer")
    for at, imported in (("imported", "/hf"), ("other", "")):
        saved = dataclasses.replace(Settings(), paths=paths, convert=ConvertConfig(from_huggingface=imported))
        (tmp_path / f"{at}.json").write_text(settings_json(saved))

    def train(at, *arguments):
        _, config, workdir = parse("convert", [f"--config={tmp_path}/{at}.json", "--workdir=/new", *arguments])
        run = open_run(to_settings(config), workdir)
        assert run.folder("tokenizer") == "/old/tokenizer"
        return run.folder("train")

    assert train("imported") == train("other", "--config.convert.from_huggingface=/hf") == "/new/train"
    assert train("other") == "/old/train"
    assert train("imported", "--config.convert.from_huggingface=", "--config.convert.to_huggingface=/x") == "/old/train"
    assert train("imported", "--config.paths.train=/named") == "/named"


def test_every_stage_that_paths_may_name_has_one_verb_that_writes_it():
    assert sorted(stage for verb in VERBS if verb != "quickstart" for stage in WRITES.get(verb, ())) == sorted(NAMED)
    assert WRITES["quickstart"] == tuple(stage for verb in QUICKSTART for stage in WRITES.get(verb, ()))


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with a few bytes changed, cut out, repeated, or replaced by what JSON has."""
    tokens = (
        b"null",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"-1",
        b"1e999",
        b"NaN",
        b"1" * 400,
        b"true",
        b"\\ud800",
        b"\0",
    )
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(content) + 1)
        end = start + draw.choice((0, 1, 1, 5, 500))
        inserted = draw.choice((b"", draw.randbytes(1), content[start:end] * 2, draw.choice(tokens)))
        content = content[:start] + inserted + content[end:]
    return content


def test_a_thousand_mutated_configs_are_read_or_refused_in_one_message(tmp_path):
    content, path, draw = settings_json(Settings()).encode(), tmp_path / "config.json", random.Random(0)
    refused = 0
    for _ in range(1000):
        path.write_bytes(mutated(content, draw))
        try:
            to_settings(load_config(str(path)))
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 600
    assert 500 < refused < 1000


def test_a_thousand_mutated_overrides_are_taken_or_refused_in_one_message():
    draw, config = random.Random(0), default_config()
    lines = [f"--config.{key}={value}".encode() for key, value in leaves(config.to_dict())]
    refused = 0
    for _ in range(1000):
        argument = mutated(draw.choice(lines), draw).decode(errors="surrogateescape")
        try:
            to_settings(parse("train", [argument])[1])
        except UserError as error:
            refused += 1
            assert len(str(error)) < 1000
    assert 500 < refused < 1000
