import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st
from signed_tables import in_memory

from sc2jax.corpus.dedup.bands import band_hashes, optimal_bands
from sc2jax.corpus.dedup.components import transitive
from sc2jax.corpus.dedup.signatures import ngram_hashes, signatures


def ngrams(text: str, size: int = 5) -> set[tuple[str, ...]]:
    """The n-grams as the paper's code makes them."""
    tokens = re.split(r"\W", text.lower())
    return set(zip(*(tokens[place:] for place in range(size)), strict=False))


def jaccard(left: str, right: str) -> float:
    return len(ngrams(left) & ngrams(right)) / len(ngrams(left) | ngrams(right))


@pytest.fixture
def groups_of(tmp_path: Path) -> Callable[..., list[int]]:
    """For each text the one that is kept in its place by the paper's rule."""

    def find(texts: list[str], ranks: list[int] | None = None) -> list[int]:
        rows, signed = signatures(texts, 5, 250, 0)
        orders = np.asarray(ranks or [0] * len(texts))[rows] * 1000 + np.arange(len(rows))
        kept = np.arange(len(texts))
        with transitive(str(tmp_path), in_memory(signed, orders), 0.7) as found:
            for bucket in range(len(found)):
                table = found.read(bucket)
                kept[rows[table["id"].to_numpy()]] = rows[table["kept"].to_numpy()]
        return kept.tolist()

    return find


@pytest.mark.parametrize("permutations", [250, 256])
def test_bands_of_the_paper(permutations: int) -> None:
    assert optimal_bands(0.7, permutations) == (25, 10)


def test_bands_are_optimal_for_another_threshold() -> None:
    """Against a search with adaptive quadrature."""

    def weight(bands: int, rows: int) -> float:
        missed = scipy.integrate.quad(lambda s: (1 - s**rows) ** bands, 0.5, 1)[0]
        return missed + scipy.integrate.quad(lambda s: 1 - (1 - s**rows) ** bands, 0, 0.5)[0]

    shapes = [(bands, rows) for bands in range(1, 33) for rows in range(1, 32 // bands + 1)]
    assert optimal_bands(0.5, 32) == min(shapes, key=lambda shape: weight(*shape))


@pytest.mark.parametrize(("bands", "rows", "permutations"), [(25, 10, 250), (50, 5, 250), (4, 5, 23), (3, 4, 13)])
def test_keys_of_bands_are_equal_where_the_rows_of_the_same_band_and_the_language_are(
    bands: int, rows: int, permutations: int
) -> None:
    draw = np.random.default_rng(0)
    signed = draw.integers(0, 2, (1500, permutations)).astype(np.uint32) * np.uint32(2**31)
    signed[1000:] = signed[:500]
    languages = draw.integers(0, 2, 1500).astype(np.uint64)
    keys = band_hashes(signed, bands, rows, languages)
    assert keys.shape == (bands, 1500)
    meant = [
        (band, language, signed[file, band * rows : band * rows + rows].tobytes())
        for band in range(bands)
        for file, language in enumerate(languages.tolist())
    ]
    assert len({*zip(meant, keys.reshape(-1).tolist(), strict=True)}) == len(set(meant)) == len(np.unique(keys))
    alone = band_hashes(signed[700:703], bands, rows, languages[700:703])
    np.testing.assert_array_equal(alone, keys[:, 700:703])
    assert len(np.unique(band_hashes(signed, bands, rows))) == len({(band, rows) for band, _, rows in meant})


TEXT = st.text(alphabet="aAbB_1 \n.é€😀ßİ", max_size=40)


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(1, 5))
def test_hashes_stand_for_the_ngrams(texts: list[str], size: int) -> None:
    """Equal n-grams have equal hashes wherever they stand, different ones different hashes."""
    hashes, offsets = ngram_hashes(texts, size)
    seen: dict[tuple[str, ...], int] = {}
    for row, text in enumerate(texts):
        tokens = re.split(r"\W", text.lower())
        expected = list(zip(*(tokens[place:] for place in range(size)), strict=False))
        found = hashes[offsets[row] : offsets[row + 1]].tolist()
        assert len(found) == len(expected)
        for gram, value in zip(expected, found, strict=True):
            assert seen.setdefault(gram, value) == value
    assert len(set(seen.values())) == len(seen)


def test_hashes_do_not_depend_on_the_batch(program: Callable[..., str]) -> None:
    texts = [program(seed, 20) for seed in range(6)]
    together, offsets = ngram_hashes(texts, 5)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(ngram_hashes([text], 5)[0], together[offsets[row] : offsets[row + 1]])


def test_estimates_are_near_the_exact_similarity(program: Callable[..., str], edited: Callable[..., str]) -> None:
    pairs = [(program(seed), edited(program(seed), seed, seed % 40)) for seed in range(60)]
    exact = np.array([jaccard(*pair) for pair in pairs])
    left, right = (signatures(list(side), 5, 250, 7)[1] for side in zip(*pairs, strict=True))
    error = (left == right).mean(axis=1) - exact
    deviation = np.sqrt(exact * (1 - exact) / 250)
    assert exact.min() < 0.3 < 0.9 < exact.max()
    assert (np.abs(error) <= 4 * deviation + 1e-9).all()
    assert abs(error.mean()) < 0.01


def test_planted_pairs_are_found_and_no_others(
    program: Callable[..., str], edited: Callable[..., str], groups_of: Callable[..., list[int]]
) -> None:
    originals = [program(seed) for seed in range(100)]
    copies = [edited(text, seed, 2) for seed, text in enumerate(originals)]
    assert min(jaccard(*pair) for pair in zip(originals, copies, strict=True)) > 0.85
    assert groups_of(originals + copies) == list(range(100)) * 2


def test_a_chain_is_one_group_and_the_best_rank_is_kept(
    program: Callable[..., str], edited: Callable[..., str], groups_of: Callable[..., list[int]]
) -> None:
    chain = [program(1)]
    for seed in range(8):
        chain.append(edited(chain[-1], seed, 3))
    assert jaccard(chain[0], chain[-1]) < 0.5
    assert groups_of(chain) == [0] * 9
    assert groups_of(chain, ranks=[1, 1, 1, 0, 1, 0, 1, 1, 1]) == [3] * 9


def test_groups_do_not_depend_on_the_order(
    program: Callable[..., str], edited: Callable[..., str], groups_of: Callable[..., list[int]]
) -> None:
    texts = [edited(program(seed % 20), seed, 4) for seed in range(60)]
    order = list(range(60))
    random.Random(3).shuffle(order)
    straight, shuffled = groups_of(texts), groups_of([texts[row] for row in order])
    place = {row: at for at, row in enumerate(order)}
    for one in range(60):
        for other in range(60):
            together = straight[one] == straight[other]
            assert (shuffled[place[one]] == shuffled[place[other]]) == together


def test_texts_without_ngrams_are_nobodys_duplicates(groups_of: Callable[..., list[int]]) -> None:
    texts = ["", "a", "a b c d", "a b c d", "a b c d e", "a b c d e"]
    rows, signed = signatures(texts, 5, 250, 0)
    assert rows.tolist() == [4, 5]
    assert (signed[0] == signed[1]).all()
    assert groups_of(texts) == [0, 1, 2, 3, 4, 4]
    assert signatures(["x"], 5, 250, 0)[1].shape == (0, 250)
    assert signatures([], 5, 250, 0)[1].shape == (0, 250)


def test_the_seed_decides_the_permutations(program: Callable[..., str]) -> None:
    one, again, other = (signatures([program(0)], 5, 250, seed)[1] for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
