import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from feed_corpora import Repositories, make_repositories, split_units
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.feed.draws import keyed_generator
from sc2jax.feed.streams import Source, Stream, split_parts
from sc2jax.feed.units import Repository
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer


class InMemory:
    """Units that count how often they were read."""

    def __init__(self, repositories: Repositories, size: int) -> None:
        self.reads = 0
        self._units = [
            [
                Repository(repository=name, paths=[path for path, _ in files], contents=[text for _, text in files])
                for name, files in unit.items()
            ]
            for unit in split_units(repositories, size)
        ]

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, index: int) -> list[Repository]:
        self.reads += 1
        return self._units[index]


class Plain:
    """Documents in the order of their files, with their epoch written into the name."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def document(self, example: Repository, *key: int) -> list[Piece]:
        files = list(zip(example["paths"], example["contents"], strict=True))
        return repository_document(f"{example['repository']} epoch {key[1]}", files, True)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_path: str) -> Tokenizer:
    return load_tokenizer(tokenizer_path)


def source(tokenizer: Tokenizer, units: InMemory, name: str = "s", share: float = 1.0) -> Source:
    return Source(name, share, units, Plain(tokenizer))  # pyright: ignore[reportArgumentType]


def documents(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The finished documents of a stream's tokens."""
    return tokenizer.decode(tokens).split(Special.END_OF_TEXT.literal)[:-1]


@pytest.mark.parametrize(("streams", "row_length"), [(1, 64), (3, 17), (11, 100)])
def test_an_epoch_loses_and_repeats_nothing(
    tokenizer: Tokenizer, repositories: Repositories, streams: int, row_length: int
) -> None:
    """Also with more streams than units: together they read every document once per epoch."""
    epochs = 3
    counted: Counter[str] = Counter()
    units = InMemory(repositories, 3)
    for index in range(streams):
        stream = Stream([source(tokenizer, units)], index, streams, 5, row_length)
        tokens: list[int] = []
        # Until the stream has finished its units of the first epochs and gone past their last window.
        while (index + stream.position()[2] * streams) // len(units) < epochs:
            tokens.extend(stream.next_window()[:-1].tolist())
        counted.update(documents(tokenizer, tokens))
    expected = [
        tokenizer.decode(tokenizer.encode(repository_document(f"{name} epoch {epoch}", files, True)[:-1]))
        for epoch in range(epochs)
        for name, files in repositories.items()
    ]
    early = {name: count for name, count in counted.items() if int(name.split(" epoch ")[1].split("<")[0]) < epochs}
    assert early == dict.fromkeys(expected, 1)


def test_windows_follow_one_another(tokenizer: Tokenizer, repositories: Repositories) -> None:
    stream = Stream([source(tokenizer, InMemory(repositories, 3))], 0, 1, 0, 32)
    windows = [stream.next_window() for _ in range(50)]
    assert all(window.shape == (33,) and window.dtype == np.int32 for window in windows)
    assert all(before[-1] == after[0] for before, after in itertools.pairwise(windows))


def test_every_epoch_has_another_order(tokenizer: Tokenizer, repositories: Repositories) -> None:
    stream = Stream([source(tokenizer, InMemory(repositories, 3))], 0, 1, 0, 256)
    tokens: list[int] = []
    while stream.position()[2] < 24:
        tokens.extend(stream.next_window()[:-1].tolist())
    names = [
        text.split("<repo_name>")[1].split("<file_sep>")[0].split(" epoch ") for text in documents(tokenizer, tokens)
    ]
    orders = [[name for name, epoch in names if epoch == str(number)] for number in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != sorted(orders[0])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


@pytest.mark.parametrize("at", [0, 1, 7, 40, 111])
def test_a_position_is_enough_to_go_on(tokenizer: Tokenizer, repositories: Repositories, at: int) -> None:
    def create(units: InMemory, others: InMemory) -> Stream:
        sources = [source(tokenizer, units, "a", 0.7), source(tokenizer, others, "b", 0.3)]
        return Stream(sources, 1, 2, 3, 19)

    others = make_repositories(7, seed=2)
    stream = create(InMemory(repositories, 3), InMemory(others, 2))
    for _ in range(at):
        stream.next_window()
    position = stream.position()
    expected = [stream.next_window() for _ in range(60)]
    units, other_units = InMemory(repositories, 3), InMemory(others, 2)
    again = create(units, other_units)
    again.seek(position)
    assert units.reads == other_units.reads == 0
    assert again.position() == position
    np.testing.assert_array_equal(again.next_window(), expected[0])
    # Reading on may cross into the next unit of a source; going back itself reads one.
    assert max(units.reads, other_units.reads) <= 2
    for window in expected[1:]:
        np.testing.assert_array_equal(again.next_window(), window)
    assert again.position() == stream.position()


def test_shares_are_shares_of_tokens(tokenizer: Tokenizer) -> None:
    """Documents of one source are twenty times longer than the other's."""
    short = source(tokenizer, InMemory(make_repositories(20, seed=1, longest=8), 4), "short", 3.0)
    long = source(tokenizer, InMemory(make_repositories(20, seed=2, longest=400), 4), "long", 1.0)
    stream = Stream([short, long], 0, 1, 0, 512)
    for _ in range(300):
        stream.next_window()
    _, _, *fields = stream.position()
    taken = fields[4], fields[9]
    assert sum(taken) == 300 * 512
    assert abs(taken[0] / sum(taken) - 0.75) < 0.01


def test_a_place_far_out_is_reached_at_once(tokenizer: Tokenizer, repositories: Repositories) -> None:
    units = InMemory(repositories, 3)
    stream = Stream([source(tokenizer, units)], 0, 4, 0, 64)
    stream.seek([10**9, 0, 10**9, 1, 0, 0, 10**12])
    stream.next_window()
    assert units.reads == 1
    assert stream.position()[0] == 10**9 + 1
    assert stream.position()[6] == 10**12 + 64


@given(files=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9)), max_size=4), metadata=st.booleans())
def test_parts_are_the_document(files: list[tuple[str, str]], metadata: bool) -> None:
    document = repository_document("r", files, metadata)
    parts = split_parts(document)
    assert [piece for part in parts for piece in part] == document
    assert all(parts)
    assert all(Special.FILE_SEP not in part[1:] for part in parts)


def test_draws_depend_on_their_key_alone() -> None:
    def draw(*key: int | str) -> float:
        return keyed_generator("purpose", *key).random()

    assert draw(1, "a") == draw(1, "a")
    keys = [(1, "a"), (1, "b"), (2, "a"), ("1", "a"), (1, 11), (11, 1)]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert keyed_generator("other", 1, "a").random() != draw(1, "a")
    # The value itself must never change: a run goes on with another version of the program.
    assert draw(1, "a") == pytest.approx(0.7689764834684432, abs=0)
