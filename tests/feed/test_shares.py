"""The paper's largest mixture over a small corpus whose documents differ a thousandfold in length."""

from pathlib import Path

import pytest
from feed_corpora import Open, write_sources

from sc2jax.feed.config import FeedConfig
from sc2jax.text.config import FimConfig

ROWS, LENGTH, BATCH = 10_000, 256, 8


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
        rows = found[name]["tokens"] / LENGTH
        # Half a row, and what all sources together are ahead or behind; whatever the documents' lengths.
        assert abs(rows - share * ROWS) <= 0.5 + share * len(wanted) / 2, name
        assert abs(rows - share * ROWS) <= 0.01 * share * ROWS or share < 0.0054, name


def test_the_mixture_reads_every_format(open_feed: Open, tmp_path: Path) -> None:
    wanted = write_sources(tmp_path)
    config = FeedConfig(mixture=str(tmp_path / "endless.json"), row_length=LENGTH)
    for name in wanted:
        feed = open_feed(corpus=str(tmp_path), config=config, batch_size=2, source=name)
        next(feed)
        assert list(feed.statistics(feed.state())["sources"]) == [name]
