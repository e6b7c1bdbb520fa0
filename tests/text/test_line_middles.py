"""Infilling with middles that are lines."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sc2jax.text.config import FimConfig
from sc2jax.text.fim import transform_document
from sc2jax.text.special_tokens import Piece, Special

P, M, S = Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX
LINES = FimConfig(rate=1.0, spm_rate=0.0, line_rate=1.0)
CODE = "import os\n\n\ndef f(x):\n    return x + 1\n  \nprint(f(2))"


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def parts(transformed: Sequence[Piece]) -> tuple[str, str, str]:
    """Prefix, middle and suffix of a transformed file in that order of training."""
    text = "".join(piece.literal if isinstance(piece, Special) else piece for piece in transformed)
    prefix, rest = text.removeprefix(P.literal).split(S.literal)
    suffix, middle = rest.split(M.literal)
    return prefix, middle, suffix


def test_middles_are_lines_that_are_not_blank_each_as_often() -> None:
    rng = generator(0)
    found: Counter[tuple[str, str, str]] = Counter(parts(transform_document([CODE], LINES, rng)) for _ in range(4000))
    expected = {
        ("", "import os", "\n\n\ndef f(x):\n    return x + 1\n  \nprint(f(2))"),
        ("import os\n\n\n", "def f(x):", "\n    return x + 1\n  \nprint(f(2))"),
        ("import os\n\n\ndef f(x):\n", "    return x + 1", "\n  \nprint(f(2))"),
        ("import os\n\n\ndef f(x):\n    return x + 1\n  \n", "print(f(2))", ""),
    }
    assert set(found) == expected
    np.testing.assert_allclose(np.array(list(found.values())) / 4000, 0.25, atol=0.03)


def test_a_special_token_is_a_character_of_its_line() -> None:
    document = [Special.ISSUE_START, "Title\nuser: ", Special.ISSUE_COMMENT, "text\n", Special.ISSUE_CLOSED]
    found = {parts(transform_document(document, LINES, generator(seed)))[1] for seed in range(60)}
    assert found == {"<issue_start>Title", "user: <issue_comment>text", "<issue_closed>"}


def test_a_file_of_blank_lines_alone_is_cut_anywhere() -> None:
    middles = {parts(transform_document([" \n\n "], LINES, generator(seed)))[1] for seed in range(60)}
    assert len(middles) > 4


def test_lines_are_as_many_as_the_rate_says() -> None:
    rng = generator(1)
    config = dataclasses.replace(LINES, line_rate=0.3)
    lines = set(CODE.split("\n"))
    hits = sum(parts(transform_document([CODE], config, rng))[1] in lines - {""} for _ in range(3000))
    assert abs(hits / 3000 - 0.3) < 0.04  # and a few of the other cuts
