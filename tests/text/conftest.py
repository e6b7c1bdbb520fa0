import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sc2jax.assets import asset_path
from sc2jax.text.config import FormatConfig, TokenizerConfig
from sc2jax.text.formats import FORMATS
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def training_texts() -> list[str]:
    """Real source code, a few hundred kilobytes: modules of the standard library."""
    folder = Path(os.__file__).parent
    names = ("argparse", "ast", "inspect", "tarfile", "typing", "turtle", "zipfile", "textwrap", "heapq")
    return [path.read_text() for name in names if (path := folder / f"{name}.py").exists()]


@pytest.fixture(scope="session")
def model_file(training_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_tokenizer(training_texts, TokenizerConfig(vocab_size=1024), seed=0))
    return path


@pytest.fixture(scope="session")
def sentencepiece_tokenizer(model_file: Path) -> Tokenizer:
    return load_tokenizer(str(model_file))


@pytest.fixture(scope="session")
def starcoder2_tokenizer() -> Tokenizer:
    path = os.environ.get("SC2JAX_TOKENIZER", "")
    if not path:
        pytest.skip("SC2JAX_TOKENIZER does not name StarCoder2's tokenizer.json")
    return load_tokenizer(path)


@pytest.fixture(params=["sentencepiece", "starcoder2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(f"{request.param}_tokenizer")


@pytest.fixture(scope="session")
def records() -> Callable[[str], list[dict[str, Any]]]:
    """The hand-written sample records of a kind."""

    def read(kind: str) -> list[dict[str, Any]]:
        lines = asset_path("data", "records", f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def rendered() -> Callable[..., str]:
    """A sample record in a format, special tokens written as their literals."""

    def render(name: str, record: dict[str, Any], seed: int = 0, **options: Any) -> str:
        rng = np.random.Generator(np.random.Philox(key=seed))
        pieces = FORMATS[name].render([record], rng, FormatConfig(**options))
        assert all(piece != "" for piece in pieces)
        return "".join(piece.literal if isinstance(piece, Special) else piece for piece in pieces)

    return render
