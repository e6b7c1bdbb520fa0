import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sc2jax.assets import asset_path
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest

Tree = dict[str, str | bytes]

WORDS = [
    f"{verb}_{noun}"
    for verb in ("read", "write", "find", "drop", "join", "split", "count", "merge", "sort", "load", "keep", "move")
    for noun in ("row", "page", "file", "token", "block", "list", "graph", "table", "record", "batch", "index", "line")
]


@pytest.fixture
def samples() -> str:
    return str(asset_path("data", "samples"))


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., str]:
    """Writes a tree of files below the test's folder and returns its path."""

    def write(name: str, tree: Tree) -> str:
        for path, content in tree.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(tmp_path / name)

    return write


@pytest.fixture
def program() -> Callable[..., str]:
    """A made-up Python module of `statements` lines; equal seeds give equal modules."""

    def make(seed: int, statements: int = 60) -> str:
        draw = random.Random(seed)
        lines = [f"{draw.choice(WORDS)} = {draw.choice(WORDS)}({draw.choice(WORDS)})" for _ in range(statements)]
        return "\n".join(lines) + "\n"

    return make


@pytest.fixture
def edited() -> Callable[..., str]:
    """The text with some of its lines, chosen by a seed, replaced."""

    def edit(text: str, seed: int, lines: int) -> str:
        draw, rows = random.Random(seed), text.splitlines()
        for row in draw.sample(range(len(rows)), lines):
            rows[row] = f"changed_{draw.randrange(10**6)} = other_{draw.randrange(10**6)}"
        return "\n".join(rows) + "\n"

    return edit


@pytest.fixture
def rows_of() -> Callable[[str, Manifest, str], list[dict[str, Any]]]:
    """The rows below a prefix of a committed folder."""

    def read(folder: str, manifest: Manifest, prefix: str) -> list[dict[str, Any]]:
        tables = list(read_tables(folder, manifest, prefix))
        return pa.concat_tables(tables).to_pylist() if tables else []

    return read
