"""What resembles a file of the other side, on partitions, against all pairs."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from signed_tables import InMemory, in_memory, kept_of

from sc2jax.corpus.config import CROSS_ROWS, share_found
from sc2jax.corpus.dedup import across as across_module
from sc2jax.corpus.dedup import meeting
from sc2jax.corpus.dedup.across import MOST_PAIRS, UNVERIFIED, across
from sc2jax.corpus.dedup.signatures import signatures


def found(
    losing: InMemory,
    staying: InMemory,
    folder: Path,
    threshold: float = 0.5,
    partition_bytes: int = 1 << 26,
    most_pairs: int = MOST_PAIRS,
) -> dict[int, int]:
    with across(str(folder), losing, staying, threshold, partition_bytes, most_pairs) as buckets:
        kept = kept_of(buckets, losing, folder)
    assert list(folder.iterdir()) == []
    return kept


def by_all_pairs(losing: InMemory, staying: InMemory, threshold: float, most_pairs: int = MOST_PAIRS) -> dict[int, int]:
    """Loser -> what it resembles most of what it shares a band with that is not common; else whether too many are."""
    bands = losing.permutations // CROSS_ROWS

    def keys(files: InMemory) -> dict[int, list[tuple[int, bytes]]]:
        rows = np.flatnonzero(files.signed).tolist()
        bands_of = [range(band * CROSS_ROWS, band * CROSS_ROWS + CROSS_ROWS) for band in range(bands)]
        return {row: [(band[0], files.signatures[row, list(band)].tobytes()) for band in bands_of] for row in rows}

    ours, theirs = keys(losing), keys(staying)
    times = [Counter(key for row in side.values() for key in row) for side in (ours, theirs)]
    common = {key for key in times[0] if times[0][key] * times[1][key] > most_pairs}
    kept = {}
    for row, mine in ours.items():
        looked_at = set(mine) - common
        alike = [
            (-(losing.signatures[row] == staying.signatures[other]).mean(), other)
            for other, others in theirs.items()
            if looked_at & set(others)
        ]
        alike = [pair for pair in alike if -pair[0] >= threshold]
        if alike:
            kept[row] = min(alike)[1]
        elif len(set(mine) & common) > 0.2 * bands:
            kept[row] = UNVERIFIED
    return kept


def families(seed: int, size: int, split: int, permutations: int = 23) -> tuple[InMemory, InMemory]:
    """Files of some families, more or less alike, on two sides; the last numbers of a signature are in no band."""
    draw = np.random.default_rng(seed)
    bases = draw.integers(0, 2**32, (max(1, size // 12), permutations))
    rows = bases[draw.integers(0, len(bases), size)]
    changed = draw.random(rows.shape) < draw.choice([0, 0.05, 0.2, 0.4], (size, 1))
    rows = np.where(changed, draw.integers(0, 2**32, rows.shape), rows)
    languages, signed = draw.integers(0, 3, size), draw.random(size) < 0.95
    sides = [
        in_memory(rows[part], draw.permutation(size)[part], languages[part], 11, signed[part])
        for part in (slice(0, split), slice(split, size))
    ]
    return sides[0], sides[1]


@pytest.mark.parametrize("partition_bytes", [2000, 30_000, 1 << 26])
@pytest.mark.parametrize("split", [40, 160])
@pytest.mark.parametrize("most_pairs", [5, MOST_PAIRS])
def test_what_is_found_is_what_all_pairs_give(
    tmp_path: Path, partition_bytes: int, split: int, most_pairs: int
) -> None:
    """Whichever side is larger, and whether or not some keys are common."""
    losing, staying = families(split, 200, split)
    expected = by_all_pairs(losing, staying, 0.5, most_pairs)
    assert 5 < len(expected) < split
    assert (UNVERIFIED in expected.values()) == (most_pairs == 5)
    assert found(losing, staying, tmp_path, 0.5, partition_bytes, most_pairs) == expected


def test_the_smallest_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_PAIRS", 3)
    monkeypatch.setattr(meeting, "_PARTITIONS_SENT", 1)
    monkeypatch.setattr(across_module, "_BITS_PER_KEY", 1)
    losing, staying = families(1, 150, 50)
    assert found(losing, staying, tmp_path, 0.5, 3000) == by_all_pairs(losing, staying, 0.5)


def test_a_key_of_all_files_is_worked_on_in_pieces(tmp_path: Path) -> None:
    """It is common; what is alike shares another, and is found by that."""
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 2**32, (400, 40))
    rows[:, :5] = 7
    rows[:20] = np.where(draw.random((20, 40)) < 0.2, rows[:20], rows[100:120])
    losing, staying = in_memory(rows[:60]), in_memory(rows[60:])
    kept = found(losing, staying, tmp_path, 0.5, 2500, 1000)
    assert kept == by_all_pairs(losing, staying, 0.5, 1000)
    assert len(kept) > 15
    assert UNVERIFIED not in kept.values()


@pytest.mark.parametrize("common", [2, 3])
@pytest.mark.parametrize("first", [True, False])
def test_more_than_a_fifth_of_its_keys_common_and_a_file_falls_unverified(
    tmp_path: Path, common: int, first: bool
) -> None:
    """Of whichever side is said to lose, be it the larger or the smaller."""
    rows = np.random.default_rng(0).integers(0, 2**32, (30, 50))
    rows[:, : 5 * common] = 1
    rows[29] = np.arange(50)
    sides = in_memory(rows[:10]), in_memory(rows[10:])
    losing, staying = sides if first else sides[::-1]
    everything = dict.fromkeys(range(10 if first else 19), UNVERIFIED)
    assert found(losing, staying, tmp_path, most_pairs=189) == (everything if common == 3 else {})
    assert found(losing, staying, tmp_path, most_pairs=190) == {}


def test_what_is_verified_is_named_though_most_is_common(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, (30, 50))
    rows[:, :40] = 1
    rows[10] = rows[0]
    kept = found(in_memory(rows[:10]), in_memory(rows[10:]), tmp_path, most_pairs=100)
    assert kept == {0: 0, **dict.fromkeys(range(1, 10), UNVERIFIED)}


def test_a_similarity_at_the_threshold_counts(tmp_path: Path) -> None:
    left = np.arange(10)[None]
    right = left.copy()
    right[0, 5:] += 100
    assert found(in_memory(left), in_memory(right), tmp_path, 0.5) == {0: 0}
    assert found(in_memory(left), in_memory(right), tmp_path, 0.51) == {}


def test_the_most_similar_counts_and_of_equals_the_lowest(tmp_path: Path) -> None:
    row = np.arange(20)
    near, far = row.copy(), row.copy()
    near[-1], far[-3:] = 99, 99
    staying = in_memory(np.array([far, near, row + 50, near, far]), orders=np.arange(5)[::-1], unit=1)
    assert found(in_memory(row[None]), staying, tmp_path) == {0: 1}
    assert found(staying, in_memory(row[None]), tmp_path) == {0: 0, 1: 0, 3: 0, 4: 0}


def test_languages_do_not_matter_and_what_is_not_signed_is_nobodys_duplicate(tmp_path: Path) -> None:
    rows = np.tile(np.arange(10), (4, 1))
    losing = in_memory(rows, languages=np.arange(4), signed=np.arange(4) != 2)
    staying = in_memory(rows, languages=np.full(4, 9), signed=np.arange(4) > 0)
    assert found(losing, staying, tmp_path) == {0: 1, 1: 1, 3: 1}


def test_nothing_resembles_where_one_side_is_empty(tmp_path: Path) -> None:
    none, one = in_memory(np.zeros((0, 10))), in_memory(np.ones((3, 10)))
    unsigned = in_memory(np.ones((3, 10)), signed=np.zeros(3, bool))
    for losing, staying in ((none, one), (one, none), (one, unsigned), (unsigned, one), (none, none)):
        assert found(losing, staying, tmp_path) == {}


def test_pairs_that_bands_of_ten_may_miss_are_found(
    tmp_path: Path, program: Callable[..., str], edited: Callable[..., str]
) -> None:
    """Pairs around the threshold, of which wide bands miss half."""
    training = [program(seed) for seed in range(80)]
    heldout = [edited(text, seed, 8) for seed, text in enumerate(training)]
    (_, left), (_, right) = (signatures(texts, 5, 250, 0) for texts in (heldout, training))
    similar = np.flatnonzero((left == right).mean(axis=1) >= 0.55).tolist()
    assert len(similar) > 60
    assert found(in_memory(left), in_memory(right), tmp_path, 0.55) == {row: row for row in similar}


def test_the_share_of_pairs_that_are_missed_is_as_it_is_said(tmp_path: Path) -> None:
    """At 0.61, with all 50 bands, and with a fifth of them common: the numbers of the module's docstring."""
    assert round(1 / (1 - share_found(0.61, 250))) == 82
    assert round(1e4 * (1 - share_found(0.7, 250))) == 1
    assert round(1e4 * (1 - share_found(0.7, 200))) == 6
    assert round(1e3 * (1 - share_found(0.61, 200))) == 29
    draw = np.random.default_rng(0)
    left = draw.integers(0, 2**32, (3000, 250))
    right = np.where(draw.random(left.shape) < 0.61, left, draw.integers(0, 2**32, left.shape))
    kept = found(in_memory(left, unit=500), in_memory(right, unit=500), tmp_path, 0.3)
    assert all(file == other for file, other in kept.items())
    assert abs(len(kept) / 3000 - share_found(0.61, 250)) < 0.01
