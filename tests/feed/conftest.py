import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from feed_corpora import Lay, Open, Repositories, laid, make_repositories, split_units, write_corpus

from sc2jax.feed.batches import Batches, open_batches
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.sources import FeedInputs
from sc2jax.text.config import FimConfig, FormatConfig, TokenizerConfig
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def repositories() -> Repositories:
    return make_repositories(23)


@pytest.fixture(scope="session")
def corpus(repositories: Repositories, tmp_path_factory: pytest.TempPathFactory) -> str:
    """23 repositories in 8 row groups of 2 parts, and a held-out split."""
    units = split_units(repositories, 3)
    return write_corpus(tmp_path_factory.mktemp("corpus"), [units[:5], units[5:]], make_repositories(2, seed=9))


@pytest.fixture(scope="session")
def tokenizer_path(repositories: Repositories, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [text for files in repositories.values() for _, text in files]
    path.write_bytes(train_tokenizer(texts, TokenizerConfig(vocab_size=400), seed=0))
    return str(path)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: str) -> Tokenizer:
    return load_tokenizer(tokenizer_path)


@pytest.fixture(scope="session")
def untokenized(corpus: str, tokenizer: Tokenizer) -> FeedInputs:
    """The tiny corpus, of which no tokens have been laid."""
    return FeedInputs(corpus, tokenizer, FeedConfig(prefetch=2), 64, FormatConfig(), FimConfig(), seed=1)


@pytest.fixture(scope="session")
def lay(untokenized: FeedInputs, tmp_path_factory: pytest.TempPathFactory) -> Lay:
    """The inputs of the tiny corpus with some changes, and their tokens laid flat; not to be changed."""
    made: dict[str, FeedInputs] = {}

    def lay(*, renderings: int = 1, **changes: Any) -> FeedInputs:
        key = repr((renderings, sorted(changes.items())))
        if key not in made:
            folder = str(tmp_path_factory.mktemp("tokens"))
            made[key] = laid(dataclasses.replace(untokenized, **changes), folder, renderings)
        return made[key]

    return lay


@pytest.fixture(scope="session")
def inputs(lay: Lay) -> FeedInputs:
    """The tiny corpus and its tokens; not to be changed."""
    return lay()


@pytest.fixture
def open_feed(inputs: FeedInputs, request: pytest.FixtureRequest) -> Open:
    """Opens the feed of the tiny corpus's tokens; what is opened is closed after the test."""

    def open_feed(
        *, batch_size: int = 4, rows: Sequence[int] | None = None, source: str = "", **changes: Any
    ) -> Batches:
        feed = open_batches(dataclasses.replace(inputs, **changes), batch_size, rows=rows, source=source)
        request.addfinalizer(feed.close)
        return feed

    return open_feed


@pytest.fixture
def flat(untokenized: FeedInputs, tmp_path: Path) -> Callable[..., FeedInputs]:
    """Inputs whose sources have the tokens that are given, without infilling and without a corpus."""
    from feed_corpora import commit_tokens, write_flat

    def flat(
        tokens: dict[str, list[Any]],
        shares: Sequence[float] = (),
        caps: Sequence[int] = (),
        *,
        part: int = 0,
        vocab_size: int = 2**17,
        **changes: Any,
    ) -> FeedInputs:
        folder = tmp_path / f"flat{len(list(tmp_path.iterdir()))}"
        texts = [*untokenized.tokenizer._token_bytes, *[b""] * (vocab_size - untokenized.tokenizer.vocab_size)]
        mixture, outputs, statistics = write_flat(folder, tokens, shares, caps, part=part, vocab_size=vocab_size)
        fields: dict[str, Any] = {
            "tokens": str(folder),
            "corpus": str(folder / "corpus"),
            "config": dataclasses.replace(untokenized.config, mixture=mixture, cross_document_attention=True),
            "tokenizer": dataclasses.replace(untokenized.tokenizer, vocab_size=vocab_size, _token_bytes=texts),
            "fim": FimConfig(level="off"),
        }
        inputs = dataclasses.replace(untokenized, **(fields | changes))
        commit_tokens(inputs, outputs, statistics)
        return inputs

    return flat
