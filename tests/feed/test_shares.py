"""The paper's largest mixture over a small corpus whose documents differ a thousandfold in length."""

import json
from pathlib import Path

import numpy as np
import pytest
from feed_corpora import Open, write_sources

from sc2jax.feed.batches import Batches
from sc2jax.feed.config import FeedConfig
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special

ROWS, LENGTH, BATCH = 10_000, 256, 8


@pytest.mark.slow
def test_over_ten_thousand_rows_every_source_has_its_share_of_the_tokens(open_feed: Open, tmp_path: Path) -> None:
    wanted = write_sources(tmp_path)
    config = FeedConfig(mixture=str(tmp_path / "endless.json"))
    feed = open_feed(
        corpus=str(tmp_path), config=config, row_length=LENGTH, fim=FimConfig(level="off"), batch_size=BATCH
    )
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
    config = FeedConfig(mixture=str(tmp_path / "endless.json"))
    for name in wanted:
        feed = open_feed(corpus=str(tmp_path), config=config, row_length=LENGTH, batch_size=2, source=name)
        next(feed)
        assert list(feed.statistics(feed.state())["sources"]) == [name]


@pytest.mark.parametrize("level", ["context", "document"])
@pytest.mark.parametrize("source_code_only", [True, False])
def test_infilling_is_for_source_code_unless_asked_otherwise(
    open_feed: Open, tmp_path: Path, level: str, source_code_only: bool
) -> None:
    wanted = write_sources(tmp_path)
    config = FeedConfig(mixture=str(tmp_path / "endless.json"))
    fim = FimConfig(level=level, rate=1.0, file_rate=1.0, source_code_only=source_code_only)
    for name in wanted:
        feed = open_feed(corpus=str(tmp_path), config=config, row_length=LENGTH, fim=fim, batch_size=4, source=name)
        found = (next(feed)["tokens"] == Special.FIM_PREFIX).any()
        assert found == (name == "source_code_full" or not source_code_only), name
    # In a mixture each row is as its source asks: with these tokens begins no source code.
    feed = open_feed(corpus=str(tmp_path), config=config, row_length=LENGTH, fim=fim, batch_size=400)
    others = [Special.ISSUE_START, Special.JUPYTER_START, Special.JUPYTER_SCRIPT, Special.PR]
    rows = [row for row in next(feed)["tokens"] if np.isin(others, row).any()]
    assert len(rows) > 20
    assert any(Special.FIM_PREFIX in row for row in rows) == (not source_code_only)


@pytest.mark.parametrize("before", [1, 4])
def test_any_hosts_go_on_with_a_mixture(open_feed: Open, tmp_path: Path, before: int) -> None:
    """Hosts agree on whose turn it is without a word, also when some streams find a source exhausted."""
    write_sources(tmp_path)
    fields = json.loads((tmp_path / "endless.json").read_text())
    for source in fields["sources"][1:5]:
        source.update(max_epochs=1, share=60)
    (tmp_path / "capped.json").write_text(json.dumps(fields))
    config = FeedConfig(mixture=str(tmp_path / "capped.json"), streams_per_row=2)

    def open_hosts(hosts: int) -> list[Batches]:
        rows = np.split(np.arange(8), hosts)
        return [open_feed(corpus=str(tmp_path), config=config, batch_size=8, rows=of_host.tolist()) for of_host in rows]

    def take(feeds: list[Batches], count: int) -> list[list[np.ndarray]]:
        return [[next(feed)["tokens"] for _ in range(count)] for feed in feeds]

    first = open_hosts(before)
    take(first, 31)
    state = np.max([feed.state() for feed in first], axis=0)
    expected = np.concatenate(take(first, 9), axis=1)
    exhausted = [source["exhausted_streams"] for source in first[0].statistics(state)["sources"].values()]
    assert 0 < max(exhausted) <= 16
    for after in (1, 2, 8):
        feeds = open_hosts(after)
        for feed in feeds:
            feed.restore(state)
        np.testing.assert_array_equal(np.concatenate(take(feeds, 9), axis=1), expected)
