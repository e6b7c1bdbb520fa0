"""Benchmark files made for tests, and the real ones where SC2JAX_BENCHMARKS names them."""

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sc2jax.benchmarks.files import Source


def write_lines(folder: Path, source: Source, records: Iterable[Any]) -> Path:
    """A compressed file of JSON lines where a source belongs."""
    return write_packed(folder, source, "".join(json.dumps(record) + "\n" for record in records).encode())


def write_packed(folder: Path, source: Source, content: bytes) -> Path:
    """The same of any content."""
    path = folder / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def real_folder() -> str:
    """The folder of the real files; the test is skipped where there is none."""
    folder = os.environ.get("SC2JAX_BENCHMARKS")
    if not folder:
        pytest.skip("SC2JAX_BENCHMARKS names no folder with the real benchmark files")
    return folder
