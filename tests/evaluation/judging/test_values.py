"""Values that go between judge and candidate."""

import collections
import contextlib
import enum
import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.evaluation.judging.values import (
    LARGE_BYTES,
    MOST_BYTES,
    Lookalike,
    NotDataError,
    Remote,
    can_be_sent,
    decode,
    digest,
    encode,
    unwrapped,
)

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=8,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.lists(inner) | st.sets(HASHABLE, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4),
    max_leaves=20,
)


def same(one, other):
    """Equal, and of the same types all the way down, with the sign of zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one == other and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


@given(VALUES)
def test_values_come_back_as_they_were(value):
    assert same(decode(encode(value)), value)


@given(st.sets(HASHABLE))
def test_equal_sets_have_equal_texts_in_whatever_order_they_were_made(value):
    again = set()
    for item in reversed(list(value)):
        again.add(item)
    assert encode(again) == encode(value)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**6000], ids=hex)
def test_integers_of_any_size_come_back(number):
    assert decode(encode([number])) == [number]


def test_what_is_not_a_number_stays_so():
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]


class Colour(enum.IntEnum):
    RED = 3


class Liar(list):
    def __iter__(self):
        return iter([1, 2, 3])

    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize(
    ("value", "kind", "alike"),
    [
        (collections.Counter("aab"), "Counter", {"a": 2, "b": 1}),
        (collections.namedtuple("Point", "x y")(1, 2), "Point", (1, 2)),
        (Colour.RED, "Colour", 3),
        (np.int64(7), "int64", 7),
        (np.float64(0.5), "float64", 0.5),
        (np.bool_(True), "bool", True),
        ({"a": 1}.keys(), "dict_keys", {"a"}),
        (bytearray(b"ab"), "bytearray", b"ab"),
        (Liar([9]), "Liar", [9]),
    ],
)
def test_what_only_looks_like_plain_data_says_so_at_the_top_and_is_plain_below(value, kind, alike):
    found = decode(encode(value))
    assert (type(found), found.kind, found.value) == (Lookalike, kind, alike)
    assert unwrapped(found) == alike
    assert decode(encode([value])) == [alike]


@pytest.mark.parametrize("value", [object(), lambda: 0, (i for i in ()), np.zeros(3), {"a": 1}.values()])
def test_what_is_no_data_equals_nothing(value):
    found = decode(encode(value))
    assert isinstance(found, Remote)
    assert found != decode(encode(value))


def test_what_is_no_data_is_known_by_its_number():
    kept = []

    def keep(value):
        kept.append(value)
        return len(kept) - 1

    thing = object()
    text = encode([1, thing], keep)
    assert kept == [thing]
    assert decode(text, lambda kind, number: (kind, kept[number])) == [1, ("object", thing)]
    assert encode(Remote("object", 5)) == encode(Remote("object", 5)) == b'{"o":["object",5]}'


def test_what_is_nested_for_ever_is_no_data():
    endless: list = []
    endless.append(endless)
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for value in (endless, deep):
        assert isinstance(decode(encode(value)), Remote)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"nul", b"\xff", b'{"z":1}', b'{"t":1}', b"{}", b'{"t":[1],"s":[2]}', b'{"s":[[1]]}', b'{"i":"x"}',
        b'{"i":7}', b'{"q":[1,0]}', b'{"m":"?"}', b'{"b":"0"}', b'{"r":[1,2,0]}', b'{"c":["a",1]}', b'{"x":[]}',
        b'{"x":"a"}', b'{"o":["a","b"]}', b'{"d":[[[1],2]]}', b'{"d":[1]}', b"[" * 100_000, b'{"t":' * 100_000,
        b"9" * 5000,
    ],
)  # fmt: skip
def test_text_that_stands_for_nothing_is_refused(text):
    with pytest.raises(NotDataError):
        decode(text)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)
       | st.dictionaries(st.sampled_from("tsfdicbqmrxo"), inner, min_size=1, max_size=1)).map(
           lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_text_ends_in_another_error(text):
    with contextlib.suppress(NotDataError):
        decode(text)


def test_fractions_and_decimals_keep_what_they_are():
    assert decode(encode((Fraction(1, 3), Decimal("1.10")))) == (Fraction(1, 3), Decimal("1.10"))


LARGE = [
    "x" * LARGE_BYTES,
    list(range(40_000)),
    [*range(60, 40_000), 0x7FF8FFF8],
    [("<", number, 0.5) for number in range(20_000)],
    {"a": ["x" * LARGE_BYTES]},
]


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
def test_a_large_value_has_a_digest_that_comes_back_with_it(value):
    assert digest(value)
    assert digest(decode(encode(value))) == digest(value)


def test_different_values_have_different_digests():
    rows = [list(range(40_000)), tuple(range(40_000)), list(range(40_001)), [True, *range(2, 40_001)]]
    assert len({digest(value) for value in (*rows, [0.0, *range(1, 40_000)], [-0.0, *range(1, 40_000)])}) == 6


@pytest.mark.parametrize(
    "value",
    [
        1,
        "x" * (LARGE_BYTES - 9),
        set(range(40_000)),
        [frozenset([1]), *range(40_000)],
        [math.nan, *range(40_000)],
        [(1.0, -math.nan), *range(40_000)],
        [object(), *range(40_000)],
        range(10**9),
    ],
    ids=range(8),
)
def test_what_is_small_has_no_order_or_differs_from_itself_has_no_digest(value):
    assert digest(value) == b""


def test_what_can_be_sent_is_told_by_the_digest():
    assert can_be_sent(digest("x" * LARGE_BYTES)) and can_be_sent(b"")
    assert can_be_sent(b"ab:%d" % MOST_BYTES) and not can_be_sent(b"ab:%d" % (MOST_BYTES + 1))
