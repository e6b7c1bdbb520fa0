# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""What must hold of a record beyond what its Arrow schema says: a table of rules for each kind.

A rule looks at the record itself (its place is "") or at the structures in one of its lists, such as `events`. It is
evaluated on whole columns; a field that is null satisfies it unless the rule is that it must not be.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.records.faults import Fault, shown

LICENSE_TYPES = ("permissive", "no_license", "non_permissive")


@dataclasses.dataclass(frozen=True)
class _Structures:
    """All structures at one place of the records of a table: their fields, and the row that each is in."""

    place: str
    fields: Mapping[str, pa.Array]
    rows: np.ndarray

    def name(self, index: int, field: str) -> str:
        """What a message calls a field of one of them, such as `events[2].author`."""
        if not self.place:
            return field
        within = index - int(np.searchsorted(self.rows, self.rows[index]))
        return f"{self.place}[{within}].{field}"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A field has one of a few values."""

    place: str
    field: str
    values: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The field."""
        return frozenset({self.field})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures with another value."""
        found = structures.fields[self.field]
        for index in _where(pc.and_(pc.invert(_is_in(found, self.values)), pc.is_valid(found))):
            what = f"{structures.name(index, self.field)} is {shown(found[index].as_py())}; it must be one of "
            yield Fault(int(structures.rows[index]), "unknown_value", what + ", ".join(self.values))


@dataclasses.dataclass(frozen=True)
class Needs:
    """A structure whose fields have certain values has a value in some other fields too."""

    place: str
    when: Mapping[str, tuple[str, ...]]
    needed: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Those of both sides."""
        return frozenset({*self.when, *self.needed})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures that lack a value."""
        concerned = np.ones(len(structures.rows), bool)
        for field, values in self.when.items():
            concerned &= _is_in(structures.fields[field], values).to_numpy(zero_copy_only=False)
        for field in self.needed:
            lacking = concerned & structures.fields[field].is_null().to_numpy(zero_copy_only=False)
            for index in np.flatnonzero(lacking).tolist():
                why = ", ".join(f"{name} {shown(structures.fields[name][index].as_py())}" for name in self.when)
                what = f"{structures.name(index, field)} is null, which it must not be with {why}"
                yield Fault(int(structures.rows[index]), "no_value", what)


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """At least one of some fields has a value."""

    place: str
    fields: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.fields)

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures without any."""
        empty = np.ones(len(structures.rows), bool)
        for field in self.fields:
            empty &= structures.fields[field].is_null().to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(empty).tolist():
            what = f"all of {', '.join(structures.name(index, field) for field in self.fields)} are null"
            yield Fault(int(structures.rows[index]), "incomplete", what)


@dataclasses.dataclass(frozen=True)
class NotEmpty:
    """A list holds something."""

    place: str
    field: str

    @property
    def names(self) -> frozenset[str]:
        """The list."""
        return frozenset({self.field})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures whose list is empty."""
        for index in _where(pc.equal(pc.list_value_length(structures.fields[self.field]), 0)):
            what = f"{structures.name(index, self.field)} is empty"
            yield Fault(int(structures.rows[index]), "incomplete", what)


@dataclasses.dataclass(frozen=True)
class Has:
    """Of the structures of a list, at least one has certain values."""

    place: str
    values: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> frozenset[str]:
        """The fields of the values."""
        return frozenset(self.values)

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The records whose list has none; one without a list is another rule's."""
        found = np.ones(len(structures.rows), bool)
        for field, values in self.values.items():
            found &= _is_in(structures.fields[field], values).to_numpy(zero_copy_only=False)
        wanted = ", ".join(f"{field} {' or '.join(values)}" for field, values in self.values.items())
        for row in np.setdiff1d(structures.rows, structures.rows[found]).tolist():
            yield Fault(row, "incomplete", f"none of {self.place} has {wanted}")


@dataclasses.dataclass(frozen=True)
class Follows:
    """In a list of structures with texts, one of a kind comes after one of another; without text it does not count."""

    place: str
    field: str
    first: str
    then: str

    @property
    def names(self) -> frozenset[str]:
        """The field that says the kind."""
        return frozenset({self.field})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The records in whose list none does; one without a list is another rule's."""
        rows, blank = structures.rows, pc.equal(pc.utf8_trim_whitespace(structures.fields["text"]), "")
        earliest, latest = (np.full(rows.max(initial=-1) + 1, at) for at in (len(rows), -1))
        for kind, choose, chosen in ((self.first, np.minimum, earliest), (self.then, np.maximum, latest)):
            at = _where(pc.and_not(pc.equal(structures.fields[self.field], kind), blank))
            choose.at(chosen, rows[at], at)
        for row in np.unique(rows[latest[rows] <= earliest[rows]]).tolist():
            yield Fault(row, "incomplete", f"no {self.then} with text comes after {self.first} in {self.place}")


@dataclasses.dataclass(frozen=True)
class InOrderOfTime:
    """The times in a list are as GitHub writes them, and ascend."""

    place: str
    field: str

    @property
    def names(self) -> frozenset[str]:
        """The field with the times."""
        return frozenset({self.field})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures with another time than that, or with one before that of the structure before."""
        times, rows = structures.fields[self.field], structures.rows
        for index in _where(pc.invert(pc.match_substring_regex(times, _TIME))):
            what = f"{structures.name(index, self.field)} is {shown(times[index].as_py())}; it must be like {_A_TIME}"
            yield Fault(int(rows[index]), "unknown_value", what)
        together = pa.array(rows[1:] == rows[:-1])
        for index in _where(pc.and_(together, pc.less(times.slice(1), times.slice(0, max(len(times) - 1, 0))))):
            what = f"{structures.name(index + 1, self.field)} is before {structures.name(index, self.field)}"
            yield Fault(int(rows[index]), "unknown_value", what)


@dataclasses.dataclass(frozen=True)
class Unique:
    """No two structures of a list have the same value in a field."""

    place: str
    field: str

    @property
    def names(self) -> frozenset[str]:
        """The field."""
        return frozenset({self.field})

    def broken(self, structures: _Structures) -> Iterator[Fault]:
        """The structures with a value that another one before them has."""
        values, rows = structures.fields[self.field], structures.rows
        codes = pc.dictionary_encode(values).indices.to_numpy()
        _, firsts = np.unique(np.stack([rows, codes]), axis=1, return_index=True)
        for index in np.setdiff1d(np.arange(len(rows)), firsts).tolist():
            what = f"{structures.name(index, self.field)} is {shown(values[index].as_py())}, as one before it is"
            yield Fault(int(rows[index]), "unknown_value", what)


Rule: TypeAlias = OneOf | Needs | AnyOf | NotEmpty | Has | Follows | InOrderOfTime | Unique

_SAID = ("author", "text")
_PULL_REQUEST_EVENTS = ("pull_request", "comment", "review", "review_comment")
_REVIEW_STATES = ("approved", "dismissed", "commented", "changes_requested")
_TITLED = ("opened", "edited", "reopened")
_OPENING = ("opened", "reopened")

_A_TIME = "2023-07-26T10:00:00Z"
_TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"

_EVERY_KIND = (OneOf("", "license_type", LICENSE_TYPES),)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "source_file": _EVERY_KIND,
    "issue": (
        *_EVERY_KIND,
        OneOf("events", "kind", ("comment", "closed")),
        Needs("events", {"kind": ("comment",)}, _SAID),
        InOrderOfTime("events", "created_at"),
    ),
    "pull_request": (
        *_EVERY_KIND,
        OneOf("events", "kind", _PULL_REQUEST_EVENTS),
        OneOf("events", "state", _REVIEW_STATES),
        Needs("events", {"kind": ("pull_request", "comment")}, ("action",)),
        Needs("events", {"kind": ("pull_request", "review", "review_comment")}, ("head_commit",)),
        Needs("events", {"kind": ("comment", "review", "review_comment")}, ("event_id",)),
        Needs("events", {"kind": ("pull_request",), "action": _TITLED}, ("title",)),
        Needs("events", {"kind": ("pull_request",), "action": ("closed",)}, ("merged",)),
        Needs("events", {"kind": ("review",)}, ("state",)),
        Needs("events", {"kind": ("review_comment",)}, ("path", "line", "hunk")),
        Has("events", {"kind": ("pull_request",), "action": _OPENING}),
        InOrderOfTime("events", "created_at"),
        NotEmpty("", "events"),
        Unique("heads", "commit"),
        Unique("base_files", "path"),
    ),
    "jupyter_script": _EVERY_KIND,
    "jupyter_structured": (
        *_EVERY_KIND,
        OneOf("cells", "kind", ("markdown", "code")),
        NotEmpty("", "cells"),
        Follows("cells", "kind", "markdown", "code"),
    ),
    "kaggle": (*_EVERY_KIND, OneOf("cells", "kind", ("markdown", "code"))),
    "documentation": (*_EVERY_KIND, NotEmpty("", "pages")),
    "intermediate": (*_EVERY_KIND, AnyOf("", ("size_optimized", "speed_optimized"))),
    "question_thread": _EVERY_KIND,
    "lhq": (
        *_EVERY_KIND,
        OneOf("", "kind", ("apps", "code_contests", "rosetta_code", "question_answer")),
        NotEmpty("", "solutions"),
    ),
    "plain_text": _EVERY_KIND,
}
"""The rules of each kind of record; kinds and columns are those of `schemas.py`."""


def broken_rules(table: pa.Table, kind: str) -> Iterator[Fault]:
    """What breaks the rules of a kind, of those that look at columns of the table."""
    places: dict[str, _Structures] = {}
    for rule in RULES[kind]:
        if not (rule.names if not rule.place else {rule.place}) <= set(table.column_names):
            continue
        if rule.place not in places:
            places[rule.place] = _structures_at(table, rule.place)
        yield from rule.broken(places[rule.place])


def _structures_at(table: pa.Table, place: str) -> _Structures:
    if not place:
        columns = {name: one_array(table[name]) for name in table.column_names}
        return _Structures("", columns, np.arange(table.num_rows))
    lists = one_array(table[place])
    structures = lists.flatten()
    fields = {field.name: pc.struct_field(structures, index) for index, field in enumerate(structures.type.fields)}
    return _Structures(place, fields, pc.list_parent_indices(lists).to_numpy())


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_in(values: pa.Array, known: tuple[str, ...]) -> pa.Array:
    return pc.is_in(values, value_set=pa.array(known, values.type))


def _where(mask: pa.Array) -> list[int]:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist()
