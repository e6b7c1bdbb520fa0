import dataclasses
import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from feed_corpora import Open, Repositories, split_units, write_corpus
from sc2jax.feed.streams import POSITION_FIELDS, Stream

from sc2jax.errors import UserError
from sc2jax.feed import batches
from sc2jax.feed.batches import open_batches
from sc2jax.feed.config import FeedConfig, ShowConfig, TokenizeConfig
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.packing import FEATURES
from sc2jax.feed.rows import LOSSES
from sc2jax.feed.sources import FeedInputs, open_documents
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

LEVELS = ("context", "document", "off")
Batch = dict[str, np.ndarray]


def assert_equal(batches: Iterable[Batch], expected: Iterable[Batch]) -> None:
    for batch, other in zip(batches, expected, strict=True):
        for name in FEATURES:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def take(feed: Iterable[Batch], count: int) -> list[Batch]:
    return [batch for _, batch in zip(range(count), feed, strict=False)]


def test_shapes_and_types(open_feed: Open) -> None:
    batch = next(open_feed())
    assert list(batch) == list(FEATURES)
    for name, values in batch.items():
        assert values.shape == (4, 64)
        assert values.dtype == (np.float32 if name == "weights" else np.int32)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at", [0, 1, 5, 33])
@pytest.mark.parametrize("streams_per_row", [1, 3])
def test_restored_goes_on_bit_for_bit(open_feed: Open, level: str, at: int, streams_per_row: int) -> None:
    options: dict = {
        "fim": FimConfig(level=level),
        "config": FeedConfig(streams_per_row=streams_per_row),
    }
    feed = open_feed(**options)
    take(feed, at)
    state = feed.state()
    expected = take(feed, 20)
    again = open_feed(**options)
    take(again, 3)  # it may have been used before
    again.restore(state)
    np.testing.assert_array_equal(again.state(), state)
    assert_equal(take(again, 20), expected)
    np.testing.assert_array_equal(again.state(), feed.state())


def test_a_row_reads_its_streams_by_turns(open_feed: Open) -> None:
    """Two rows of three streams each hold, over three batches, the rows of a batch of six."""
    narrow = take(open_feed(batch_size=2, config=FeedConfig(streams_per_row=3)), 6)
    wide = take(open_feed(batch_size=6), 2)
    for turn in range(2):
        rows = [np.concatenate([batch["tokens"] for batch in narrow[3 * turn : 3 * turn + 3]])]
        np.testing.assert_array_equal(rows[0], wide[turn]["tokens"])


def test_rows_read_elsewhere_are_the_same(open_feed: Open) -> None:
    whole = open_feed()
    expected = take(whole, 7)
    hosts = {rows: open_feed(rows=rows) for rows in ((0, 1, 3), (2,))}
    for rows, host in hosts.items():
        part = [{name: values[list(rows)] for name, values in batch.items()} for batch in expected]
        assert_equal(take(host, 7), part)
    # The greatest of the hosts' states is that of the whole, from which other hosts can go on.
    state = np.max([host.state() for host in hosts.values()], axis=0)
    np.testing.assert_array_equal(state, whole.state())
    following = take(whole, 5)
    for rows in ((0, 2), (1, 3)):
        host = open_feed(rows=rows)
        host.restore(state)
        assert_equal(take(host, 5), [{name: values[list(rows)] for name, values in b.items()} for b in following])


def devices(hosts: int, tensor: int, batch_size: int) -> list[list[int]]:
    """The rows that each of `hosts` holds: eight devices in order, `tensor` of them for the same rows."""
    groups = np.repeat(np.split(np.arange(batch_size), 8 // tensor), tensor, axis=0)
    return [sorted(set(np.concatenate(part).tolist())) for part in np.split(groups, hosts)]


@pytest.mark.parametrize("tensor", [1, 2])
@pytest.mark.parametrize("before", [1, 2, 4, 8])
def test_any_hosts_go_on_where_others_stopped(open_feed: Open, before: int, tensor: int) -> None:
    """Also where tensor parallelism spreads the same rows over two hosts: of eight, two read each row."""
    options: dict = {"batch_size": 8, "row_length": 32, "config": FeedConfig(streams_per_row=2)}
    whole = open_feed(**options)
    take(whole, 5)
    feeds = [open_feed(rows=rows, **options) for rows in devices(before, tensor, 8)]
    for feed in feeds:
        take(feed, 5)
    state = np.max([feed.state() for feed in feeds], axis=0)
    np.testing.assert_array_equal(state, whole.state())
    expected = take(whole, 3)
    for after in (1, 2, 4, 8):
        for rows in devices(after, tensor, 8):
            feed = open_feed(rows=rows, **options)
            feed.restore(state)
            part = [{name: values[rows] for name, values in batch.items()} for batch in expected]
            assert_equal(take(feed, 3), part)


def test_the_state_is_that_of_the_last_batch_handed_out(open_feed: Open) -> None:
    slow, fast = (
        open_feed(config=FeedConfig(prefetch=1)),
        open_feed(config=FeedConfig(prefetch=8)),
    )
    for feed in (slow, fast):
        take(feed, 3)
    np.testing.assert_array_equal(slow.state(), fast.state())
    assert slow.state().dtype == np.int64
    assert (slow.state()[:, 1] == 3).all()


def test_equal_seeds_give_equal_batches(open_feed: Open) -> None:
    assert_equal(take(open_feed(), 5), take(open_feed(), 5))
    first, other = next(open_feed()), next(open_feed(seed=2))
    assert (first["tokens"] != other["tokens"]).any()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cross", [False, True])
def test_every_end_of_text_is_a_target_that_counts(open_feed: Open, level: str, cross: bool) -> None:
    """The end of text has id 0, which others take for padding."""
    config = FeedConfig(cross_document_attention=cross)
    batches = take(open_feed(config=config, fim=FimConfig(level=level)), 30)
    targets, weights = (np.concatenate([batch[name] for batch in batches]) for name in ("targets", "weights"))
    ends = targets == Special.END_OF_TEXT
    assert ends.sum() > 10
    assert (weights[ends] == 1).all()
    tokens = np.concatenate([batch["tokens"] for batch in batches])
    after_end = (tokens == Special.END_OF_TEXT) & (targets != Special.FIM_PAD)
    assert (weights[after_end] == (1 if cross else 0)).all()


def test_targets_are_the_next_tokens(open_feed: Open) -> None:
    for batch in take(open_feed(), 20):
        real = batch["segment_ids"][:, 1:] > 0
        np.testing.assert_array_equal(batch["targets"][:, :-1][real], batch["tokens"][:, 1:][real])
        padding = batch["segment_ids"] == 0
        assert (batch["weights"][padding] == 0).all()
        assert (batch["tokens"][padding] == Special.FIM_PAD).all()


@pytest.mark.parametrize("level", ["context", "document"])
def test_infilling_is_in_the_rows(open_feed: Open, level: str) -> None:
    tokens = np.concatenate([b["tokens"] for b in take(open_feed(fim=FimConfig(level=level)), 60)])
    counts = [int((tokens == token).sum()) for token in (Special.FIM_PREFIX, Special.FIM_SUFFIX, Special.FIM_MIDDLE)]
    assert min(counts) > 10
    if level == "document":
        assert not (tokens == Special.FIM_PAD).any()


def test_without_infilling_there_is_none(open_feed: Open) -> None:
    tokens = np.concatenate([batch["tokens"] for batch in take(open_feed(fim=FimConfig(level="off")), 20)])
    assert not np.isin(tokens, [Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX, Special.FIM_PAD]).any()


def test_documents_are_those_of_the_corpus(open_feed: Open, repositories: Repositories, tokenizer: Tokenizer) -> None:
    """Files in another order in every epoch, metadata in half of the cases."""
    feed = open_feed(batch_size=1, fim=FimConfig(level="off"), row_length=512)
    tokens = np.concatenate([batch["tokens"][0] for batch in take(feed, 120)])
    written = tokenizer.decode(tokens.tolist()).split("<|endoftext|>")[:-1]
    by_files = {tuple(sorted(text for _, text in files)): (name, dict(files)) for name, files in repositories.items()}
    with_metadata, orders = 0, set()
    for document in written:
        head, *files = document.split("<file_sep>")
        if head:
            with_metadata += 1
            name = head.removeprefix("<repo_name>")
            assert dict(file.split("\n", 1) for file in files) == dict(repositories[name])
            orders.add((name, tuple(files)))
        else:
            assert tuple(sorted(files)) in by_files
    assert len(written) > 3 * len(repositories)
    assert 0.35 < with_metadata / len(written) < 0.65
    assert len(orders) > len({name for name, _ in orders})


def test_a_state_of_another_feed_is_refused(open_feed: Open) -> None:
    state = open_feed().state()
    for changes in (
        {"seed": 2},
        {"fim": FimConfig(level="off")},
        {"row_length": 32},
        {"batch_size": 8},
    ):
        with pytest.raises(UserError, match="another corpus, tokenizer, mixture, seed"):
            open_feed(**changes).restore(state)
    # How many batches are made ahead changes nothing.
    open_feed(config=FeedConfig(prefetch=7)).restore(state)


def overwrite(part: Path, at: int) -> None:
    content = bytearray(part.read_bytes())
    content[at : at + 20] = bytes(byte ^ 0xFF for byte in content[at : at + 20])
    part.write_bytes(content)


@pytest.mark.parametrize("row_group", [0, 1])
def test_a_corrupt_part_ends_in_one_message(
    open_feed: Open, repositories: Repositories, tmp_path: Path, row_group: int
) -> None:
    folder = write_corpus(tmp_path, [split_units(repositories, 12)])
    part = next((tmp_path / "train").glob("*.parquet"))
    content = pq.read_metadata(part).row_group(row_group).column(2)
    assert content.path_in_schema == "content"
    overwrite(part, content.dictionary_page_offset + 100)
    with pytest.raises(UserError, match=rf"{part} is damaged"):
        take(open_feed(corpus=folder, batch_size=2), 500)


def test_damaged_and_missing_parts_are_left_out_and_counted(
    open_feed: Open,
    repositories: Repositories,
    tokenizer: Tokenizer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    units = split_units(repositories, 4)
    folder = write_corpus(tmp_path, [units[:2], units[2:4], units[4:]])
    first, second, _ = sorted((tmp_path / "train").glob("*.parquet"))
    content = pq.read_metadata(first).row_group(1).column(2)
    overwrite(first, content.dictionary_page_offset + 100)
    second.unlink()
    config = FeedConfig(damaged="skip")
    feed = open_feed(corpus=folder, batch_size=2, config=config, fim=FimConfig(level="off"))
    batches = take(feed, 500)
    statistics = feed.statistics(feed.state())
    epochs = statistics["sources"]["source_code"]["epochs"]
    assert epochs > 3
    # Of six units three cannot be read: one is damaged, two are in the part that is missing.
    assert abs(statistics["damaged_units"] - 3 * epochs) <= 3
    assert f"{second} is missing" in caplog.text
    assert f"{first} is damaged" in caplog.text
    names = "".join(tokenizer.decode(batch["tokens"][0].tolist()) for batch in batches)
    assert "repository001" in names
    assert "repository005" not in names  # of the damaged row group
    assert "repository010" not in names  # of the missing part


def test_what_was_read_and_lost_is_counted(open_feed: Open) -> None:
    feed = open_feed(config=FeedConfig(streams_per_row=2))
    take(feed, 50)
    statistics = feed.statistics(feed.state())
    assert statistics["sources"] == {
        "source_code": {
            "tokens": 50 * 4 * 64,
            "share": 1.0,
            "epochs": statistics["sources"]["source_code"]["epochs"],
            "exhausted_streams": 0,
        }
    }
    assert statistics["cut_tokens"] > 0
    assert statistics["cut_documents"] == 0
    off = open_feed(fim=FimConfig(level="off"))
    take(off, 50)
    assert [off.statistics(off.state())[name] for name in ("padding", "cut_tokens", "replaced_characters")] == [0, 0, 0]
    cut = open_feed(fim=FimConfig(level="off"), config=FeedConfig(long_documents="cut"))
    take(cut, 50)
    assert 0 < cut.statistics(cut.state())["cut_documents"] <= 200


def test_streams_that_a_source_gives_nothing_any_more_are_counted(open_feed: Open, tmp_path: Path) -> None:
    """Eight row groups, each twice, for four streams; then there is no other source to go on with."""
    source = {"name": "source_code", "format": "repository", "share": 1, "max_epochs": 2}
    (tmp_path / "twice.json").write_text(json.dumps({"sources": [source]}))
    feed = open_feed(config=FeedConfig(mixture=str(tmp_path / "twice.json")), fim=FimConfig(level="off"))
    with pytest.raises(UserError, match="source_code 2 times is as often as the mixture lets"):
        take(feed, 10_000)
    statistics = feed.statistics(feed.state())["sources"]["source_code"]
    assert 1 <= statistics["epochs"] < 2
    state = feed.state()
    units = 2 + len(LOSSES) + len(Stream.FIELDS) + POSITION_FIELDS.index("units")
    state[:, units] = [4, 4, 3, 4]
    assert feed.statistics(state)["sources"]["source_code"]["exhausted_streams"] == 3


@pytest.mark.parametrize("level", ["document", "off"])
def test_over_an_epoch_no_token_is_lost_or_repeated(
    open_feed: Open, inputs: FeedInputs, tokenizer: Tokenizer, level: str
) -> None:
    """Counted: the tokens of the rows are those of the documents of the first epoch, each once."""
    fim = FimConfig(level=level)
    (source,) = open_documents(dataclasses.replace(inputs, fim=fim), read_mixture("repositories"))
    expected: Counter[tuple[int, ...]] = Counter()
    for index in range(len(source)):
        unit = source.unit(0, index)
        for document in range(len(unit)):
            expected[tuple(np.concatenate([part.ids() for part in unit.parts(document)]).tolist())] += 1
    feed = open_feed(fim=fim, batch_size=1)
    total = sum(len(document) * count for document, count in expected.items())
    tokens = np.concatenate([batch["tokens"][0] for batch in take(feed, -(-total // 64))])[:total]
    ends = np.flatnonzero(tokens == Special.END_OF_TEXT) + 1
    assert Counter(tuple(part.tolist()) for part in np.split(tokens, ends) if len(part)) == expected


def test_an_error_stays(open_feed: Open, repositories: Repositories, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, [split_units(repositories, 3)])
    feed = open_feed(corpus=folder)
    part = next((tmp_path / "train").glob("*.parquet"))
    part.unlink()
    for _ in range(2):
        with pytest.raises(UserError, match="parquet is missing"):
            take(feed, 500)


def test_missing_short_and_empty_corpora(open_feed: Open, repositories: Repositories, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        open_feed(corpus=str(tmp_path / "none"))
    with pytest.raises(UserError, match="no files in its split 'train'"):
        open_feed(corpus=write_corpus(tmp_path / "empty", []))
    folder = write_corpus(tmp_path / "short", [split_units(repositories, 12)])
    part = next((tmp_path / "short" / "train").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        open_feed(corpus=folder)
    folder = write_corpus(tmp_path / "footer", [split_units(repositories, 12)])
    part = next((tmp_path / "footer" / "train").glob("*.parquet"))
    overwrite(part, part.stat().st_size - 300)
    with pytest.raises(UserError, match="is damaged"):
        take(open_feed(corpus=folder), 500)
    part.unlink()
    with pytest.raises(UserError, match="parquet is missing"):
        open_feed(corpus=folder)


def test_bad_arguments(open_feed: Open, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no mixture 'repositoris'; use one of .*repositories"):
        open_feed(config=FeedConfig(mixture="repositoris"))
    with pytest.raises(UserError, match="a batch of 0 rows"):
        open_feed(batch_size=0)
    with pytest.raises(ValueError, match="are not rows of a batch"):
        open_feed(rows=[4])


@pytest.mark.parametrize("bad", [{"damaged": "mend"}, {"long_documents": "lost"}, {"prefetch": 0}, {"mixture": ""}])
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(UserError, match=r"feed\."):
        FeedConfig(**bad)


def test_bad_settings_of_the_feed_s_verbs() -> None:
    with pytest.raises(UserError, match=r"tokenize\.epochs"):
        TokenizeConfig(epochs=0)
    with pytest.raises(UserError, match=r"show\.step"):
        ShowConfig(step=-1)
    with pytest.raises(UserError, match=r"show\.row"):
        ShowConfig(row=-1)


def test_no_more_batches_are_made_ahead_than_asked_for(open_feed: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    produce = batches._Producer.produce

    def counted(producer: batches._Producer) -> Batch:
        made.append(producer)
        return produce(producer)

    monkeypatch.setattr(batches._Producer, "produce", counted)
    feed = open_feed(config=FeedConfig(prefetch=3))
    for taken in (1, 2):
        next(feed)
        deadline = time.monotonic() + 60
        while len(made) < taken + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(made) == taken + 3


def test_closing_ends_the_thread(open_feed: Open) -> None:
    def feeds() -> int:
        return sum(thread.name == "sc2jax-feed" for thread in threading.enumerate())

    before = feeds()
    feed = open_feed()
    next(feed)
    assert feeds() == before + 1
    assert feed.wait_seconds > 0
    feed.close()
    feed.close()
    assert feeds() == before
    with pytest.raises(ValueError, match="closed"):
        next(feed)


def test_a_forgotten_feed_ends_its_thread(inputs: FeedInputs) -> None:
    feed = open_batches(inputs, 2)
    next(feed)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "sc2jax-feed")
    del feed
    gc.collect()
    assert not thread.is_alive()
