"""Rows against the rule written anew: a row's number tells its source, epoch, window, and so its tokens."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_corpora import Lay, Row, each, numbered
from test_schedule import one_at_a_time

from sc2jax.errors import UserError
from sc2jax.feed import flat_tokens
from sc2jax.feed.keyed_random import KeyedPermutation, keyed_generator
from sc2jax.feed.packing import FEATURES, pack_row
from sc2jax.feed.rows import COUNTS, Rows
from sc2jax.feed.schedule import ENDLESS
from sc2jax.feed.sources import FeedInputs
from sc2jax.text.config import FimConfig
from sc2jax.text.fim import transform_window
from sc2jax.text.special_tokens import Special

Flat = Callable[..., FeedInputs]
Tokens = dict[str, list[np.ndarray]]


def read(inputs: FeedInputs, start: int, stop: int, **options: Any) -> list[Row]:
    rows = Rows(inputs, **options)
    return each(rows.read(rows.places(start, stop)))


def windows_of(row: Row) -> np.ndarray:
    """The tokens of a row that is one whole segment, and the one after it."""
    return np.append(row.features["tokens"], row.features["targets"][-1])


def by_the_rule(
    tokens: Tokens, shares: list[float], caps: list[int], length: int, seed: int, count: int
) -> list[tuple[str, int, int, np.ndarray]]:
    """The source, epoch and window of each row, and its tokens, one row after the other."""
    names = list(tokens)

    def windows(name: str, epoch: int) -> int:
        return len(tokens[name][epoch % len(tokens[name])]) // length

    limits = [
        sum(windows(name, epoch) for epoch in range(cap)) if cap else ENDLESS
        for name, cap in zip(names, caps, strict=True)
    ]
    found = []
    for source, before in one_at_a_time(shares, limits, count):
        name, epoch = names[source], 0
        while before >= windows(name, epoch):
            before -= windows(name, epoch)
            epoch += 1
        laid = tokens[name][epoch % len(tokens[name])]
        order = KeyedPermutation(windows(name, epoch), "windows", seed, name, epoch)
        window = int(order[np.array([before])][0])
        shift = int(keyed_generator("shift", seed, name, epoch).integers(len(laid)))
        row = np.take(laid, np.arange(length + 1) + shift + window * length, mode="wrap")
        found.append((name, epoch, window, row))
    return found


def by_chance(chance: random.Random) -> tuple[Tokens, list[float], list[int], int]:
    """Sources of 1 to 60 windows in one to three renderings, shares, caps, and the length of a row."""
    length = chance.choice([8, 16, 31])
    tokens: Tokens = {}
    for name in "abc"[: chance.randint(1, 3)]:
        sizes = [chance.randint(1, chance.choice([2, 60])) * length + chance.randint(0, length - 1)]
        sizes += [sizes[0] + chance.randint(0, 2 * length) for _ in range(chance.randint(0, 2))]
        tokens[name] = [numbered(size, 100 + 20_000 * rendering) for rendering, size in enumerate(sizes)]
    shares = [float(chance.randint(1, 9)) for _ in tokens]
    return tokens, shares, [chance.choice([0, 1, 2, 5]) for _ in tokens], length


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_those_of_the_rule(flat: Flat, seed: int) -> None:
    tokens, shares, caps, length = by_chance(random.Random(seed))
    inputs = flat(tokens, shares, caps, part=random.Random(seed).choice([0, 37, 500]), row_length=length, seed=seed)
    expected = by_the_rule(tokens, shares, caps, length, seed, 400)
    made = Rows(inputs)
    assert made.schedule.rows == (ENDLESS if 0 in caps else len(by_the_rule(tokens, shares, caps, length, seed, 10**4)))
    places = made.places(0, len(expected))
    names = list(tokens)
    assert [(names[place.source], place.epoch, place.window) for place in places] == [row[:3] for row in expected]
    for row, (*_, window) in zip(each(made.read(places)), expected, strict=True):
        np.testing.assert_array_equal(windows_of(row), window)
        assert row.counts[:4] == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_the_same_from_wherever_and_whoever_reads_them(flat: Flat, seed: int) -> None:
    """Any stretch, and any rows of it: by 1, 2, 4 or 8 hosts, in whatever shares."""
    chance = random.Random(100 + seed)
    tokens, shares, caps, length = by_chance(chance)
    inputs = flat(tokens, shares, caps, row_length=length)
    whole = Rows(inputs)
    count = min(300, whole.schedule.rows)
    expected = whole.places(0, count)
    for hosts in (1, 2, 4, 8):
        owner = [chance.randrange(hosts) for _ in range(count)]
        start = chance.randint(0, count)
        for host in range(hosts):
            chosen = np.array([row - start for row in range(start, count) if owner[row] == host], np.int64)
            found = Rows(inputs).places(start, count, chosen)
            assert found == [expected[start + row] for row in chosen.tolist()]


@pytest.mark.parametrize("windows", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize("renderings", [1, 2, 3])
def test_an_epoch_is_every_window_once_and_leaves_out_less_than_a_row(
    flat: Flat, windows: int, renderings: int
) -> None:
    """At a cap every token was read as often as it may be, but for less than a row an epoch."""
    length, cap = 16, 3
    rest = [5, 0, 15]
    tokens = [numbered(windows * length + rest[n], 100 + 30_000 * n) for n in range(renderings)]
    inputs = flat({"a": tokens}, caps=[cap], row_length=length, part=1000)
    made = Rows(inputs)
    assert made.schedule.rows == cap * windows
    rows = each(made.read(made.places(0, cap * windows)))
    for epoch in range(cap):
        laid = tokens[epoch % renderings]
        read = Counter(
            token for row in rows[epoch * windows : (epoch + 1) * windows] for token in row.features["tokens"].tolist()
        )
        assert set(read.values()) == {1}
        assert read.keys() <= set(laid.tolist())
        assert len(laid) - len(read) == rest[epoch % renderings] < length
    # Each target is the token after, around the end.
    for row in rows[:50]:
        at = int(row.features["tokens"][-1])
        first = 100 + 30_000 * ((at - 100) // 30_000)
        size = len(tokens[(at - 100) // 30_000])
        assert row.features["targets"][-1] == first + (at - first + 1) % size
    with pytest.raises(UserError, match=rf"there are {cap * windows:,} rows to train on and no more: a 3 times is as"):
        made.places(0, cap * windows + 1)


def test_windows_lie_elsewhere_in_every_epoch(flat: Flat) -> None:
    """What one epoch leaves out the others read."""
    tokens = numbered(10 * 16 + 15)
    inputs = flat({"a": [tokens]}, row_length=16)
    starts = [place.start for place in Rows(inputs).places(0, 200)]
    edges = {start % 16 for start in starts}
    assert len(edges) > 10
    seen = {token for row in read(inputs, 0, 200) for token in row.features["tokens"].tolist()}
    assert seen == set(tokens.tolist())
    others = [
        [place.start for place in Rows(flat({"a": [tokens]}, row_length=16, seed=seed)).places(0, 200)]
        for seed in (1, 2)
    ]
    assert others[0] != others[1]


def test_the_places_never_change(flat: Flat) -> None:
    """A run goes on with another version of the program."""
    inputs = flat({"a": [numbered(100), numbered(120)], "b": [numbered(60)]}, [2.0, 1.0], row_length=16, seed=3)
    assert [tuple(place) for place in Rows(inputs).places(7, 12)] == [
        (1, 0, 1, 0, 38),
        (0, 0, 2, 0, 2),
        (0, 1, 1, 1, 47),
        (1, 1, 1, 0, 16),
        (0, 1, 5, 1, 111),
    ]


def test_a_source_alone_and_fewer_epochs(flat: Flat) -> None:
    tokens = {"a": [numbered(100)], "b": [numbered(200, 5000)]}
    inputs = flat(tokens, [1.0, 3.0], [0, 4], row_length=16)
    alone = Rows(inputs, "b")
    assert [source.share.name for source in alone.sources] == ["b"]
    assert alone.schedule.rows == 4 * 12
    of_mixture = [place for place in Rows(inputs).places(0, 40) if place.source == 1]
    assert [place[1:] for place in alone.places(0, len(of_mixture))] == [place[1:] for place in of_mixture]
    for most, rows in ((1, 6 + 12), (3, 3 * (6 + 12)), (9, 9 * 6 + 4 * 12)):
        assert Rows(inputs, most_epochs=most).schedule.rows == rows
    with pytest.raises(UserError, match="no source 'c'; use one of a, b"):
        Rows(inputs, "c")


def test_what_was_read_is_told_as_it_is(flat: Flat) -> None:
    tokens = {"a": [numbered(100), numbered(120)], "b": [numbered(200)]}
    inputs = flat(tokens, [1.0, 3.0], [0, 1], row_length=16)
    made = Rows(inputs)
    shown = made.statistics(0)
    assert shown["a"] == {"rows": 0, "tokens": 0, "share": 0.0, "epochs": 0.0, "distinct_tokens": 0}
    for count in (*range(1, 80, 3), 300):
        places = made.places(0, count)
        found = made.statistics(count)
        for number, name in enumerate(tokens):
            of = [place for place in places if place.source == number]
            sizes = [len(laid) // 16 for laid in tokens[name]]
            epoch = of[-1].epoch if of else 0
            within = sum(place.epoch == epoch for place in of)
            assert found[name]["rows"] == len(of)
            assert found[name]["tokens"] == 16 * len(of)
            assert found[name]["share"] == pytest.approx(len(of) / count, abs=1e-6)
            assert found[name]["epochs"] == pytest.approx(epoch + within / sizes[epoch % len(sizes)], abs=1e-6)
            assert found[name]["distinct_tokens"] == 16 * min(len(of), sizes[0])


def test_tokens_that_are_too_few_for_a_row(flat: Flat) -> None:
    tokens = {"a": [numbered(16)], "b": [numbered(40), numbered(15)]}
    assert Rows(flat(tokens, row_length=15)).schedule.rows == ENDLESS
    with pytest.raises(UserError, match=r"source b has 15 tokens, fewer than a row of 16; .*model\.context_length"):
        Rows(flat(tokens, row_length=16))
    # A row as long as the source is all of it.
    (row,) = read(flat({"a": [numbered(16)]}, row_length=16), 0, 1)
    assert sorted(row.features["tokens"].tolist()) == numbered(16).tolist()
    assert row.features["targets"][-1] == row.features["tokens"][0]


def overlap(grams: list[np.ndarray], distance: int) -> float:
    """How many of a row's 8-grams stand in the row so much later too, on average."""
    return float(
        np.mean([len(np.intersect1d(one, other)) for one, other in zip(grams, grams[distance:], strict=False)])
    )


def test_rows_are_no_more_alike_than_those_of_a_whole_shuffle(flat: Flat) -> None:
    """At any distance over three epochs; documents of about ten windows repeat phrases of their own."""
    chance = np.random.default_rng(0)
    length, windows = 32, 150
    phrases = chance.integers(100, 60_000, (windows // 10, 6, 10))
    documents = [phrases[document, chance.integers(0, 6, length)].reshape(-1) for document in range(len(phrases))]
    tokens = np.concatenate(documents).astype(np.int32)[: windows * length + 7]
    made = Rows(flat({"a": [tokens]}, row_length=length))

    def grams(row: np.ndarray) -> np.ndarray:
        factors = np.array([1_000_003**power % (2**61) for power in range(8)], np.uint64)
        return np.unique(np.lib.stride_tricks.sliding_window_view(row.astype(np.uint64), 8) @ factors)

    made_windows = len(tokens) // length
    found = [grams(row.features["tokens"]) for row in each(made.read(made.places(0, 3 * made_windows)))]
    by_epoch = [np.arange(epoch * made_windows, (epoch + 1) * made_windows) for epoch in range(3)]
    distances = [1, 2, 3, 5, 8, 13, 21, 50, 100, made_windows - 1, made_windows, made_windows + 1, 2 * made_windows]
    shuffled = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        order = np.concatenate([generator.permutation(epoch) for epoch in by_epoch])
        shuffled.append([overlap([found[row] for row in order], distance) for distance in distances])
    own = np.array([overlap(found, distance) for distance in distances])
    mean, deviation = np.mean(shuffled, axis=0), np.std(shuffled, axis=0, ddof=1)
    assert (own <= mean + 4 * deviation).all(), (own, mean, deviation)
    assert abs(own.mean() - mean.mean()) < 3 * np.std(np.mean(shuffled, axis=1))
    # The measure sees what is alike: in the order in which they lie rows have much in common.
    lying = sorted(range(made_windows), key=lambda row: made.places(row, row + 1)[0].start)
    assert overlap([found[row] for row in lying], 1) > mean[0] + 20 * deviation[0]


@pytest.mark.parametrize("whole_middles", [False, True])
@pytest.mark.parametrize("renderings", [1, 2])
def test_infilling_of_a_window_is_drawn_anew_in_every_epoch(lay: Lay, renderings: int, whole_middles: bool) -> None:
    """As `transform_window` does it with the numbers of (seed, source, epoch, window)."""
    fim = FimConfig(whole_middles=whole_middles)
    inputs = dataclasses.replace(lay(renderings=renderings), fim=fim)
    plain = Rows(dataclasses.replace(inputs, fim=FimConfig(level="off")))
    made = Rows(inputs)
    count = plain.sources[0].first_row(2 * renderings)
    places = made.places(0, count)
    assert places == plain.places(0, count)
    changed: Counter[bool] = Counter()
    lost = 0
    drawn: dict[int, list[list[float]]] = {}
    for place, infilled, window in zip(places, each(made.read(places)), each(plain.read(places)), strict=True):
        whole = windows_of(window)
        generator = keyed_generator("window", inputs.seed, "source_code", place.epoch, place.window)
        drawn.setdefault(place.window, []).append(generator.random(3).tolist())
        generator = keyed_generator("window", inputs.seed, "source_code", place.epoch, place.window)
        ids, replaced, given_up = transform_window(whole, inputs.tokenizer, inputs.fim, generator)
        expected = pack_row(ids, 64, cross_document_attention=False)
        for name in FEATURES:
            np.testing.assert_array_equal(infilled.features[name], expected[name])
        grown = len(ids) - len(whole)
        assert infilled.counts[:4] == (given_up + max(grown, 0), max(-grown, 0), replaced, 0)
        changed[len(ids) != len(whole)] += 1
        lost += given_up
    assert min(changed.values()) > 20
    assert (lost > 100) == whole_middles
    assert all(len({tuple(numbers) for numbers in of}) == len(of) > 1 for of in drawn.values())


def test_whole_middles_end_with_a_target_that_counts(lay: Lay) -> None:
    """And rows are as long as without; before, most middles in rows this short went on to the row's end."""
    ends: Counter[tuple[bool, bool]] = Counter()
    for whole_middles in (False, True):
        fim = FimConfig(rate=1.0, file_rate=1.0, whole_middles=whole_middles)
        for row in read(dataclasses.replace(lay(), fim=fim), 0, 200):
            targets, weights = row.features["targets"], row.features["weights"]
            assert targets.shape == (64,)
            stops = np.isin(targets, [Special.END_OF_TEXT, Special.FILE_SEP]) & (weights == 1)
            for start in np.flatnonzero(targets == Special.FIM_MIDDLE):
                ends[whole_middles, bool(stops[start + 1 :].any())] += 1
    assert ends[True, True] > 150
    assert ends[True, False] == 0
    assert ends[False, False] > 50


@pytest.mark.parametrize("level", ["document", "off"])
def test_without_infilling_of_windows_there_is_none(lay: Lay, level: str) -> None:
    inputs = lay(fim=FimConfig(level=level, rate=1.0, file_rate=1.0))
    for row in read(inputs, 0, 60):
        assert row.counts[:4] == (0, 0, 0, 0)
        assert (Special.FIM_PAD not in row.features["tokens"]) and (row.features["segment_ids"] > 0).all()
    tokens = np.concatenate([row.features["tokens"] for row in read(inputs, 0, 60)])
    assert (Special.FIM_PREFIX in tokens) == (level == "document")


def test_documents_of_other_sources_are_not_infilled(flat: Flat, lay: Lay) -> None:
    always = FimConfig(rate=1.0, file_rate=1.0)
    inputs = flat({"text": [numbered(300, 50)]}, vocab_size=400, fim=always)
    assert all(Special.FIM_PREFIX not in row.features["tokens"] for row in read(inputs, 0, 20))
    either = dataclasses.replace(always, source_code_only=False)
    assert any(
        Special.FIM_PREFIX in row.features["tokens"] for row in read(dataclasses.replace(inputs, fim=either), 0, 20)
    )
    assert any(Special.FIM_PREFIX in row.features["tokens"] for row in read(lay(fim=always), 0, 20))


def test_rows_that_become_shorter_or_longer_are_padded_or_cut_and_it_is_counted(lay: Lay, flat: Flat) -> None:
    """Letter by letter, words take more tokens than when they are encoded anew."""
    always = FimConfig(rate=1.0, file_rate=1.0, source_code_only=False)
    tokenizer = lay().tokenizer
    letters = [
        token for letter in "def return self import yield value " * 30 for token in tokenizer.encode_text(letter)
    ]
    options: dict[str, Any] = {"vocab_size": 400, "fim": always, "row_length": 32}
    rows = read(flat({"a": [np.array(letters, np.int32)]}, **options), 0, 20)
    lost = dict(zip(COUNTS, np.sum([row.counts for row in rows], axis=0).tolist(), strict=True))
    padding = sum(int((row.features["targets"] == Special.FIM_PAD).sum()) for row in rows)
    assert lost.pop("text_bytes") > 0
    assert lost == {"cut_tokens": 0, "padding": padding, "replaced_characters": 0, "damaged_rows": 0}
    assert padding > 20
    for row in rows:
        assert (row.features["weights"][row.features["targets"] == Special.FIM_PAD] == 0).all()
    words = tokenizer.encode_text("a b c d e f g h " * 100)
    lost = np.sum([row.counts for row in read(flat({"a": [np.array(words, np.int32)]}, **options), 0, 10)], axis=0)
    # Three sentinels a row, and what the cuts add.
    assert lost[0] >= 30
    assert lost[1] == 0


@pytest.mark.parametrize("length", [31, 32, 33, 34])
def test_characters_that_the_edges_of_windows_cut_apart_are_counted(lay: Lay, flat: Flat, length: int) -> None:
    """The snake has four bytes, each a token of its own, so that most edges cut one apart."""
    tokenizer = lay().tokenizer
    snakes = tokenizer.encode_text("\ufffd" + "\U0001f40d" * 200)
    always = FimConfig(rate=1.0, file_rate=1.0, source_code_only=False)
    inputs = flat({"a": [np.array(snakes, np.int32)]}, vocab_size=400, fim=always, row_length=length)
    rows, written = read(inputs, 0, 20), 0
    for row in rows:
        text = tokenizer.bytes_of(windows_of(row).tolist()).decode(errors="replace")
        written += text.count("\ufffd")
    # Tails are cut off after the counting: the greater part is still to be seen.
    replaced = sum(row.counts[2] for row in rows)
    assert written / 2 < replaced <= 20 * 6


def spoil(folder: str, part: int, at: int) -> None:
    """Flips a bit of the token at a place of a part."""
    shard = sorted(Path(folder).glob("a/rendering-00000/part-*/c/0"))[part]
    content = bytearray(shard.read_bytes())
    content[at] ^= 1
    shard.write_bytes(content)
    flat_tokens._context.cache_clear()  # blocks that were read are remembered


def test_rows_whose_tokens_are_damaged_stop_the_run_or_are_empty_and_counted(
    flat: Flat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All others stay what they are, also those that lie in other blocks of the same part."""
    monkeypatch.setattr(flat_tokens, "BLOCK", 64)
    inputs = flat({"a": [numbered(1000)], "b": [numbered(500, 3000)]}, row_length=16, part=300)
    expected = read(inputs, 0, 200)
    spoil(inputs.tokens, 1, 10)  # of the block 300 to 364
    with pytest.raises(UserError, match=r"part-00001-.* the file is damaged .*feed\.damaged=skip"):
        read(inputs, 0, 200)
    skipping = dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip"))
    damaged = 0
    for row, before in zip(read(skipping, 0, 200), expected, strict=True):
        hit = np.isin(windows_of(before), np.arange(400, 464)).any()
        if hit:
            damaged += 1
            assert row.counts == (0, 0, 0, 1, 0)
            assert not row.features["weights"].any()
            assert not row.features["segment_ids"].any()
            assert (row.features["tokens"] == Special.FIM_PAD).all()
        else:
            assert row.counts[:4] == (0, 0, 0, 0)
            for name in FEATURES:
                np.testing.assert_array_equal(row.features[name], before.features[name])
    assert damaged > 5
    assert caplog.text.count("skipped: ") == 1  # of each source; the metrics count them


def test_a_part_that_is_missing_is_found_before_the_first_row_or_leaves_its_rows_empty(flat: Flat) -> None:
    inputs = flat({"a": [numbered(1000)]}, row_length=16, part=300)
    sorted(Path(inputs.tokens).glob("a/rendering-00000/part-*/c/0"))[2].unlink()
    with pytest.raises(UserError, match=r"part-00002-.* the file is damaged or missing \(no file"):
        Rows(inputs)
    skipping = dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip"))
    rows = read(skipping, 0, 62)
    assert 18 <= sum(row.counts[3] for row in rows) <= 21


def test_a_read_that_fails_is_no_damage_that_may_be_skipped(flat: Flat, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = flat({"a": [numbered(1000)]}, row_length=16)
    skipping = dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip"))
    made = Rows(skipping)
    places = made.places(0, 1)

    def fail(_: Any) -> None:
        raise UserError("cannot be read")

    monkeypatch.setattr(flat_tokens.Window, "result", fail)
    with pytest.raises(UserError, match="cannot be read"):
        made.read(places)
