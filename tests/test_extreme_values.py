"""Values that nobody means, in every key: refused in one message, or taken and then good for what is cheap to do."""

import dataclasses
import math
import typing
from typing import Any

import numpy as np
import pytest

from sc2jax.config import Settings, default_config, sections, settings_json, to_settings
from sc2jax.config_help import declarations, explain
from sc2jax.config_values import leaves, override, value_of
from sc2jax.errors import UserError
from sc2jax.model.params import count_params, parameter_table
from sc2jax.training.schedule import fitted_training, learning_rate_schedule, tokens_per_step

WRITTEN = (
    "100000000000000000000", "1099511627776", "4294967296", "1e-320", "1e38", "nan", "inf", "-inf", "0", "-1", "1",
    "1.0", "1e400", "1" * 400, "-" + "1" * 5000, "", "true", "None", "[", "(" * 5000, "('a',)", "[1]", "0x10", "\0",
    "\ud800", "\x1b[31m", "\u202e",
)  # fmt: skip
HELD = (
    10**20, 2**40, -(2**63), 10**400, 10**5000, 1e-320, 1e308, math.nan, math.inf, -math.inf, 0, -1, 0.5, True, None,
    [], {}, (), ("a",), (1,), b"x", "", "\0", "\ud800", 1j, np.int64(3), np.float32(0.5), object(),
)  # fmt: skip
ROW = 4096
TINY = np.finfo(np.float32).tiny
NUMBERS = [key for key, value in leaves(default_config().to_dict()) if type(value) in (int, float)]


def built(change: typing.Callable[[], Settings]) -> Settings | None:
    """What a change gives, or None where it is refused as it should be."""
    try:
        return change()
    except UserError as error:
        assert len(str(error)) < 600
        assert str(error).isprintable()
        return None


@pytest.mark.parametrize("key", [key for key, _ in leaves(default_config().to_dict())])
def test_what_is_written_is_refused_or_serves(key):
    for text in WRITTEN:

        def change(text: str = text) -> Settings:
            config = default_config()
            override(config, key, text)
            explain(config)
            return to_settings(config)

        serves(key, built(change))


@pytest.mark.parametrize("key", list(declarations()))
def test_what_a_python_program_holds_is_refused_or_serves(key):
    section, _, name = key.rpartition(".")
    limits = (declarations()[key].at_least, declarations()[key].at_most)
    default = value_of(default_config(), key)
    kind = (lambda limit: (limit,)) if isinstance(default, tuple) else type(default)
    for value in (*HELD, *(kind(limit) for limit in limits if limit is not None)):

        def change(value: Any = value) -> Settings:
            fields: dict[str, Any] = {name: value}
            return Settings(**{section: sections()[section](**fields)} if section else fields)

        serves(key, built(change))


def serves(key: str, settings: Settings | None) -> None:
    """Whether a config that was taken can be written down, and its model and schedule be made."""
    if settings is None:
        return
    settings_json(settings).encode()
    if key.startswith("model."):
        model = dataclasses.replace(settings.model, vocab_size=settings.model.vocab_size or 8)
        assert 0 < count_params(parameter_table(model)) < 2**63
        for name in ("rope_theta", "norm_epsilon", "init_stddev"):
            assert TINY < np.float32(getattr(model, name)) < np.inf
        for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
            assert np.float32(1) - np.float32(getattr(model, name)) > 0.01
    if key.startswith("training."):
        serves_training(settings.training)


def serves_training(training: Any) -> None:
    try:
        training = fitted_training(training, ROW)
    except UserError:
        return
    schedule, warmup = learning_rate_schedule(training, ROW), training.warmup_tokens // tokens_per_step(training, ROW)
    rates = [float(np.asarray(schedule(step))) for step in (0, warmup, warmup + 1, training.steps - 1, training.steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates) > TINY
    for beta in map(np.float32, (training.beta1, training.beta2)):
        assert 0 <= beta < 1
    assert TINY < np.float32(training.epsilon) < np.inf
    assert training.peak_learning_rate * training.weight_decay <= 1  # or a step would throw a weight across 0


def test_neither_limit_of_a_number_is_beyond_what_its_type_can_hold():
    for key in NUMBERS:
        what = declarations()[key]
        for limit in (what.at_least, what.more_than, what.at_most, what.less_than):
            assert limit is None or (abs(limit) < 2**53 and abs(limit) < float(np.finfo(np.float32).max)), key


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"corpus.near_permutations": "4"}, "corpus.near_permutations is 4; it must be at least 5"),
        ({"corpus.near_permutations": "60"}, "across the split 89% of the pairs at corpus.near_threshold (0.7)"),
        ({"corpus.near_threshold": "0.0", "corpus.heldout_similarity": "0.0"}, "across the split 0% of the pairs"),
        (
            {"corpus.near_threshold": "0.0", "corpus.near_permutations": "100"},
            "of the pairs at corpus.heldout_similarity",
        ),
        ({"corpus.heldout_similarity": "0.71"}, "more than corpus.near_threshold (0.7)"),
        (
            {"training.horizon_tokens": "1000"},
            "training.warmup_tokens is 2,097,152,000; it must lie below the horizon, 1,000",
        ),
        ({"training.keep_every": "300"}, "is not a multiple of training.checkpoint_every 1000"),
        ({"training.keep_best": "3"}, "training.keep_best is 3, but no checkpoint is measured"),
        ({"model.num_kv_heads": "5"}, "model.num_heads 24 is not a multiple of model.num_kv_heads 5"),
        ({"model.num_heads": "7"}, "model.embed_dim 3072 is not a multiple of model.num_heads 7"),
        ({"model.head_dim": "3"}, "model.head_dim 3 is odd"),
        ({"model.head_dim": "-2"}, "model.head_dim is -2; it must be at least 0"),
        ({"model.vocab_size": "-5"}, "model.vocab_size is -5; it must be at least 0"),
        ({"model.rope_theta": "0"}, "model.rope_theta is 0.0; it must be at least 1"),
        ({"evaluation.min_line_letters": "81"}, "evaluation.min_line_letters is 81"),
    ],
)
def test_fields_that_do_not_go_together_are_named(change, hint):
    config = default_config()
    for key, text in change.items():
        override(config, key, text)
    with pytest.raises(UserError) as error:
        to_settings(config)
    assert hint in str(error.value)


def test_permutations_that_find_enough_across_the_split_pass():
    """65 give 13 bands of 5, each shared by 0.7 to the fifth of the pairs at 0.7: 1 - (1 - 0.168) ** 13 is 0.909."""
    config = default_config()
    override(config, "corpus.near_permutations", "65")
    assert to_settings(config).corpus.near_permutations == 65
