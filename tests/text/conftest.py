import os
from pathlib import Path

import pytest

from sc2jax.text.config import TokenizerConfig
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
