# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""From listed files to texts: reading, decoding, language, licence and filters, batch by batch."""

import hashlib
import os
from collections.abc import Sequence

import cchardet
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.filters import FILTERS, Batch
from sc2jax.corpus.language import is_excluded, language_of_interpreter, language_of_name
from sc2jax.corpus.sources import FILES, git_blob_id, read_bytes
from sc2jax.corpus.texts import Texts
from sc2jax.errors import UserError
from sc2jax.records.schemas import SOURCE_FILE

LISTED = pa.schema([*FILES, SOURCE_FILE.field("licenses"), SOURCE_FILE.field("license_type")])
"""A file to read, with the licences that cover it."""

DECIDED = pa.schema([*SOURCE_FILE, *(pa.field(name, pa.string()) for name in ("stage", "reason", "detail"))])
"""A file with what was decided on it; kept ones have no reason, rejected ones no content."""

_LEFT_OUT = "", "", ""


def decide_files(rows: pa.Table, config: CorpusConfig) -> pa.Table:
    """Reads the files of a batch (schema LISTED) and decides on each, up to the filters; the order of rows is kept.

    Raises:
        UserError: a file cannot be read or is not what was listed.
    """
    table = _read(rows, config)
    table = _reject_where(table, "license", "non_permissive_license", *_unwanted_license(table, config))
    open_rows = _undecided(table)
    for reason, rule in FILTERS.items():
        if not len(open_rows):
            break
        subset = table.take(pa.array(open_rows))
        batch = Batch(_flat(subset["path"]), _flat(subset["language"]), Texts(subset["content"]))
        verdict = rule(batch, config)
        fallen = np.flatnonzero(verdict.drop)
        if len(fallen):
            details = [verdict.detail(row) for row in fallen.tolist()]
            table = _reject_where(table, "filters", reason, open_rows[fallen].tolist(), details)
            open_rows = _undecided(table)
    return table


def decode(content: bytes) -> tuple[str, str] | None:
    """The text and the name of its encoding, or None.

    Strict UTF-8, else what cchardet says, strictly; line ends, byte order marks and Unicode forms stay as they are.
    """
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        encoding = cchardet.detect(content)["encoding"]
    if not encoding or encoding.upper().replace("_", "-") in ("UTF-8", "UTF-8-SIG"):
        return None
    try:
        text = content.decode(encoding)
        text.encode("utf-8")
    except (UnicodeError, LookupError):
        return None
    return text, encoding


def _read(rows: pa.Table, config: CorpusConfig) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in ("content", "encoding", "language", "stage", "reason", "detail")}
    locations, sizes, swhids = (rows[name].to_pylist() for name in ("location", "source_bytes", "swhid"))
    for location, size, swhid in zip(locations, sizes, swhids, strict=True):
        content, encoding, language, decision = _read_file(os.fsdecode(location), size, swhid, config)
        columns["content"].append(content)
        columns["encoding"].append(encoding)
        columns["language"].append(language)
        for name, value in zip(("stage", "reason", "detail"), decision, strict=True):
            columns[name].append(value)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in columns["content"]]
    given = {name: rows[name] for name in rows.column_names if name != "location"}
    return pa.table({**given, **columns, "text_sha256": digests}).select(DECIDED.names).cast(DECIDED)


def _read_file(
    location: str, size: int, swhid: str, config: CorpusConfig
) -> tuple[str, str, str, tuple[str, str, str]]:
    """Content, encoding, language, and the decision: (stage, reason, detail), all "" where the file goes on."""
    name = location.rsplit("/", 1)[-1]
    if size >= config.max_file_bytes:
        return *_LEFT_OUT, ("decoding", "too_large", f"{size} bytes")
    content = read_bytes(location)
    if git_blob_id(content) != swhid:
        raise UserError(f"{location} changed while the corpus was made; run the same command again")
    if not content:
        return *_LEFT_OUT, ("decoding", "empty", "")
    if b"\0" in content:
        return *_LEFT_OUT, ("decoding", "nul_byte", f"at byte {content.index(0)}")
    decoded = decode(content)
    if decoded is None:
        return *_LEFT_OUT, ("decoding", "undecodable", "neither UTF-8 nor any encoding that was recognised")
    text, encoding = decoded
    language = language_of_name(name) or language_of_interpreter(content)
    if not language:
        return "", encoding, "", ("language", "unknown_language", name)
    if is_excluded(language, name):
        return "", encoding, language, ("language", "excluded_extension", f"{language}, {name}")
    return text, encoding, language, _LEFT_OUT


def _unwanted_license(table: pa.Table, config: CorpusConfig) -> tuple[list[int], list[str]]:
    types, licenses = table["license_type"].to_pylist(), table["licenses"].to_pylist()
    rows = [row for row in _undecided(table).tolist() if types[row] not in config.keep_license_types]
    return rows, [", ".join(licenses[row]) or types[row] for row in rows]


def _undecided(table: pa.Table) -> np.ndarray:
    return np.flatnonzero(table["reason"].to_numpy() == "")


def _reject_where(table: pa.Table, stage: str, reason: str, rows: Sequence[int], details: Sequence[str]) -> pa.Table:
    """Marks rows (ascending) as rejected and empties their content."""
    if not len(rows):
        return table
    mask = np.zeros(table.num_rows, bool)
    mask[list(rows)] = True
    count = len(rows)
    values = {"stage": [stage] * count, "reason": [reason] * count, "detail": list(details), "content": [""] * count}
    for name, replacements in values.items():
        field = DECIDED.field(name)
        column = pc.replace_with_mask(_flat(table[name]), pa.array(mask), pa.array(replacements, field.type))
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
