"""Groups of devices in every form of a program's text, against numpy's own reshapes and transpositions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.plan.device_groups import read_groups, read_pairs


def as_tuples(array: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(number) for number in row) for row in array)


def test_lists():
    assert read_groups("{{0,2},{1,3}}") == ((0, 2), (1, 3))
    assert read_groups("{{0},{1}}") == ((0,), (1,))
    assert read_groups("{}") == ()
    assert read_groups("{{5}}") == ((5,),)


def test_iota():
    assert read_groups("[2,4]<=[8]") == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert read_groups("[4,2]<=[2,4]T(1,0)") == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_mesh_by_hand():
    """Two rows of three: along the second axis the rows, along the first the columns."""
    assert read_groups("mesh['a'=2,'b'=3] {'b'}") == ((0, 1, 2), (3, 4, 5))
    assert read_groups("mesh['a'=2,'b'=3] {'a'}") == ((0, 3), (1, 4), (2, 5))
    assert read_groups("mesh['a'=2,'b'=3] {'b','a'}") == ((0, 3, 1, 4, 2, 5),)
    assert read_groups("mesh['a'=3,'b'=2], device_ids=([2,3]T(1,0)) {'a'}") == ((0, 1, 2), (3, 4, 5))
    assert read_groups("mesh['a'=2,'b'=2], device_ids=(3,2,1,0) {'a'}") == ((3, 1), (2, 0))


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shapes, st.data())
def test_iota_is_a_reshape_and_a_transposition(shape, data):
    order = data.draw(st.permutations(range(len(shape))))
    devices = np.arange(np.prod(shape)).reshape(shape).transpose(order).ravel()
    sizes = [size for size in range(1, len(devices) + 1) if len(devices) % size == 0]
    size = data.draw(st.sampled_from(sizes))
    text = f"[{len(devices) // size},{size}]<=[{','.join(map(str, shape))}]T({','.join(map(str, order))})"
    assert read_groups(text) == as_tuples(devices.reshape(-1, size))


@given(shapes, st.data())
def test_mesh_groups_differ_along_the_named_axes_alone(shape, data):
    count = int(np.prod(shape))
    rows, columns = data.draw(st.sampled_from([(r, count // r) for r in range(1, count + 1) if count % r == 0]))
    devices = np.arange(count).reshape(rows, columns).T.reshape(shape)
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    others = [axis for axis in range(len(shape)) if axis not in axes]
    expected = devices.transpose([*others, *axes]).reshape(-1, int(np.prod([shape[axis] for axis in axes])))
    mesh = ",".join(f"'x{axis}'={size}" for axis, size in enumerate(shape))
    along = ",".join(f"'x{axis}'" for axis in axes)
    groups = read_groups(f"mesh[{mesh}], device_ids=([{rows},{columns}]T(1,0)) {{{along}}}")
    assert groups == as_tuples(expected)
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(count))


@pytest.mark.parametrize(
    "text",
    [
        "{0,1}",
        "{{0,1}",
        "[2,4]<=[9]",
        "[2,4]<=[2,4]T(0,0)",
        "[2,4]<=[8]P(0)",
        "mesh['a'=2,'b'=3] {'c'}",
        "mesh['a'=4,'b'=3] {'a':(1)2}",
        "mesh['a'=2,'b'=3], device_ids=([5]) {'a'}",
        "@mesh {'a'}",
    ],
)
def test_other_forms_are_errors(text):
    with pytest.raises(ValueError):
        read_groups(text)


def test_pairs():
    assert read_pairs("{{0,1},{1,0}}") == ((0, 1), (1, 0))
    assert read_pairs("{}") == ()
    with pytest.raises(ValueError):
        read_pairs("{{0,1,2}}")
