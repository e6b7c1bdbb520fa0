# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Whether the rows of a table are records of their kind: checked when they are written, and when they are read.

The columns have the names and the types of a schema; what a schema calls never null is not, at any depth; texts are
UTF-8; the rules of the kind hold; and the texts of source files are those that were written.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from sc2jax.errors import UserError
from sc2jax.records.faults import Fault, first_of_each_row, shown
from sc2jax.records.rules import broken_rules, one_array
from sc2jax.records.schemas import SCHEMAS
from sc2jax.records.source_texts import changed_texts


def kind_of(schema: pa.Schema) -> str:
    """The kind of record that a schema belongs to; "" for any other table."""
    return next((kind for kind, known in SCHEMAS.items() if known.names == schema.names), "")


def refuse_other_columns(found: pa.Schema, wanted: pa.Schema, names: Sequence[str], where: str) -> None:
    """Makes sure that a table has some of a schema's columns, with their types; it may have others besides.

    Texts and lists may be of either size, and whole numbers of any width.

    Raises:
        UserError: naming `where`, the columns that are missing, and those of other types.
    """
    twice = sorted({name for name in found.names if found.names.count(name) > 1})
    missing = [name for name in names if name not in found.names]
    others = [
        f"{name} is {found.field(name).type} instead of {wanted.field(name).type}"
        for name in names
        if name not in [*missing, *twice] and not _alike(found.field(name).type, wanted.field(name).type)
    ]
    problems = [f"there are several columns {name}" for name in twice]
    problems += [f"the columns {', '.join(missing)} are missing"] if missing else []
    problems += others
    if problems:
        what = "; ".join(problems)
        raise UserError(f"{where} holds other records than are asked for: {what}; name another dataset or make it anew")


def in_types_of(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """A table whose columns `refuse_other_columns` has let pass, in the types of the schema; anything may be null.

    Raises:
        UserError: a number is too great for its column.
    """
    wanted = pa.schema([pa.field(name, _nullable(schema.field(name).type)) for name in table.column_names])
    if list(map(_nullable, table.schema.types)) == wanted.types:
        return table
    try:
        return table.cast(wanted)
    except pa.ArrowException as error:
        raise UserError(
            f"{where} holds a value that its column cannot: {error}; correct it, or leave it out"
        ) from error


def find_faults(table: pa.Table, schema: pa.Schema, kind: str) -> list[Fault]:
    """The rows of a table that are no records of their kind, each with the first thing that is wrong.

    Args:
        table: with columns of the schema's names and types (`in_types_of`), not necessarily all of them.
        schema: says what may be null.
        kind: names further rules; "" if there are none.
    """
    unreadable = first_of_each_row([*_nulls(table, schema), *_no_texts(table)])
    rows = np.setdiff1d(np.arange(table.num_rows), [fault.row for fault in unreadable])
    readable = table.take(pa.array(rows)) if unreadable else table
    wrong = [*(broken_rules(readable, kind) if kind else ()), *changed_texts(readable)]
    return first_of_each_row([*unreadable, *(fault._replace(row=int(rows[fault.row])) for fault in wrong)])


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of one type can be a value of the other."""
    if types.is_null(found) or found == wanted:
        return True
    if _is_text(wanted):
        return _is_text(found) or (types.is_dictionary(found) and _is_text(found.value_type))
    if types.is_integer(wanted):
        return types.is_integer(found)
    if _is_list(wanted):
        return _is_list(found) and _alike(found.value_type, wanted.value_type)
    if types.is_struct(wanted):
        return (
            types.is_struct(found)
            and [field.name for field in found.fields] == [field.name for field in wanted.fields]
            and all(_alike(ours.type, theirs.type) for ours, theirs in zip(found.fields, wanted.fields, strict=True))
        )
    return False


def _nullable(kind: pa.DataType) -> pa.DataType:
    """A type of which every part may be null."""
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _nullable(field.type)) for field in kind.fields])
    if types.is_large_list(kind):
        return pa.large_list(_nullable(kind.value_type))
    return pa.list_(_nullable(kind.value_type)) if types.is_list(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind)


def _nulls(table: pa.Table, schema: pa.Schema) -> Iterator[Fault]:
    """The values that are null where the schema has no field for that."""
    for name in table.column_names:
        if name in schema.names:
            rows = np.arange(table.num_rows)
            yield from _nulls_in(one_array(table[name]), schema.field(name), name, rows)


def _nulls_in(values: pa.Array, field: pa.Field, name: str, rows: np.ndarray) -> Iterator[Fault]:
    if not len(values):
        return
    if values.null_count:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        if not field.nullable:
            yield from (Fault(row, "no_value", f"{name} is null") for row in rows[~valid].tolist())
        values, rows = values.filter(pa.array(valid)), rows[valid]
    if _is_list(field.type):
        owners = rows[pc.list_parent_indices(values).to_numpy()]
        yield from _nulls_in(values.flatten(), field.type.value_field, f"{name}[]", owners)
    elif types.is_struct(field.type):
        for index, inner in enumerate(field.type.fields):
            yield from _nulls_in(pc.struct_field(values, index), inner, f"{name}.{inner.name}", rows)


def _no_texts(table: pa.Table) -> Iterator[Fault]:
    """The rows in which a string is no UTF-8, which Arrow checks as a whole, and only when asked to."""
    if _is_valid(table):
        return
    for row in range(table.num_rows):
        for name in table.column_names:
            if not _is_valid(table.select([name]).take(pa.array([row]))):
                yield Fault(row, "not_text", f"{name} holds bytes that are no UTF-8")


def _is_valid(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def identities(names: Sequence[str]) -> list[str]:
    """Those of the columns that say who a record is."""
    return ["id"] if "id" in names else [name for name in ("repository", "path") if name in names]


def described(fault: Fault, names: pa.Table) -> str:
    """A fault with its row and the identity of the record, given a table with the columns that name it."""
    try:
        (record,) = names.select(identities(names.column_names)).slice(fault.row, 1).to_pylist()
    except UnicodeDecodeError:
        record = {}
    identity = "/".join(str(value) for value in record.values())
    return f"row {fault.row} ({shown(identity)[1:-1] or 'without a name'}): {fault.what}"
