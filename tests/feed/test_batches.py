import dataclasses
import gc
import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_corpora import Lay, Open, numbered

from sc2jax.errors import UserError
from sc2jax.feed.batches import open_batches
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.packing import FEATURES
from sc2jax.feed.rows import COUNTS, Rows
from sc2jax.feed.sources import FeedInputs
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special

LEVELS = ("context", "document", "off")
Batch = dict[str, np.ndarray]
Flat = Callable[..., FeedInputs]


def assert_equal(batches: Iterable[Batch], expected: Iterable[Batch]) -> None:
    for batch, other in zip(batches, expected, strict=True):
        for name in FEATURES:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def take(feed: Iterable[Batch], count: int) -> list[Batch]:
    return [batch for _, batch in zip(range(count), feed, strict=False)]


def part_of(batches: Iterable[Batch], rows: list[int]) -> list[Batch]:
    return [{name: values[rows] for name, values in batch.items()} for batch in batches]


def test_shapes_and_types(open_feed: Open) -> None:
    batch = next(open_feed())
    assert list(batch) == list(FEATURES)
    for name, values in batch.items():
        assert values.shape == (4, 64)
        assert values.dtype == (np.float32 if name == "weights" else np.int32)


@pytest.mark.parametrize("batch_size", [1, 3, 4097])
def test_a_batch_is_the_next_rows(flat: Flat, batch_size: int) -> None:
    inputs = flat({"a": [numbered(900)], "b": [numbered(500, 5000)]}, [3.0, 1.0], row_length=16)
    count = 2 if batch_size > 1000 else 20
    rows = Rows(inputs)
    expected = rows.read(rows.places(0, count * batch_size))
    with open_batches(inputs, batch_size) as feed:
        found = take(feed, count)
    for name in FEATURES:
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in found]), expected.features[name])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at", [0, 1, 5, 33])
def test_a_feed_goes_on_from_any_step_bit_for_bit(lay: Lay, open_feed: Open, level: str, at: int) -> None:
    options = {"tokens": lay(fim=FimConfig(level=level)).tokens, "fim": FimConfig(level=level)}
    feed = open_feed(**options)
    take(feed, at)
    expected, counts = take(feed, 20), feed.counts()
    again = open_feed(**options)
    take(again, 3)  # it may have been used before
    again.seek(at)
    assert_equal(take(again, 20), expected)
    np.testing.assert_array_equal(again.counts(), counts)
    again.seek(at + 7)
    assert_equal(take(again, 3), expected[7:10])


def test_going_on_reads_nothing_before(open_feed: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = Rows.read

    def counted(rows: Rows, places: Any) -> Any:
        read.extend(places)
        return original(rows, places)

    monkeypatch.setattr(Rows, "read", counted)
    feed = open_feed(config=FeedConfig(prefetch=1))
    feed.seek(10**9)
    next(feed)
    feed.close()
    assert len(read) <= 2 * 4
    assert read[:4] == feed.rows.places(4 * 10**9, 4 * 10**9 + 4)


def devices(hosts: int, tensor: int, batch_size: int) -> list[list[int]]:
    """The rows that each of `hosts` holds: eight devices in order, `tensor` of them for the same rows."""
    groups = np.repeat(np.split(np.arange(batch_size), 8 // tensor), tensor, axis=0)
    return [sorted(set(np.concatenate(part).tolist())) for part in np.split(groups, hosts)]


@pytest.mark.parametrize("tensor", [1, 2])
@pytest.mark.parametrize("before", [1, 2, 4, 8])
def test_any_hosts_go_on_where_others_stopped(open_feed: Open, before: int, tensor: int) -> None:
    """Also where tensor parallelism spreads the same rows over two hosts: of eight, two read each row."""
    whole = open_feed(batch_size=8)
    batches = take(whole, 8)
    for rows in devices(before, tensor, 8):
        assert_equal(take(open_feed(batch_size=8, rows=rows), 5), part_of(batches[:5], rows))
    for after in (2, 8):
        for rows in devices(after, tensor, 8):
            feed = open_feed(batch_size=8, rows=rows)
            feed.seek(5)
            assert_equal(take(feed, 3), part_of(batches[5:], rows))


@pytest.mark.parametrize("rows", [[0, 2], [3, 0, 1]])
def test_some_rows_of_a_batch_are_as_in_the_whole(flat: Flat, rows: list[int]) -> None:
    """In whatever order they are asked for; over the ends of epochs and of sources."""
    inputs = flat({"a": [numbered(90)], "b": [numbered(60, 5000)]}, [3.0, 1.0], [0, 2], row_length=16)
    with open_batches(inputs, 4) as whole, open_batches(inputs, 4, rows=rows) as some:
        assert_equal(take(some, 40), part_of(take(whole, 40), rows))


def test_what_is_counted_of_rows_is_told_by_whoever_reads_them(open_feed: Open, inputs: FeedInputs) -> None:
    """The greatest of the hosts' counts is that of the whole."""
    whole = open_feed()
    hosts = [open_feed(rows=rows) for rows in ([0, 1, 3], [2], [2, 3])]
    assert not whole.counts().any()
    total = np.zeros((4, len(COUNTS)), np.int64)
    for step in range(30):
        next(whole)
        for host in hosts:
            next(host)
        assert whole.counts().dtype == np.int64
        np.testing.assert_array_equal(np.max([host.counts() for host in hosts], axis=0), whole.counts())
        rows = whole.rows.read(whole.rows.places(4 * step, 4 * step + 4))
        np.testing.assert_array_equal(whole.counts(), rows.counts)
        for targets, weights, counts in zip(
            rows.features["targets"], rows.features["weights"], rows.counts, strict=True
        ):
            text = inputs.tokenizer.bytes_of(
                [token for token in targets[weights > 0].tolist() if token > Special.PASSWORD]
            )
            assert counts[COUNTS.index("text_bytes")] == len(text) > 0
        total += whole.counts()
    assert not hosts[1].counts()[[0, 1, 3]].any()
    counts = total.sum(axis=0).tolist()
    statistics = whole.statistics(30, counts, {})
    assert statistics == dict(zip(COUNTS, counts, strict=True)) | {"sources": whole.rows.statistics(120)}
    assert all(host.statistics(30, counts, {}) == statistics for host in hosts)
    assert statistics["cut_tokens"] > 0
    assert statistics["sources"]["source_code"]["tokens"] == 120 * 64
    later = whole.statistics(60, counts, statistics)
    assert [later[name] for name in COUNTS] == [2 * statistics[name] for name in COUNTS]
    json.dumps(statistics)


def test_how_many_batches_are_made_ahead_changes_nothing(open_feed: Open) -> None:
    slow, fast = open_feed(config=FeedConfig(prefetch=1)), open_feed(config=FeedConfig(prefetch=8))
    assert_equal(take(slow, 9), take(fast, 9))
    np.testing.assert_array_equal(slow.counts(), fast.counts())


def test_equal_seeds_give_equal_batches(lay: Lay, open_feed: Open) -> None:
    assert_equal(take(open_feed(), 5), take(open_feed(), 5))
    first, other = next(open_feed()), next(open_feed(seed=2, tokens=lay(seed=2).tokens))
    assert (first["tokens"] != other["tokens"]).any()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cross", [False, True])
def test_every_end_of_text_is_a_target_that_counts(lay: Lay, open_feed: Open, level: str, cross: bool) -> None:
    """The end of text has id 0, which others take for padding."""
    fim, config = FimConfig(level=level), FeedConfig(cross_document_attention=cross)
    batches = take(open_feed(config=config, fim=fim, tokens=lay(fim=fim).tokens), 30)
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


def test_at_the_cap_a_message_ends_the_feed_and_every_row_was_there(flat: Flat) -> None:
    """Of 56 rows 11 batches of 5 are whole; the message comes with the batch that is not, not before."""
    inputs = flat({"a": [numbered(28 * 16 + 9)]}, caps=[2], row_length=16)
    for prefetch in (1, 50):
        config = dataclasses.replace(inputs.config, prefetch=prefetch)
        with open_batches(dataclasses.replace(inputs, config=config), 5) as feed:
            assert len([next(feed) for _ in range(11)]) == 11
            for _ in range(2):
                with pytest.raises(UserError, match="there are 56 rows to train on and no more: a 2 times is as often"):
                    next(feed)
            feed.seek(10)
            next(feed)
    with open_batches(inputs, 57) as feed, pytest.raises(UserError, match="56 rows"):
        next(feed)


def test_hosts_end_at_the_same_step(flat: Flat) -> None:
    """Also one whose own rows of the last batch would be there."""
    inputs = flat({"a": [numbered(28 * 16)]}, caps=[2], row_length=16)
    for rows in ([0], [4], [0, 1, 2, 3, 4]):
        with open_batches(inputs, 5, rows=rows) as feed:
            assert len(take(_until_the_end(feed), 100)) == 11


def _until_the_end(feed: Iterable[Batch]) -> Iterable[Batch]:
    try:
        yield from feed
    except UserError:
        return


def test_an_error_comes_in_place_of_the_batch_and_stays(flat: Flat) -> None:
    inputs = flat({"a": [numbered(16 * 100)]}, row_length=16, part=400)
    feed = open_batches(inputs, 4)
    for part in list(Path(inputs.tokens).glob("a/rendering-00000/part-*/c/0"))[1:]:
        part.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match="is damaged or missing"):
            take(feed, 50)
    feed.close()


def test_bad_arguments(open_feed: Open) -> None:
    with pytest.raises(UserError, match=r"no mixture 'repositoris'; use one of .*repositories"):
        open_feed(config=FeedConfig(mixture="repositoris"))
    with pytest.raises(UserError, match="a batch of 0 rows is empty; use 1 or more"):
        open_feed(batch_size=0)
    for rows in ([4], [-1], [], [0, 7]):
        with pytest.raises(ValueError, match="are not rows of a batch of 4"):
            open_feed(rows=rows)
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        open_feed(tokens="/nowhere")


def test_no_more_batches_are_made_ahead_than_asked_for(open_feed: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    made, read = [], Rows.read

    def counted(rows: Rows, places: Any) -> Any:
        made.append(places)
        return read(rows, places)

    monkeypatch.setattr(Rows, "read", counted)
    feed = open_feed(config=FeedConfig(prefetch=3))
    for taken in (1, 2):
        next(feed)
        deadline = time.monotonic() + 60
        while len(made) < taken + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(made) == taken + 3


def feeds() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sc2jax-feed"]


def test_closing_ends_the_thread(open_feed: Open) -> None:
    before = len(feeds())
    feed = open_feed()
    next(feed)
    assert len(feeds()) == before + 1
    assert feed.wait_seconds > 0
    feed.seek(3)
    assert len(feeds()) == before
    next(feed)
    feed.close()
    feed.close()
    assert len(feeds()) == before
    with pytest.raises(ValueError, match="closed"):
        next(feed)


def test_a_forgotten_feed_ends_its_thread(inputs: FeedInputs) -> None:
    feed = open_batches(inputs, 2)
    next(feed)
    (thread,) = feeds()
    del feed
    gc.collect()
    assert not thread.is_alive()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows_that_were_read(flat: Flat) -> None:
    """A corpus of 2,000 parts, each of which was opened before the first 500 batches have been."""
    inputs = flat({"a": [np.arange(8_000_000) % 60_000]}, part=4000, vocab_size=2**16, row_length=256)
    with open_batches(inputs, 64) as feed:
        sizes = []
        for _ in range(3):
            for _ in range(500):
                next(feed)
            sizes.append(resident())
    assert sizes[2] - sizes[0] < 20 * 2**20
