import dataclasses
from typing import Any

import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.config import (
    BenchmarksConfig,
    BitsPerByteConfig,
    DecodingConfig,
    EvaluationConfig,
    InfillingConfig,
)


@pytest.mark.parametrize("wrong", [{"max_files": 0}, {"max_bytes": -1}, {"infill_tokens": 0}, {"min_line_letters": 99}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        dataclasses.replace(EvaluationConfig(), **wrong)


def test_a_temperature_below_0_is_none_but_for_the_benchmark_s_own() -> None:
    for temperature in (-1.0, 0.0, 0.2):
        assert EvaluationConfig(temperature=temperature).temperature == temperature
    for temperature in (-0.5, -1e-9):
        with pytest.raises(UserError, match=r"evaluation\.temperature .* no temperature"):
            EvaluationConfig(temperature=temperature)


@pytest.mark.parametrize("drawn", [{"temperature": 0.0}, {"top_p": 0.9}, {"samples": 2}, {"max_new_tokens": 9}])
def test_samples_of_a_file_are_not_drawn_otherwise(drawn: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"evaluation.{next(iter(drawn))} .*samples_file"):
        EvaluationConfig(samples_file="samples.jsonl", **drawn)
    assert EvaluationConfig(samples_file="samples.jsonl", generation_batch=2)


def test_the_measures_share_what_is_looked_at_and_nothing_else() -> None:
    bits, infilling, decoding, benchmarks, both = (
        {field.name for field in dataclasses.fields(kind)}
        for kind in (BitsPerByteConfig, InfillingConfig, DecodingConfig, BenchmarksConfig, EvaluationConfig)
    )
    assert bits & infilling == {"max_files", "max_bytes"}
    assert not decoding & (bits | infilling)
    assert not benchmarks & (bits | infilling | decoding)
    assert bits | infilling | decoding | benchmarks == both
