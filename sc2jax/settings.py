"""How a config field declares what it is: its meaning, unit and range, and whether it decides a result.

The rooms' dataclasses declare their fields with `setting`; what checks, keys and explains a config is a map over these
declarations, so that no list of field names is kept by hand anywhere.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from sc2jax.errors import UserError

T = TypeVar("T")

_METADATA = "sc2jax"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field declares.

    `decides` says whether results follow from it. What only says how the work is done (a kernel, the size of a batch
    that is scored, how far ahead to read) may change a result by rounding at most, and is no part of a stage's key.
    """

    meaning: str
    unit: str = ""
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None
    choices: tuple[str, ...] = ()
    decides: bool = True
    may_be_empty: bool = False  # of a tuple: whether it may hold nothing

    @property
    def range(self) -> str:
        """The values that it may take, in words; "" if there is no limit."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        low = [f"at least {self.at_least:,}"] if self.at_least is not None else []
        low += [f"more than {self.more_than:,}"] if self.more_than is not None else []
        high = [f"at most {self.at_most:,}"] if self.at_most is not None else []
        high += [f"less than {self.less_than:,}"] if self.less_than is not None else []
        return " and ".join(low + high)

    def allows(self, value: Any) -> bool:
        """Whether a value, or each of a tuple's, lies in the range."""
        if isinstance(value, tuple):
            return (bool(value) or self.may_be_empty) and all(map(self.allows, value))
        if self.choices:
            return value in self.choices
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.more_than is None or value > self.more_than)
            and (self.at_most is None or value <= self.at_most)
            and (self.less_than is None or value < self.less_than)
        )


def setting(
    default: T,
    meaning: str,
    *,
    unit: str = "",
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    less_than: float | None = None,
    choices: tuple[str, ...] = (),
    decides: bool = True,
) -> T:
    """A field of a frozen dataclass with its default; see `Setting` for the rest.

    Raises:
        TypeError: a number is declared without a lower or an upper limit.
    """
    is_number = type(_of(default)) in (int, float)
    if is_number and ((at_least is None and more_than is None) or (at_most is None and less_than is None)):
        raise TypeError(f"a number is declared with a lower and an upper limit: {meaning}")
    declared = Setting(
        meaning, unit, at_least, more_than, at_most, less_than, choices, decides, may_be_empty=default == ()
    )
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def declared(config: Any) -> Iterator[tuple[str, Setting]]:
    """The fields of a room's config, an instance or its class, with what they declare."""
    for field in dataclasses.fields(config):
        if _METADATA in field.metadata:
            yield field.name, field.metadata[_METADATA]


def fitted(key: str, default: Any, value: Any) -> Any:
    """A value in the type of its field's default: an integer serves as a float, a list as a tuple, and nothing else.

    Raises:
        UserError: it is of another type, a number that is not finite, or text that no file can hold.
    """
    if isinstance(default, float) and type(value) is int:
        value = _as_float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
    items = value if isinstance(value, tuple) else (value,)
    kind = type(_of(default))
    if type(value) is not type(default) or any(type(item) is not kind for item in items):
        raise UserError(f"{key} is {shown(value)}; it must be {_type_of(default)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} is {value}; it must be finite")
    if any(isinstance(item, str) and _NO_TEXT.search(item) for item in items):
        raise UserError(f"{key} is {shown(value)}; it must be text that UTF-8 can hold, without NUL")
    return value


def _of(default: Any) -> Any:
    """A default, or what it is a tuple of; an empty one is of names."""
    if isinstance(default, tuple):
        return default[0] if default else ""
    return default


def _type_of(default: Any) -> str:
    """The type of a default, in words."""
    if isinstance(default, tuple):
        return "a list of integers" if isinstance(_of(default), int) else "a list of names"
    return {bool: "true or false", int: "an integer", float: "a number", str: "text"}[type(default)]


_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and not for ever."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits; and what a Python config holds may fail in any way
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN = 200


def check_ranges(section: str, config: Any) -> None:
    """Refuses values of another type than their fields' defaults, or outside of their ranges.

    Raises:
        UserError: naming the key, its value and what it must be.
    """
    for name, field in declared(config):
        key = f"{section}.{name}" if section else name
        value = fitted(key, getattr(type(config), name), getattr(config, name))
        if not field.allows(value):
            raise UserError(f"{key} is {shown(value)}; it must be {field.range}")


def decisive(config: Any) -> dict[str, Any]:
    """The fields that results follow from: what a stage's key is made of."""
    return {name: getattr(config, name) for name, field in declared(config) if field.decides}


def incidental(config: Any) -> dict[str, Any]:
    """The other fields, which say how the work is done."""
    return {name: getattr(config, name) for name, field in declared(config) if not field.decides}


def part(config: Any, kind: type[T]) -> T:
    """The fields of `config` that `kind`, one of the dataclasses it inherits from, declares.

    A stage that is handed a part cannot read a field that its key does not hold.
    """
    fields: Any = kind
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(fields)})
