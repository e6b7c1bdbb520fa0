import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from feed_corpora import Repositories, make_repositories, split_units
from sc2jax.feed.cache import CachedPart
from sc2jax.feed.streams import POSITION_FIELDS, Position, Source, Stream

from sc2jax.errors import UserError
from sc2jax.feed.documents import TextPart, split_parts
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer


class InMemoryUnit:
    """Documents in the order of their files, with their epoch written into the name."""

    def __init__(self, repositories: Repositories, epoch: int, tokenizer: Tokenizer) -> None:
        self._repositories, self._epoch, self._tokenizer = list(repositories.items()), epoch, tokenizer
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._repositories)

    def parts(self, document: int) -> list[TextPart]:
        name, files = self._repositories[document]
        pieces = repository_document(f"{name} epoch {self._epoch}", files, True)
        return [TextPart(part, self._tokenizer) for part in split_parts(pieces, 40)]


class InMemory:
    """Units that count how often they were read; `damaged` ones cannot be."""

    def __init__(
        self, repositories: Repositories, size: int, tokenizer: Tokenizer, damaged: Sequence[int] = ()
    ) -> None:
        self.reads: list[tuple[int, int]] = []
        self._tokenizer, self._damaged = tokenizer, damaged
        self._units = split_units(repositories, size)

    def __len__(self) -> int:
        return len(self._units)

    def unit(self, epoch: int, index: int) -> InMemoryUnit:
        if index in self._damaged:
            raise UserError(f"unit {index} is damaged")
        self.reads.append((epoch, index))
        return InMemoryUnit(self._units[index], epoch, self._tokenizer)


UNITS = len(Stream.FIELDS) + POSITION_FIELDS.index("units")  # in the position of a stream


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
    units = InMemory(repositories, 3, tokenizer)
    for index in range(streams):
        stream = Stream([Source("s", 1.0, units)], index, streams, 5, row_length)
        tokens: list[int] = []
        # Until the stream has finished its units of the first epochs and gone past their last window.
        while (index + stream.position()[UNITS] * streams) // len(units) < epochs:
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
    stream = Stream([Source("s", 1.0, InMemory(repositories, 3, tokenizer))], 0, 1, 0, 32)
    windows = [stream.next_window() for _ in range(50)]
    assert all(window.shape == (33,) and window.dtype == np.int32 for window in windows)
    assert all(before[-1] == after[0] for before, after in itertools.pairwise(windows))


def test_every_epoch_has_another_order(tokenizer: Tokenizer, repositories: Repositories) -> None:
    stream = Stream([Source("s", 1.0, InMemory(repositories, 3, tokenizer))], 0, 1, 0, 256)
    tokens: list[int] = []
    while stream.position()[UNITS] < 24:
        tokens.extend(stream.next_window()[:-1].tolist())
    names = [
        text.split("<repo_name>")[1].split("<file_sep>")[0].split(" epoch ") for text in documents(tokenizer, tokens)
    ]
    orders = [[name for name, epoch in names if epoch == str(number)] for number in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != sorted(orders[0])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


@pytest.mark.parametrize("at", [0, 1, 7, 40, 111])
@pytest.mark.parametrize("cut", [False, True])
def test_a_position_is_enough_to_go_on(tokenizer: Tokenizer, repositories: Repositories, at: int, cut: bool) -> None:
    others = make_repositories(7, seed=2)

    def create() -> tuple[Stream, list[InMemory]]:
        units = [InMemory(repositories, 3, tokenizer), InMemory(others, 2, tokenizer)]
        sources = [Source("a", 0.7, units[0]), Source("b", 0.3, units[1])]
        return Stream(sources, 1, 2, 3, 19, cut_documents=cut), units

    stream, _ = create()
    for _ in range(at):
        stream.next_window()
    position = stream.position()
    expected = [stream.next_window() for _ in range(60)]
    again, units = create()
    again.seek(position)
    assert not units[0].reads
    assert not units[1].reads
    assert again.position() == position
    np.testing.assert_array_equal(again.next_window(), expected[0])
    # Reading on may cross into the next unit of a source; going back itself reads one.
    assert max(len(of_source.reads) for of_source in units) <= 2
    for window in expected[1:]:
        np.testing.assert_array_equal(again.next_window(), window)
    assert again.position() == stream.position()


def test_a_row_begins_with_a_document_where_long_ones_are_cut(tokenizer: Tokenizer, repositories: Repositories) -> None:
    units = InMemory(repositories, 3, tokenizer)
    stream = Stream([Source("s", 1.0, units)], 0, 1, 5, 64, cut_documents=True)
    windows = [stream.next_window() for _ in range(300)]
    assert all(window[0] == Special.REPO_NAME for window in windows)
    # What goes over the edge into the last target is of the document that was cut there.
    tokens = stream.position()[len(Stream.FIELDS) + POSITION_FIELDS.index("tokens")]
    cut = stream.position()[len(Stream.FIELDS) + POSITION_FIELDS.index("cut")]
    assert tokens == 300 * 64
    ended = sum(window[-2] == Special.END_OF_TEXT for window in windows)
    assert cut == 300 - ended
    # A document is never taken up again: what was begun in a pass is every document once.
    begun = [tokenizer.decode(tokens) for window in windows for tokens in _begun(window[:-1])]
    names = [text.split("<file_sep>")[0] for text in begun if "<file_sep>" in text]
    assert max(Counter(names).values()) == 1


class InParts:
    """One unit of one document, over and over, in these parts."""

    def __init__(self, *parts: Sequence[int]) -> None:
        self._parts = [CachedPart(np.array(part, np.int32)) for part in parts]
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return 1

    def unit(self, epoch: int, index: int) -> "InParts":  # noqa: ARG002
        return self

    def parts(self, document: int) -> list[CachedPart]:  # noqa: ARG002
        return self._parts


def test_a_document_whose_part_ends_with_the_window_is_cut_all_the_same() -> None:
    stream = Stream([Source("s", 1.0, InParts([50] * 8, [60] * 5))], 0, 1, 0, 8, cut_documents=True)
    assert not any(stream.position())
    for windows in (1, 2):
        assert stream.next_window().tolist() == [50] * 8 + [60]
        assert stream.position()[len(Stream.FIELDS) + POSITION_FIELDS.index("cut")] == windows


def _begun(window: np.ndarray) -> list[np.ndarray]:
    return np.split(window, np.flatnonzero(window == Special.REPO_NAME)[1:])


def test_shares_are_shares_of_tokens(tokenizer: Tokenizer) -> None:
    """Documents of one source are twenty times longer than the other's."""
    short = Source("short", 3.0, InMemory(make_repositories(20, seed=1, longest=8), 4, tokenizer))
    long = Source("long", 1.0, InMemory(make_repositories(20, seed=2, longest=400), 4, tokenizer))
    stream = Stream([short, long], 0, 1, 0, 512)
    for _ in range(300):
        stream.next_window()
    taken = taken_tokens(stream, 2)
    assert sum(taken) == 300 * 512
    assert abs(taken[0] / sum(taken) - 0.75) < 0.01


def taken_tokens(stream: Stream, sources: int) -> list[int]:
    fields = np.reshape(stream.position()[len(Stream.FIELDS) :], (sources, len(POSITION_FIELDS)))
    return fields[:, POSITION_FIELDS.index("tokens")].tolist()


def test_many_streams_keep_the_shares_from_the_beginning(tokenizer: Tokenizer) -> None:
    """Each of 200 streams is within its first documents, some of which fill many windows, and no share is off."""
    short = Source("short", 1.0, InMemory(make_repositories(40, seed=1, longest=8), 4, tokenizer))
    long = Source("long", 1.0, InMemory(make_repositories(40, seed=2, longest=800), 4, tokenizer))
    taken = np.zeros(2)
    for index in range(200):
        stream = Stream([short, long], index, 200, 0, 64)
        for _ in range(5):
            stream.next_window()
        taken += taken_tokens(stream, 2)
    assert taken.tolist() == [200 * 5 * 64 / 2] * 2


def test_a_source_is_read_when_it_is_its_turn(tokenizer: Tokenizer, repositories: Repositories) -> None:
    """Hundreds of streams of a dozen sources would otherwise read thousands of row groups before the first step."""
    units = [InMemory(repositories, 3, tokenizer) for _ in range(3)]
    stream = Stream([Source(str(index), 1.0, of_source) for index, of_source in enumerate(units)], 0, 1, 0, 8)
    for opened in (1, 2, 3):
        stream.next_window()
        assert sum(bool(of_source.reads) for of_source in units) == opened


def test_a_source_that_ends_inside_of_a_window_leaves_the_rest_to_another(tokenizer: Tokenizer) -> None:
    few = InMemory({"few": [("a.py", "x = 1")]}, 1, tokenizer)
    more = InMemory(make_repositories(9, seed=4), 3, tokenizer)
    stream = Stream([Source("few", 1e9, few, 1), Source("more", 1.0, more)], 0, 1, 0, 512)
    first, second = (tokenizer.decode(stream.next_window().tolist()) for _ in range(2))
    assert first.startswith("<repo_name>few epoch 0<file_sep>a.py\nx = 1<|endoftext|><")
    assert "few epoch" not in first[20:] + second
    assert sum(taken_tokens(stream, 2)) == 2 * 512


def test_a_source_that_was_read_often_enough_leaves_its_share_to_the_others(tokenizer: Tokenizer) -> None:
    units = [InMemory(make_repositories(count, seed=count, longest=60), 2, tokenizer) for count in (4, 60, 50)]
    names = ("few", "more", "most")
    sources = [
        Source(name, share, of_source, max_epochs)
        for name, share, of_source, max_epochs in zip(names, (2.0, 1.0, 1.0), units, (2, 0, 0), strict=True)
    ]
    stream = Stream(sources, 0, 1, 0, 128)
    for _ in range(150):
        stream.next_window()
    assert sorted(units[0].reads) == [(epoch, index) for epoch in range(2) for index in range(2)]
    few, more, most = taken_tokens(stream, 3)
    assert few < 0.2 * (more + most)
    assert abs(more / (more + most) - 0.5) < 0.02


def test_when_nothing_may_be_read_any_more_a_message_says_so(tokenizer: Tokenizer, repositories: Repositories) -> None:
    stream = Stream([Source("s", 1.0, InMemory(repositories, 3, tokenizer), 2)], 0, 1, 0, 128)
    with pytest.raises(UserError, match=r"nothing left to train on: s 2 times .* raise max_epochs"):
        for _ in range(10_000):
            stream.next_window()


def test_damaged_units_are_passed_over_and_counted(tokenizer: Tokenizer, repositories: Repositories) -> None:
    units = InMemory(repositories, 3, tokenizer, damaged=[1, 2, 5])
    stream = Stream([Source("s", 1.0, units, skip_damaged=True)], 0, 1, 0, 128)
    while stream.position()[UNITS] < 2 * len(units):
        stream.next_window()
    assert {index for _, index in units.reads} == {0, 3, 4, 6, 7}
    assert stream.position()[len(Stream.FIELDS) + POSITION_FIELDS.index("damaged")] in (6, 7, 8)
    with pytest.raises(UserError, match="is damaged"):
        strict = Stream([Source("s", 1.0, units)], 0, 1, 0, 128)
        for _ in range(100):
            strict.next_window()
    hopeless = Stream([Source("s", 1.0, InMemory(repositories, 3, tokenizer, range(8)), skip_damaged=True)], 0, 1, 0, 8)
    with pytest.raises(UserError, match=r"nothing of the source s can be read: unit \d is damaged"):
        hopeless.next_window()


@pytest.mark.parametrize("seed", range(4))
def test_a_source_whose_last_units_are_damaged_ends_all_the_same(
    tokenizer: Tokenizer, repositories: Repositories, seed: int
) -> None:
    units = InMemory(repositories, 3, tokenizer, damaged=range(1, 8))
    stream = Stream([Source("s", 1.0, units, 1, skip_damaged=True)], 0, 1, seed, 16)
    with pytest.raises(UserError, match="nothing left to train on"):
        for _ in range(10_000):
            stream.next_window()
    assert units.reads == [(0, 0)]


class Synthetic:
    """More units than there is memory for, each written from its number."""

    def __init__(self, tokenizer: Tokenizer, units: int) -> None:
        self.reads: list[int] = []
        self._tokenizer, self._units = tokenizer, units

    def __len__(self) -> int:
        return self._units

    def unit(self, epoch: int, index: int) -> InMemoryUnit:
        self.reads.append(index)
        return InMemoryUnit(
            {f"{index}/{name}": [("a.py", "x = 1\n" * 9)] for name in range(50)}, epoch, self._tokenizer
        )


def test_row_a_thousand_million_of_a_vast_corpus_is_reached_by_reading_one_unit(tokenizer: Tokenizer) -> None:
    documents = Synthetic(tokenizer, units=2 * 10**9 + 1)
    stream = Stream([Source("s", 1.0, documents)], stream=3, streams=4, seed=0, row_length=64)
    position = Position(units=10**9, document=7, tokens=64 * 10**9)
    stream.seek([10**9, *vars(position).values()])
    window = stream.next_window()
    assert len(documents.reads) == 1
    assert stream.position()[0] == 10**9 + 1
    # Its place is in the third epoch, and the document at hand is the eighth in that unit's order.
    order = keyed_generator("documents", 0, "s", 2, documents.reads[0]).permutation(50)
    assert tokenizer.decode(window.tolist()).startswith(f"<repo_name>{documents.reads[0]}/{order[7]} epoch 2<file_sep>")
