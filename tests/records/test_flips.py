"""A flipped bit of a part of any kind of record is found, or changes nothing."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_row_group, write_part
from sc2jax.records.schemas import SCHEMAS


def try_flips(kind: str, count: int, folder: Path) -> int:
    """Flips bits of a part, one at a time; how many were found."""
    lines = asset_path("data", "records", f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    part = write_part(str(folder), "train", 0, [pa.Table.from_pylist(rows, SCHEMAS[kind])], SCHEMAS[kind])
    path = folder / part.path
    whole = path.read_bytes()
    rng = random.Random(f"{kind} {count}")
    found = 0
    for _ in range(count):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read = read_row_group(str(folder), part, 0, kind=kind).to_pylist()
        except UserError as error:
            assert str(path) in str(error)
            found += 1
        else:
            assert read == rows, (place, bit)
    return found


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_flips(kind: str, tmp_path: Path) -> None:
    assert try_flips(kind, 20, tmp_path) > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_a_thousand_flips_in_all(kind: str, tmp_path: Path) -> None:
    try_flips(kind, 100, tmp_path)
