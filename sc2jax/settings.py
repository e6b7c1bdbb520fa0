"""How a config field declares what it is: its meaning, unit and range, and whether it decides a result.

The rooms' dataclasses declare their fields with `setting`; what checks, keys and explains a config is a map over these
declarations, so that no list of field names is kept by hand anywhere.
"""

import dataclasses
import math
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
            return bool(value) and all(map(self.allows, value))
        if self.choices:
            return value in self.choices
        if isinstance(value, float) and not math.isfinite(value):
            return False
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
    """A field of a frozen dataclass with its default; see `Setting` for the rest."""
    declared = Setting(meaning, unit, at_least, more_than, at_most, less_than, choices, decides)
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def declared(config: Any) -> Iterator[tuple[str, Setting]]:
    """The fields of a room's config, an instance or its class, with what they declare."""
    for field in dataclasses.fields(config):
        if _METADATA in field.metadata:
            yield field.name, field.metadata[_METADATA]


def check_ranges(section: str, config: Any) -> None:
    """Refuses values outside of their fields' ranges.

    Raises:
        UserError: naming the key, its value and the range.
    """
    for name, field in declared(config):
        value = getattr(config, name)
        if not field.allows(value):
            what = field.range or "finite"
            key = f"{section}.{name}" if section else name
            raise UserError(f"{key} is {value!r}; it must be {what}")


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
