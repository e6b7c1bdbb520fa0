# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The recipe: from source trees to a curated corpus, in stages that each run once.

    sources -> licenses -> files (decoding, language, licence, filters) -> exact -> signatures -> near -> split

The stages lie below `stages/` of the output, each with its parts, its rejects and its manifest. They depend on the
content of the sources, on their own settings and on the tables in `data/`; killed at any moment, the next run
goes on after the last stage that was complete, and the outputs are the same bytes.
"""

import dataclasses
import errno
import functools
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from sc2jax.assets import asset_path
from sc2jax.corpus import language, licenses
from sc2jax.corpus.config import MIB, CorpusConfig
from sc2jax.corpus.deduplicate import write_exact, write_near, write_signatures
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.files import DECIDED, LISTED, decide_files, decode
from sc2jax.corpus.grouping import SIDES, write_sides, write_split
from sc2jax.corpus.machine import machine_sources
from sc2jax.corpus.sources import Listing, Source, list_sources, read_bytes
from sc2jax.corpus.stages import PartWriter, Rows, Written, funnel_line, read_ids, run_stage
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest, completed, join, stage_key
from sc2jax.records.schemas import REJECTED_FILE, SOURCE_FILE

VERSION = 2
"""Raised whenever the code changes what comes out."""

_UNIT_BYTES = MIB
"""Bytes of source files that are read and judged together."""

_FILE_STAGES = ("decoding", "language", "license", "filters")

_LICENSES_FOUND = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
    ]
)

_FILE_SETTINGS = (
    "max_file_bytes",
    "keep_license_types",
    "max_lines",
    "max_mean_line",
    "max_line",
    "max_line_exempt",
    "min_alphabetic",
    "max_encoded_run",
    "max_encoded_share",
    "max_data_lines",
    "part_bytes",
)
_NEAR_SETTINGS = ("near_ngram", "near_permutations", "near_threshold")


def curate(config: CorpusConfig, sources: Sequence[str], output: str, seed: int) -> Manifest:
    """Curates folders of repositories into `output`, or finds that it has been done.

    Args:
        config: the thresholds.
        sources: local folders; none means this machine's Python (`machine.py`).
        output: where the corpus goes: `train/`, `heldout/` and `rejects/` in Parquet, and `stages/`.
        seed: of the permutations of MinHash and of the choice among installed distributions.

    Returns:
        The manifest; its statistics hold the funnel, languages, licences and the two sides of the split.

    Raises:
        UserError: a source is missing, empty or unreadable, no file of it is usable, or the disk is full.
    """
    chosen = [Source(root) for root in sources] or machine_sources(config.max_distribution_bytes, seed)
    try:
        return _curate(config, list_sources(chosen, config.max_file_bytes, output), output, seed)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk that holds {output} is full; make room and run the same command again (finished stages stay)"
            ) from error
        raise


def _curate(config: CorpusConfig, listing: Listing, output: str, seed: int) -> Manifest:
    inputs = {"sources": listing.digest, "tables": _tables_digest()}
    settings = {**dataclasses.asdict(config), "seed": seed}
    done = completed(output, stage_key("curate", VERSION, settings, inputs))
    if done is not None:
        return done
    run = functools.partial(_run, output, config, seed)

    found = run("01-licenses", ("license_confidence",), inputs, lambda at: _write_licenses(at, listing, config))
    listed = _with_licenses(listing, output, found)
    judged = run(
        "02-files",
        _FILE_SETTINGS,
        {**inputs, "licenses": found.digest},
        lambda at: _write_files(at, listed, config),
    )
    files = Rows.of(_stage(output, "02-files"), judged, "kept")
    exact = run("03-exact", ("part_bytes",), {"files": judged.digest}, lambda at: write_exact(at, files, config))
    unique = read_ids(_stage(output, "03-exact"), exact, "kept")
    signed = run(
        "04-signatures",
        (*_NEAR_SETTINGS, "seed"),
        {"files": judged.digest, "exact": exact.digest},
        lambda at: write_signatures(at, files, unique, config, seed),
    )
    signed_at = _stage(output, "04-signatures")
    near = run(
        "05-near",
        (*_NEAR_SETTINGS, "part_bytes"),
        {"files": judged.digest, "exact": exact.digest, "signatures": signed.digest},
        lambda at: write_near(at, files, unique, signed_at, signed, config),
    )
    distinct = read_ids(_stage(output, "05-near"), near, "kept")
    split = run(
        "06-split",
        ("heldout_fraction", "heldout_similarity", "part_bytes"),
        {"files": judged.digest, "near": near.digest, "signatures": signed.digest},
        lambda at: write_split(at, files, distinct, signed_at, signed, config),
    )
    sides = {side: read_ids(_stage(output, "06-split"), split, side) for side in SIDES}
    stages = {"02-files": judged, "03-exact": exact, "05-near": near, "06-split": split}
    _refuse_empty(sides, stages)
    return run_stage(
        output, "curate", VERSION, settings, inputs, lambda at: _write_corpus(at, files, sides, stages, config)
    )


def _run(
    output: str,
    config: CorpusConfig,
    seed: int,
    name: str,
    fields: Sequence[str],
    inputs: Mapping[str, str],
    write: Callable[[str], Written],
) -> Manifest:
    """Runs one stage, which depends on these settings alone."""
    everything = {**dataclasses.asdict(config), "seed": seed}
    return run_stage(_stage(output, name), name, VERSION, {field: everything[field] for field in fields}, inputs, write)


def _stage(output: str, name: str) -> str:
    return join(output, f"stages/{name}")


def _write_licenses(folder: str, listing: Listing, config: CorpusConfig) -> Written:
    """Names the licences; texts that differ only in copyright lines and the like are looked at once."""
    columns = (listing.licenses[name].to_pylist() for name in ("repository", "folder", "location", "swhid"))
    by_content: dict[str, str] = {}
    by_words: dict[str, str] = {}
    rows = set()
    candidates = tqdm(list(zip(*columns, strict=True)), desc="licences", unit="file", disable=None)
    for repository, at, location, swhid in candidates:
        if swhid not in by_content:
            by_content[swhid] = _license_of(read_bytes(os.fsdecode(location)), by_words, config.license_confidence)
        if by_content[swhid]:
            rows.add((repository, at, by_content[swhid]))
    if not rows:
        return [], {}
    table = pa.table([list(column) for column in zip(*sorted(rows), strict=True)], schema=_LICENSES_FOUND)
    writer = PartWriter(folder, "licenses", _LICENSES_FOUND, config.part_bytes)
    writer.add(table)
    return writer.finish(), {}


def _license_of(content: bytes, known: dict[str, str], confidence: float) -> str:
    decoded = decode(content) if b"\0" not in content else None
    if decoded is None or len(content) > licenses.MAX_LICENSE_BYTES:
        return ""
    words = licenses.normalized(decoded[0])
    if words not in known:
        known[words] = licenses.detect(decoded[0], confidence)
    return known[words]


def _with_licenses(listing: Listing, output: str, found: Manifest) -> pa.Table:
    """The listed files with the licences that cover each and what they amount to."""
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for table in read_tables(_stage(output, "01-licenses"), found, "licenses"):
        for repository, folder, license_ in zip(*(column.to_pylist() for column in table.columns), strict=True):
            folders[repository][folder].add(license_)
    types: dict[tuple[str, ...], str] = {(): licenses.license_type(())}
    covering, kinds = [], []
    for repository, path in zip(*(listing.files[name].to_pylist() for name in ("repository", "path")), strict=True):
        own = licenses.covering(path, folders[repository]) if repository in folders else ()
        if own not in types:
            types[own] = licenses.license_type(own)
        covering.append(own)
        kinds.append(types[own])
    table = listing.files.append_column("licenses", pa.array(covering, pa.list_(pa.string())))
    return table.append_column("license_type", pa.array(kinds, pa.string())).cast(LISTED)


def _write_files(folder: str, listed: pa.Table, config: CorpusConfig) -> Written:
    """Reads all files and keeps those that pass every filter."""
    size = listed["source_bytes"].to_numpy()
    readable = np.where(size < config.max_file_bytes, size, 0)
    unit = (np.cumsum(readable) - readable) // _UNIT_BYTES
    cuts = np.flatnonzero(np.diff(unit, prepend=-1))
    kept = PartWriter(folder, "kept", SOURCE_FILE, config.part_bytes)
    rejects = PartWriter(folder, "rejects", REJECTED_FILE, config.part_bytes)
    dropped: dict[tuple[str, str], tuple[int, int]] = {}
    decide = functools.partial(decide_files, config=config)
    with map_units(listed, cuts, decide, DECIDED) as decided:
        for table in tqdm(decided, total=len(cuts), desc="files", unit="batch", disable=None):
            fallen = pc.not_equal(table["reason"], "")
            kept.add(table.filter(pc.invert(fallen)).select(SOURCE_FILE.names))
            lost = table.filter(fallen).select(REJECTED_FILE.names)
            rejects.add(lost)
            columns = (lost[name].to_pylist() for name in ("stage", "reason", "source_bytes"))
            for stage, reason, lost_bytes in zip(*columns, strict=True):
                files, total = dropped.get((stage, reason), (0, 0))
                dropped[stage, reason] = files + 1, total + lost_bytes
    return kept.finish() + rejects.finish(), {"funnel": _file_funnel(len(size), int(size.sum()), dropped)}


def _file_funnel(files: int, size: int, dropped: Mapping[tuple[str, str], tuple[int, int]]) -> list[dict[str, Any]]:
    lines = []
    for stage in _FILE_STAGES:
        reasons = {reason: counts for (at, reason), counts in dropped.items() if at == stage}
        lines.append(funnel_line(stage, files, size, reasons))
        files, size = lines[-1]["files_out"], lines[-1]["bytes_out"]
    return lines


def _write_corpus(
    folder: str, files: Rows, sides: dict[str, np.ndarray], stages: Mapping[str, Manifest], config: CorpusConfig
) -> Written:
    """Writes both sides and all rejects, and adds the figures of the stages up."""
    (outputs, statistics), counts = write_sides(folder, files, sides, config)
    rejects = PartWriter(folder, "rejects", REJECTED_FILE, config.part_bytes)
    for name, manifest in stages.items():
        for table in read_tables(join(folder, f"stages/{name}"), manifest, "rejects"):
            rejects.add(table)
    funnel = [line for manifest in stages.values() for line in manifest.statistics["funnel"]]
    languages = {
        name: {"files": files_, "bytes": counts["language_bytes"][name]}
        for name, files_ in counts["language_files"].items()
    }
    statistics |= {
        "funnel": funnel,
        "languages": languages,
        "licenses": dict(counts["license_files"]),
        "files_in": funnel[0]["files_in"],
        "bytes_in": funnel[0]["bytes_in"],
        "files_out": funnel[-1]["files_out"],
        "bytes_out": funnel[-1]["bytes_out"],
    }
    return outputs + rejects.finish(), statistics


def _refuse_empty(sides: Mapping[str, np.ndarray], stages: Mapping[str, Manifest]) -> None:
    if len(sides["train"]):
        return
    reasons: Counter[str] = Counter()
    for manifest in stages.values():
        for line in manifest.statistics["funnel"]:
            reasons.update(line["dropped"])
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    raise UserError(f"no usable file is left of the sources ({listed}); name a folder with source code in it")


def _tables_digest() -> str:
    """A digest of the tables in `data/` that decisions depend on."""
    digest = hashlib.sha256()
    for name in (*language.TABLES, *licenses.TABLES):
        digest.update(asset_path("data", name).read_bytes())
    return digest.hexdigest()
