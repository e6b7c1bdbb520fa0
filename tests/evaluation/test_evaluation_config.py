import dataclasses

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


def test_the_measures_share_what_is_looked_at_and_nothing_else() -> None:
    bits, infilling, decoding, benchmarks, both = (
        {field.name for field in dataclasses.fields(kind)}
        for kind in (BitsPerByteConfig, InfillingConfig, DecodingConfig, BenchmarksConfig, EvaluationConfig)
    )
    assert bits & infilling == {"max_files", "max_bytes"}
    assert not decoding & (bits | infilling)
    assert not benchmarks & (bits | infilling | decoding)
    assert bits | infilling | decoding | benchmarks == both
