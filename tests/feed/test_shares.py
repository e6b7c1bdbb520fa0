"""The paper's largest mixture over a small corpus whose documents differ a thousandfold in length."""

import json
import random
from pathlib import Path

import pytest
from feed_corpora import WORDS, Open, make_repositories, split_units, write_corpus, write_records

from sc2jax.assets import asset_path
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.mixtures import read_mixture
from sc2jax.records.schemas import SCHEMAS
from sc2jax.text.config import FimConfig

ROWS, LENGTH, BATCH = 10_000, 256, 8
LONGEST = 12_000  # words

TEXTS = {"openwebmath": 300, "wikipedia": 30, "arxiv": LONGEST}


def text(words: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(max(1, words // 2), words)))


def samples(kind: str) -> list[dict]:
    path = asset_path("data", "records", f"{kind}.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_sources(folder: Path) -> dict:
    """Every source of the mixture: repositories and texts by chance, the rest the hand-written records."""
    rng = random.Random(0)
    for share in read_mixture("starcoder2_15b"):
        place = folder / share.folder
        if share.format == "repository":
            write_corpus(place, [split_units(make_repositories(60, longest=3000), 4)])
        elif share.format == "plain_text":
            groups = [[{"text": text(TEXTS[share.name], rng)} for _ in range(5)] for _ in range(6)]
            write_records(place, SCHEMAS["plain_text"], groups)
        else:
            write_records(place, SCHEMAS[share.format], [samples(share.format)] * 3)
    shares = {share.name: share.share for share in read_mixture("starcoder2_15b")}
    sources = [
        {"name": share.name, "folder": share.folder, "format": share.format, "share": share.share, "max_epochs": 0}
        for share in read_mixture("starcoder2_15b")
    ]
    (folder / "endless.json").write_text(json.dumps({"sources": sources}))
    return {name: value / sum(shares.values()) for name, value in shares.items()}


@pytest.mark.slow
def test_over_ten_thousand_rows_every_source_has_its_share_of_the_tokens(open_feed: Open, tmp_path: Path) -> None:
    wanted = write_sources(tmp_path)
    config = FeedConfig(mixture=str(tmp_path / "endless.json"), row_length=LENGTH)
    feed = open_feed(corpus=str(tmp_path), config=config, fim=FimConfig(level="off"), batch_size=BATCH)
    for _ in range(ROWS // BATCH):
        next(feed)
    found = feed.statistics(feed.state())["sources"]
    print()  # noqa: T201
    for name, share in wanted.items():
        print(f"| {name} | {100 * share:.2f} | {100 * found[name]['share']:.2f} | {found[name]['tokens']:,} |")  # noqa: T201
    for name, share in wanted.items():
        assert abs(found[name]["share"] - share) < 0.01, name


def test_the_mixture_reads_every_format(open_feed: Open, tmp_path: Path) -> None:
    wanted = write_sources(tmp_path)
    config = FeedConfig(mixture=str(tmp_path / "endless.json"), row_length=LENGTH)
    for name in wanted:
        feed = open_feed(corpus=str(tmp_path), config=config, batch_size=2, source=name)
        next(feed)
        assert list(feed.statistics(feed.state())["sources"]) == [name]
