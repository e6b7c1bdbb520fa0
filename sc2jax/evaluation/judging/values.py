"""Values as text between judge and candidate: data alone, no pickle, nothing that decoding could run.

It needs the standard library alone, for it also works inside the sandbox. The text is JSON; what JSON does not know is
an object with one key:

    {"t": [...]} tuple         {"s": [...]} set, {"f": [...]} frozenset    {"d": [[key, value], ...]} dict
    {"i": "0x..."} large int   {"c": [re, im]} complex                     {"b": "hex"} bytes
    {"q": [n, d]} Fraction     {"m": "text"} Decimal                       {"r": [start, stop, step]} range
    {"x": [type, value]}       at the top alone, equal to a value of a plain type, but of another type: a subclass, a
                               numpy scalar, the keys of a dict
    {"o": [type, number]}      anything else: equal to nothing, but it can be named again by its number

Integers of more than 4,300 digits are hexadecimal, since Python refuses decimal ones.
"""

import hashlib
import json
import marshal
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MOST_DEPTH = 100
"""Of lists in lists; what is deeper, or holds itself, is no data."""

LARGE_BYTES, MOST_BYTES = 1 << 16, 1 << 26
"""From what size on values are compared by digests, and up to what size they have a text as well."""

_LARGE = 10**4300
_LEAVES = frozenset({str, float, bool, int, type(None)})
_PLAIN = (bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)


class NotDataError(ValueError):
    """Text that stands for no value."""


class Remote:
    """What stays where it was made: an object that is no data, known by its number."""

    def __init__(self, kind: str, number: int) -> None:
        # Not by assignment, which a subclass may pass on.
        vars(self).update(remote_kind=kind, remote_number=number)

    remote_kind: str
    remote_number: int

    def __repr__(self) -> str:
        return f"<{self.remote_kind}>"


class Lookalike:
    """A value of a type that is not plain but equal to one that is: `kind` is the type's name."""

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, value


Keep = Callable[[Any], int]
"""What gives an object that is no data its number."""


def encode(value: Any, keep: Keep | None = None) -> bytes:
    """The text of a value; equal values of equal types have equal texts, but for the order of dicts."""
    try:
        try:
            return _text(_Encoder(keep).plain(value, 0))
        except ValueError:  # an integer has too many digits, which is too rare to look for
            return _text(_Encoder(keep, large=True).plain(value, 0))
    except RecursionError:
        return _text({"o": [_type_name(value), -1]})


def _text(plain: Any) -> bytes:
    return json.dumps(plain, separators=(",", ":"), check_circular=False).encode()


class _Encoder:
    def __init__(self, keep: Keep | None, *, large: bool = False) -> None:
        self._keep, self._large = keep, large

    def plain(self, value: Any, depth: int) -> Any:
        """What JSON takes for a value."""
        kind = type(value)
        if kind in _LEAVES:
            return {"i": hex(value)} if self._large and kind is int and abs(value) >= _LARGE else value
        if depth > MOST_DEPTH:
            raise RecursionError
        if kind is list:
            return self._items(value, depth)
        if kind in _PLAIN:
            return self._tagged(value, depth)
        if isinstance(value, Remote):
            return {"o": [value.remote_kind, value.remote_number]}
        return self._other(value, depth)

    def _items(self, values: Any, depth: int) -> list[Any]:
        if not self._large and _LEAVES.issuperset(map(type, values)):
            return values if type(values) is list else list(values)
        return [self.plain(value, depth + 1) for value in values]

    def _tagged(self, value: Any, depth: int) -> Any:
        if isinstance(value, tuple):
            return {"t": self._items(value, depth)}
        if isinstance(value, dict):
            return {"d": [[self.plain(key, depth + 1), self.plain(of, depth + 1)] for key, of in value.items()]}
        if isinstance(value, set | frozenset):
            # In the order of their texts, so that equal sets have equal texts.
            items = sorted((self.plain(item, depth + 1) for item in value), key=json.dumps)
            return {"s" if isinstance(value, set) else "f": items}
        if isinstance(value, complex):
            return {"c": [value.real, value.imag]}
        if isinstance(value, bytes):
            return {"b": value.hex()}
        return self._alike("bytearray", bytes(value), depth)

    def _other(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is Fraction:
            return {"q": [self.plain(value.numerator, depth), self.plain(value.denominator, depth)]}
        if kind is Decimal:
            return {"m": str(value)}
        if kind is range:
            return {"r": [self.plain(part, depth) for part in (value.start, value.stop, value.step)]}
        alike = _lookalike(value)
        if alike is not value:
            return self._alike(_type_name(value), alike, depth)
        return {"o": [_type_name(value), self._keep(value) if self._keep else -1]}

    def _alike(self, kind: str, value: Any, depth: int) -> Any:
        plain = self.plain(value, depth + 1)
        return plain if depth else {"x": [kind, plain]}


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__index__),
    (float, float.__float__),
    (complex, lambda value: complex(value.real, value.imag)),
    (str, str.__str__),
    (bytes, bytes.__bytes__),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (list, lambda value: list(list.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
)


def _lookalike(value: Any) -> Any:
    """The plain value that one of a subclass, a view of a dict's keys or a numpy scalar equals; else what was given."""
    for base, plain in _BASES:
        if isinstance(value, base):
            return plain(value)
    if isinstance(value, type({}.keys()) | type({}.items())):
        return set(value)
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _type_name(value: Any) -> str:
    return str(type(value).__name__)[:100]


def decode(text: bytes, find: Callable[[str, int], Any] = Remote) -> Any:
    """The value of a text; `find` gives the object of a type's name and a number.

    Raises:
        NotDataError: the text stands for no value.
    """
    try:
        # Each NaN is an object of its own: one that is the same would be equal to itself in a row.
        return json.loads(text, object_hook=lambda fields: _read(fields, find), parse_constant=float)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
        raise NotDataError(f"no value: {type(error).__name__}") from error


def digest(value: Any) -> bytes:
    """What stands for a large value, with its size; b"" for a small one, and for one that a digest cannot stand for.

    Equal digests mean equal values of equal types. A set has none, since its order is not that of an equal one, and
    neither has what holds something that differs from itself.
    """
    try:
        content = marshal.dumps(value, 2)  # several times as fast as a text; this version refers to no object twice
    except ValueError:
        return b""
    if len(content) < LARGE_BYTES or (any(mark in content for mark in _MARKS) and not _is_row(value, 0)):
        return b""
    return b"%s:%d" % (hashlib.sha256(content).hexdigest().encode(), len(content))


def can_be_sent(shortened: bytes) -> bool:
    """Whether the value of a digest is small enough for a text."""
    return int(shortened.partition(b":")[2] or b"0") <= MOST_BYTES


_MARKS = (b"<", b">", b"\xf8\x7f", b"\xf8\xff")
"""One of these stands in the marshalled form of every set, frozenset and NaN, and of other things by chance."""


def _is_row(value: Any, depth: int) -> bool:
    if type(value) in _LEAVES:
        return value == value  # NaN is not
    if type(value) not in (list, tuple) or depth > MOST_DEPTH:
        return False
    kinds = set(map(type, value))
    if float not in kinds and _LEAVES.issuperset(kinds):
        return True
    return all(_is_row(item, depth + 1) for item in value)


def unwrapped(value: Any) -> Any:
    """A decoded value as one of a plain type."""
    return value.value if isinstance(value, Lookalike) else value


def _read(fields: dict[str, Any], find: Callable[[str, int], Any]) -> Any:
    ((tag, content),) = fields.items()
    if tag == "x":
        return Lookalike(str(content[0]), content[1])
    if tag == "o":
        return find(str(content[0]), int(content[1]))
    return _TAGS[tag](content)


_TAGS: dict[str, Callable[[Any], Any]] = {
    "t": tuple,
    "s": set,
    "f": frozenset,
    "d": dict,
    "i": lambda text: int(text, 16),
    "c": lambda parts: complex(*parts),
    "b": bytes.fromhex,
    "q": lambda parts: Fraction(*parts),
    "m": Decimal,
    "r": lambda parts: range(*parts),
}
