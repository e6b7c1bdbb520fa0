"""JSON from outside ends as a value of its type, or in one message that names the file and the place."""

import dataclasses
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from sc2jax.errors import UserError
from sc2jax.json_files import decode_json, read_json


@dataclasses.dataclass(frozen=True)
class Inner:
    path: str
    rows: int


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    outputs: tuple[Inner, ...]
    statistics: Mapping[str, Any]
    version: int = 0


GOOD = {"name": "ä", "outputs": [{"path": "a", "rows": 3}], "statistics": {"loss": 1.5, "many": [1, None]}}


def test_a_value_of_its_type():
    expected = Outer("ä", (Inner("a", 3),), {"loss": 1.5, "many": [1, None]})
    assert decode_json(json.dumps(GOOD).encode(), Outer, "here", "go away") == expected


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"null", "Expected `object`"),
        (b"3", "Expected `object`"),
        (b"[1]", "Expected `object`"),
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"name": "a", "outputs": [{"path": "b", "rows": 1.5}], "statistics": {}}', r"\$\.outputs\[0\]\.rows"),
        (b'{"name": "a", "outputs": [], "statistics": {"loss": NaN}}', "malformed"),
        (b'{"name": "a", "outputs": [], "statistics": {"loss": 1e400}}', "range"),
        (b'{"name": "a", "outputs": [], "statistics": ' + b'{"a":' * 10**5 + b"0" + b"}" * 10**5 + b"}", "recursion"),
    ],
    ids=range(9),
)
def test_what_is_wrong_is_named(tmp_path, content, place):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)file\.json is damaged: .*{place}.*; delete it$"):
        read_json(str(path), Outer, "delete it")


def test_a_thousand_mutations_raise_nothing_else():
    chance = random.Random(0)
    content = json.dumps(GOOD).encode()
    for _ in range(1000):
        mutated = bytearray(content)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(mutated))
            mutated[at : at + chance.randrange(3)] = chance.choice(
                [b"", b"9" * 400, b"[", bytes([chance.randrange(256)])]
            )
        try:
            assert isinstance(decode_json(bytes(mutated), Outer, "here", "x"), Outer)
        except UserError as error:
            assert str(error).startswith("here is damaged")
