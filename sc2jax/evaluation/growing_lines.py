"""JSON lines that grow: each is written once it is known, so what a killed run leaves is the beginning of the file."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from sc2jax import storage
from sc2jax.json_files import decode_json

T = TypeVar("T")

_AT_A_TIME = 256
"""Lines that are written to an object store together, where a file cannot grow."""


def stored_lines(path: str, kind: type[T], refuse_other: Callable[[int, T, str], None], remedy: str) -> list[T]:
    """The lines that a file holds already; a last one that was cut off is removed from it.

    Args:
        path: of the file; [] if there is none.
        kind: of each line.
        refuse_other: takes the place of a line, the line, and where it stands in words; raises if it is another one.
        remedy: what to do with a damaged file.

    Raises:
        UserError: a line is damaged.
    """
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        return []
    whole = content[: content.rfind(b"\n") + 1]
    found = []
    for place, line in enumerate(whole.split(b"\n")[:-1]):
        where = f"{path}, line {place + 1},"
        found.append(decode_json(line, kind, where, remedy))
        refuse_other(place, found[-1], where)
    if whole != content:
        storage.write_whole(path, whole)
    return found


def add_lines(path: str, items: Iterable[Any]) -> None:
    """Adds values as lines to the end of a file, each as soon as it is there; in an object store many at a time."""
    lines = (msgspec.json.encode(item) + b"\n" for item in items)
    if not storage.is_url(path):
        for line in lines:
            storage.append(path, line)
        return
    content = storage.read_bytes(path) if storage.exists(path) else b""
    for count, line in enumerate(lines, start=1):
        content += line
        if count % _AT_A_TIME == 0:
            storage.write_whole(path, content)
    storage.write_whole(path, content)
