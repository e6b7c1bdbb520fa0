"""Two runs share a stage exactly where nothing of what differs between them goes into it."""

import dataclasses
from typing import Any

import pytest

from sc2jax.config import Settings, load_config, to_settings
from sc2jax.config_help import declarations
from sc2jax.config_values import leaves, set_value, value_of
from sc2jax.errors import UserError
from sc2jax.runs.sharing import SHARED, made_key, sharing_key
from sc2jax.settings import Setting

CORPUS = {"paths.manifest", "seed", "corpus.*", "paths.source", "paths.heldout", "paths.corpus"}
TOKENIZER = CORPUS | {"tokenizer.*", "paths.tokenizer", "training.model_of_start"}
TOKENS = TOKENIZER | {"tokenize.*", "format.*", "feed.damaged", "feed.mixture", "fim.level", "paths.tokenize"}


def other_value(what: Setting, value: Any) -> Any:
    """Another value that the key may take."""
    if what.choices:
        others = [choice for choice in what.choices if choice != value and (choice,) != value]
        return (others[0],) if isinstance(value, tuple) else others[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, 7) if value else ("x:",)
    if isinstance(value, str):
        return "starcoder2_3b" if value == "repositories" else f"{value}x"
    steps = [value + 1, value - 1] if isinstance(value, int) else [value * 1.01 + 1e-4, value * 0.99]
    return next(step for step in steps if what.allows(step))


def changed(config: Any, key: str) -> Settings | None:
    config = config.copy_and_resolve_references()
    set_value(config, key, other_value(declarations()[key], value_of(config, key)))
    try:
        return to_settings(config)
    except UserError:  # it goes with others only, and they are tried too
        return None


def keys_that_part(stage: str, **base: Any) -> tuple[set[str], set[str]]:
    """The config's keys of which another value gives another stage, and those that were tried."""
    config = load_config("quickstart")
    for key, value in base.items():
        set_value(config, key.replace("__", "."), value)
    mine = sharing_key(to_settings(config), stage)
    tried = {key: changed(config, key) for key, _ in leaves(config.to_dict())}
    tried = {key: settings for key, settings in tried.items() if settings is not None}
    return {key for key, settings in tried.items() if sharing_key(settings, stage) != mine}, set(tried)


def expected(named: set[str], tried: set[str]) -> set[str]:
    return {key for key in tried if key in named or f"{key.partition('.')[0]}.*" in named}


@pytest.mark.parametrize(("stage", "named"), [("corpus", CORPUS), ("tokenizer", TOKENIZER), ("tokenize", TOKENS)])
def test_what_goes_into_a_stage(stage, named):
    found, tried = keys_that_part(stage)
    assert found == expected(named, tried)
    assert len(tried) > 0.9 * len(declarations())


def test_infilling_before_windows_are_cut_is_in_the_tokens():
    found, tried = keys_that_part("tokenize", fim__level="document")
    assert found == expected(TOKENS | {"fim.*"}, tried)


def test_a_start_whose_model_is_taken_gives_the_tokenizer():
    settings = Settings(paths=dataclasses.replace(Settings().paths, start="/a"))
    taken = dataclasses.replace(settings, training=dataclasses.replace(settings.training, model_of_start=True))
    other = dataclasses.replace(taken, paths=dataclasses.replace(taken.paths, start="/b"))
    assert sharing_key(taken, "tokenizer") != sharing_key(other, "tokenizer")
    own = dataclasses.replace(settings, paths=dataclasses.replace(settings.paths, start="/b"))
    assert sharing_key(settings, "tokenizer") == sharing_key(own, "tokenizer")


def test_a_named_stage_is_what_lies_there_whatever_the_settings():
    one, other = (Settings(seed=seed, paths=dataclasses.replace(Settings().paths, corpus="/corpus")) for seed in (0, 1))
    assert sharing_key(one, "corpus") == sharing_key(other, "corpus")
    assert made_key(one, "corpus") != made_key(other, "corpus")


def test_stages_of_one_run_have_keys_of_their_own():
    assert len({sharing_key(Settings(), stage) for stage in SHARED}) == len(SHARED)
