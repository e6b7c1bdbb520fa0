"""Which devices take part in a collective with each other, from the forms in which a program's text says so.

XLA has three (`xla/hlo/ir/replica_group.h`): lists, `{{0,1},{2,3}}`; an iota that is reshaped and transposed,
`[2,128]<=[128,2]T(1,0)`; and axes of a mesh, `mesh['a'=128,'b'=2], device_ids=([2,128]T(1,0)) {'a'}`, where the devices
are numbered along the mesh's axes, the last one fastest, unless `device_ids` gives their numbers.
"""

import itertools
import math
import re
from collections.abc import Sequence

Groups = tuple[tuple[int, ...], ...]


def read_groups(text: str) -> Groups:
    """The groups of a `replica_groups` attribute, with the `device_ids` that may follow it.

    Raises ValueError for a form that is not known.
    """
    if re.fullmatch(r"\{(\{[\d,]*\},?)*\}", text):
        return tuple(_numbers(group) for group in re.findall(r"\{([\d,]*)\}", text[1:-1]))
    if found := re.fullmatch(r"\[(\d+),(\d+)\]<=(.*)", text):
        count, size = int(found[1]), int(found[2])
        devices = _iota(found[3])
        if len(devices) != count * size:
            raise ValueError(f"{len(devices)} devices are not {count} groups of {size}: {text[:200]}")
        return tuple(devices[start : start + size] for start in range(0, len(devices), size))
    if found := re.fullmatch(r"mesh\[([^\]]*)\](?:, device_ids=\(([^ ]*)\))? \{([^}]*)\}", text):
        return _groups_of_mesh(text, *found.groups())
    raise ValueError(f"groups of devices in a form that is not known: {text[:200]}")


def read_pairs(text: str) -> tuple[tuple[int, int], ...]:
    """The pairs of a `source_target_pairs` attribute: `{{0,1},{1,0}}`.

    Raises ValueError for another form.
    """
    if not re.fullmatch(r"\{(\{\d+,\d+\},?)*\}", text):
        raise ValueError(f"pairs of devices in a form that is not known: {text[:200]}")
    return tuple((int(source), int(target)) for source, target in re.findall(r"\{(\d+),(\d+)\}", text))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _iota(text: str) -> tuple[int, ...]:
    """`[2,128]T(1,0)`: 0 to 255 in two rows, read by columns."""
    found = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if not found:
        raise ValueError(f"numbers of devices in a form that is not known: {text[:200]}")
    shape = _numbers(found[1])
    order = _numbers(found[2]) if found[2] else tuple(range(len(shape)))
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"a transposition that is none: {text[:200]}")
    strides = _strides(shape)
    positions = itertools.product(*(range(shape[dimension]) for dimension in order))
    return tuple(
        sum(place * strides[dimension] for place, dimension in zip(position, order, strict=True))
        for position in positions
    )


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[dimension + 1 :]) for dimension in range(len(shape))]


def _groups_of_mesh(text: str, axes: str, devices: str | None, along: str) -> Groups:
    sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", axes)}
    names = re.findall(r"'([^']*)'", along)
    # An axis may be given in part, `'a':(1)2`, which no program here did.
    if along != ",".join(f"'{name}'" for name in names) or not set(names) <= sizes.keys():
        raise ValueError(f"axes of a mesh in a form that is not known: {text[:200]}")
    total = math.prod(sizes.values())
    numbers = tuple(range(total)) if devices is None else _iota(devices) if "[" in devices else _numbers(devices)
    if len(numbers) != total:
        raise ValueError(f"{len(numbers)} devices do not fill the mesh: {text[:200]}")
    strides = dict(zip(sizes, _strides(list(sizes.values())), strict=True))
    others = [name for name in sizes if name not in names]
    return tuple(
        tuple(numbers[start + offset] for offset in _offsets(names, sizes, strides))
        for start in _offsets(others, sizes, strides)
    )


def _offsets(names: Sequence[str], sizes: dict[str, int], strides: dict[str, int]) -> list[int]:
    """The places in the mesh that differ along some axes alone, the last axis fastest."""
    places = itertools.product(*(range(sizes[name]) for name in names))
    return [sum(place * strides[name] for place, name in zip(each, names, strict=True)) for each in places]
