"""The log of a run for TensorBoard: event files written without TensorFlow.

A file is records of the TFRecord format (length, masked CRC-32C of the length, bytes, masked CRC-32C of the bytes),
each an `Event` protocol buffer (tensorboard/compat/proto/event.proto). Seven fields of these messages are used, so they
are encoded here instead of asking for TensorBoard's package, which brings a web server.

The file is derived from the log: each start writes all lines of the log up to there into a new file and deletes the one
before, so that no step stands twice. A TensorBoard that is looking on forgets what it has read when it meets the mark
of a new session, and reads the new file from its start.
"""

import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sc2jax import storage
from sc2jax.storage import join

WRITER = "sc2jax.training.tensorboard"
"""Stands in the first event of each file of ours: only those are deleted, whatever others are called."""

_MARK = "tfevents"
"""TensorBoard reads the files that have this in their names, in the order of the names."""

_HEAD, _TAIL = 12, 4
"""Bytes of a record before and after its content."""


class EventFile:
    """The scalars of a run's log, in a folder of its own or among the files of others."""

    def __init__(
        self, folder: str, rows: Iterable[tuple[int, Mapping[str, float]]], clock: Callable[[], float] = time.time
    ) -> None:
        """Begins a file with what the log holds so far, each step with its scalars, and deletes the one before.

        Steps keep the times at which they were written first.
        """
        self._clock, now = clock, clock()
        old = _own_files(folder)
        times = {step: at for path in old for at, step in _times(storage.read_bytes(path))}
        events = [_event(min([now, *times.values()]), 0, head) for head in (_VERSION, _SESSION_START)]
        events += [_event(times.get(step, now), step, _summary(scalars)) for step, scalars in rows]
        self._file = _new_name(folder)
        storage.write_whole(self._file, b"".join(map(_record, events)))
        for path in old:
            storage.delete_file(path)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds the scalars of a step."""
        storage.append(self._file, _record(_event(self._clock(), step, _summary(scalars))))


def scalars(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a line of the log but its step, those in a mapping as `name/inner name`."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and prefix + name != "step":
            found[prefix + name] = float(value)
    return found


def _own_files(folder: str) -> list[str]:
    paths = (join(folder, name) for name in storage.names(folder) if _MARK in name)
    return [path for path in paths if storage.is_file(path) and _is_own(path)]


def _is_own(path: str) -> bool:
    with storage.open_file(path) as file:
        return file.read(_HEAD + 9 + len(_FIRST))[_HEAD + 9 :] == _FIRST


def _new_name(folder: str) -> str:
    """A name after all that were given so far; with as many digits, later numbers are later names."""
    numbers = [int(found[1]) for name in storage.names(folder) if (found := _NAME.fullmatch(name))]
    return join(folder, f"events.out.{_MARK}.{max(numbers, default=-1) + 1:010}.sc2jax")


_NAME = re.compile(rf"events\.out\.{_MARK}\.([0-9]{{10}})\.sc2jax")


def _times(content: bytes) -> Iterator[tuple[float, int]]:
    """The time and the step of each whole event of a file of ours."""
    at = 0
    while len(head := content[at : at + _HEAD]) == _HEAD:
        end = at + _HEAD + int.from_bytes(head[:8], "little")
        event = content[at + _HEAD : end]
        if end + _TAIL > len(content) or len(event) < 9:
            return  # cut off or damaged, and what follows is not known
        yield struct.unpack("<d", event[1:9])[0], _read_varint(event[10:])
        at = end + _TAIL


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    """The checksum of a record, rotated and shifted, for records that hold checksums themselves."""
    checksum = crc32c(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """The checksum with Castagnoli's polynomial (RFC 3720, appendix B.4), a byte at a time."""
    checksum = 0xFFFFFFFF
    for byte in content:
        checksum = _TABLE[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    return checksum ^ 0xFFFFFFFF


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_table_entry(byte) for byte in range(256)]


def _event(at: float, step: int, what: bytes) -> bytes:
    """`Event`: wall_time = 1, step = 2, and what it is about."""
    return b"\x09" + struct.pack("<d", at) + b"\x10" + _varint(step) + what


def _summary(scalars: Mapping[str, float]) -> bytes:
    """`Event.summary` = 5, a `Summary` of values = 1, each with its tag = 1 and simple_value = 2."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        values = {tag: np.asarray(value).astype("<f4").tobytes() for tag, value in scalars.items()}
    return _bytes(5, b"".join(_bytes(1, _bytes(1, tag.encode()) + b"\x15" + value) for tag, value in values.items()))


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first, each but the last marked by the eighth."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _read_varint(content: bytes) -> int:
    value = 0
    for place, group in enumerate(content):
        value |= (group & 0x7F) << 7 * place
        if group < 0x80:
            break
    return value


_VERSION = _bytes(3, b"brain.Event:2") + _bytes(10, _bytes(1, WRITER.encode()))  # file_version, source_metadata.writer
_SESSION_START = _bytes(7, b"\x08\x01")  # session_log.status = START
_FIRST = b"\x10\x00" + _VERSION
"""What the first event of a file of ours holds after its time."""
