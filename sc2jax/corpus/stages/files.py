# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Files: from listed files to texts, by decoding, language, licence and filters, batch by batch."""

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import MIB, FilterConfig, PartsConfig, SourceConfig
from sc2jax.corpus.decoding import decode
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.language import is_excluded, language_of_interpreter, language_of_name
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.outcomes import funnel_line
from sc2jax.corpus.sources.contents import Content
from sc2jax.corpus.sources.heritage_contents import KIND, refuse_too_many_failed
from sc2jax.corpus.sources.left_out import REASONS, LeftOut, SourceError
from sc2jax.corpus.sources.listing import FILES, Listing, read_listed
from sc2jax.corpus.stages.filters import FILTERS, FileBatch
from sc2jax.corpus.stages.licenses import covering, license_type, licenses_by_folder
from sc2jax.corpus.texts import Texts
from sc2jax.progress import progress
from sc2jax.records.dataset import PartWriter
from sc2jax.records.edits import edits_sha256
from sc2jax.records.schemas import REJECTED_FILE, SOURCE_FILE
from sc2jax.records.stage import Written
from sc2jax.records.statistics import StageFunnel

LISTED = pa.schema([*FILES, SOURCE_FILE.field("licenses"), SOURCE_FILE.field("license_type")])
"""A file to read, with the licences that cover it."""

DECIDED = pa.schema([*SOURCE_FILE, *(pa.field(name, pa.string()) for name in ("stage", "reason", "detail"))])
"""A file with what was decided on it; kept ones have no reason, rejected ones no content."""

_UNIT_BYTES = MIB
"""Bytes of source files that are read and judged together."""

_DECISIONS = ("decoding", "language", "license", "filters")
"""What decides on a file, in this order: a line of the funnel each."""

_LEFT_OUT = "", "", ""


def write_files(
    folder: str,
    listing: Listing,
    licenses: Committed,
    source_config: SourceConfig,
    filter_config: FilterConfig,
    parts_config: PartsConfig,
) -> Written:
    """Reads all files and keeps those that pass every filter."""
    listed = _with_licenses(listing.files, licenses)
    size = listed["source_bytes"].to_numpy()
    limit = source_config.max_file_bytes
    readable = np.where(size < limit, size, 0)
    unit = (np.cumsum(readable) - readable) // _UNIT_BYTES
    cuts = np.flatnonzero(np.diff(unit, prepend=-1))
    kept = PartWriter(folder, "kept", SOURCE_FILE, parts_config.part_bytes)
    rejects = PartWriter(folder, "rejects", REJECTED_FILE, parts_config.part_bytes)
    dropped: dict[tuple[str, str], tuple[int, int]] = {}
    unread = LeftOut()
    archived = pc.and_(pc.starts_with(listed["location"], KIND), pc.less(listed["source_bytes"], limit))
    asked = pc.sum(archived).as_py() or 0
    decide = functools.partial(decide_files, source_config=source_config, filter_config=filter_config)
    with map_units(listed, cuts, decide, DECIDED) as decided:
        for table in progress(decided, total=len(cuts), desc="files", unit="batch"):
            fallen = pc.not_equal(table["reason"], "")
            kept.add(table.filter(pc.invert(fallen)).select(SOURCE_FILE.names))
            lost = table.filter(fallen).select(REJECTED_FILE.names)
            rejects.add(lost)
            columns = (lost[name].to_pylist() for name in ("stage", "reason", "source_bytes"))
            for stage, reason, lost_bytes in zip(*columns, strict=True):
                files, total = dropped.get((stage, reason), (0, 0))
                dropped[stage, reason] = files + 1, total + lost_bytes
            _count_unread(lost.filter(pc.is_in(lost["reason"], pa.array(REASONS))), unread)
            refuse_too_many_failed(unread.statistics, asked, source_config.max_failed_share)
    funnel = _file_funnel(len(size), int(size.sum()), dropped)
    return kept.finish() + rejects.finish(), {"funnel": funnel, "left_out": unread.statistics}


def decide_files(rows: pa.Table, source_config: SourceConfig, filter_config: FilterConfig) -> pa.Table:
    """Reads the files of a batch (schema LISTED) and decides on each, up to the filters; the order of rows is kept.

    Raises:
        UserError: a file cannot be read or is not what was listed, and that ends the work.
    """
    table = _read(rows, source_config)
    table = _reject_where(table, "license", "non_permissive_license", *_unwanted_license(table, filter_config))
    open_rows = _undecided(table)
    for reason, rule in FILTERS.items():
        if not len(open_rows):
            break
        subset = table.take(pa.array(open_rows))
        batch = FileBatch(_flat(subset["path"]), _flat(subset["language"]), Texts(subset["content"]))
        verdict = rule(batch, filter_config)
        fallen = np.flatnonzero(verdict.drop)
        if len(fallen):
            details = [verdict.detail(row) for row in fallen.tolist()]
            table = _reject_where(table, "filters", reason, open_rows[fallen].tolist(), details)
            open_rows = _undecided(table)
    return table


def _count_unread(lost: pa.Table, unread: LeftOut) -> None:
    columns = (lost[name].to_pylist() for name in ("reason", "repository", "path", "detail"))
    for reason, repository, path, detail in zip(*columns, strict=True):
        unread.add(SourceError(reason, f"{repository}/{path}", detail))


def _read(rows: pa.Table, config: SourceConfig) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in ("content", "encoding", "language", "stage", "reason", "detail")}
    repositories, paths, sizes = (rows[name].to_pylist() for name in ("repository", "path", "source_bytes"))
    small = rows.filter(pc.less(rows["source_bytes"], config.max_file_bytes))
    contents = read_listed(small["location"].to_pylist(), small["swhid"].to_pylist(), config.max_file_bytes)
    for repository, path, size in zip(repositories, paths, sizes, strict=True):
        content = next(contents) if size < config.max_file_bytes else None
        if isinstance(content, SourceError) and config.damaged == "stop":
            raise SourceError(content.reason, f"{repository}/{path}", content.detail).as_user_error()
        text, encoding, language, decision = _read_file(path.rpartition("/")[2], size, content)
        columns["content"].append(text)
        columns["encoding"].append(encoding)
        columns["language"].append(language)
        for name, value in zip(("stage", "reason", "detail"), decision, strict=True):
            columns[name].append(value)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in columns["content"]]
    columns["edits"] = [[]] * rows.num_rows
    columns["edits_sha256"] = [edits_sha256([])] * rows.num_rows
    given = {name: rows[name] for name in rows.column_names if name != "location"}
    return pa.table({**given, **columns, "text_sha256": digests}).select(DECIDED.names).cast(DECIDED)


def _read_file(name: str, size: int, content: Content | None) -> tuple[str, str, str, tuple[str, str, str]]:
    """Text, encoding, language, and the decision: (stage, reason, detail), all "" where the file goes on.

    One that is too large to be read has no content.
    """
    if content is None:
        return *_LEFT_OUT, ("decoding", "too_large", f"{size} bytes")
    if isinstance(content, SourceError):
        return *_LEFT_OUT, ("decoding", content.reason, content.detail)
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


def _unwanted_license(table: pa.Table, config: FilterConfig) -> tuple[list[int], list[str]]:
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


def _with_licenses(files: pa.Table, found: Committed) -> pa.Table:
    """The listed files with the licences that cover each, and what those amount to."""
    by_folder = licenses_by_folder(found)
    types: dict[tuple[str, ...], str] = {(): license_type(())}
    covered_by, kinds = [], []
    for repository, path in zip(files["repository"].to_pylist(), files["path"].to_pylist(), strict=True):
        own = covering(path, by_folder[repository]) if repository in by_folder else ()
        if own not in types:
            types[own] = license_type(own)
        covered_by.append(own)
        kinds.append(types[own])
    table = files.append_column("licenses", pa.array(covered_by, pa.list_(pa.string())))
    return table.append_column("license_type", pa.array(kinds, pa.string())).cast(LISTED)


def _file_funnel(files: int, size: int, dropped: Mapping[tuple[str, str], tuple[int, int]]) -> list[StageFunnel]:
    lines: list[StageFunnel] = []
    for stage in _DECISIONS:
        reasons = {reason: counts for (at, reason), counts in dropped.items() if at == stage}
        lines.append(funnel_line(stage, files, size, reasons))
        files, size = lines[-1]["files_out"], lines[-1]["bytes_out"]
    return lines
