"""Licences: which one a text is, which files it covers, and what a file's amount to (StarCoder2 paper, section 2.1)."""

import codecs
import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa

from sc2jax.corpus import license_texts
from sc2jax.corpus.config import MIB, LicenseConfig, SourceConfig
from sc2jax.corpus.decoding import decode
from sc2jax.corpus.license_texts import Told, tell
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text, together
from sc2jax.corpus.sources.license_files import MAX_LICENSE_BYTES
from sc2jax.corpus.sources.listing import read_listed
from sc2jax.corpus.stages.listing import Listing, rows_of, rows_table
from sc2jax.corpus.tables import Tables, table_rows
from sc2jax.corpus.units import UnitResult, Units, do_units
from sc2jax.records.dataset import PartWriter
from sc2jax.records.manifest import sha256_of
from sc2jax.records.stage import Written
from sc2jax.settings import decisive

TABLES = ("permissive_licenses.txt", *license_texts.TABLES)
"""What the answers depend on, in `data/`."""

UNREADABLE = "LicenseRef-unreadable"
"""Stands for what a file that may tell of a licence says, if it is not read: not for "no licence"."""

UNKNOWN = "LicenseRef-unknown"
"""Stands for what a file says that promises a licence, if that is none that is known, or more than those."""

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks -> encoding; the longer ones first, for they begin like the others."""

_LICENSES_FOUND = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
    ]
)
"""A licence that was found in a folder of a repository, which is named by its number in its unit."""

_KNOWN = 1 << 14
"""Texts whose licences a process remembers."""


def write_licenses(
    folder: str,
    notes: str,
    earlier: Units | None,
    listing: Listing,
    tables: Tables,
    license_config: LicenseConfig,
    source_config: SourceConfig,
) -> Written:
    """Names the licences.

    A file that is not read, or is not what was listed, covers its folder as an unknown licence.

    Raises:
        UserError: a file is not what was listed, and that ends the work.
    """
    keys = [sha256_of([unit, decisive(license_config), tables.digest]) for unit in listing.digests]
    work = functools.partial(_find, listing=listing, confidence=license_config.license_confidence, config=source_config)
    retry = source_config.retry_failed
    outputs, results = do_units(folder, notes, earlier, keys, listing.digests, work, "licences", retry_failed=retry)
    left_out = together(*(result.statistics["left_out"] for result in results))
    return outputs, {"left_out": left_out, "failed": sum(result.failed for result in results)}


def _find(folder: str, label: str, unit: int, listing: Listing, confidence: float, config: SourceConfig) -> UnitResult:
    """The licences of the repositories of a unit."""
    names = listing.table(unit, "repositories")["repository"].to_pylist()
    rows, changed, failed = set(), LeftOut(), 0
    for number, at, location, swhid, promised in rows_of(listing.table(unit, "licenses")):
        found = frozenset((UNREADABLE,))
        if swhid and names[number]:
            content = _licenses_of(location, swhid, promised, confidence)
            if isinstance(content, SourceError):
                failed += 1
                name = "" if b"\0" in location else os.path.basename(as_text(os.fsdecode(location)))  # noqa: PTH119
                place = "/".join(part for part in (names[number], at, name) if part)
                if config.damaged == "stop":
                    raise SourceError(content.reason, place, content.detail).as_user_error()
                if content.reason == "changed":  # what a repository cannot give is counted where its files are read
                    changed.add(SourceError("changed_license", place))
            else:
                found = content
        rows.update((number, at, license_) for license_ in found)
    writer = PartWriter(folder, "licenses", _LICENSES_FOUND, _PART_BYTES, label)
    writer.add(rows_table(sorted(rows), _LICENSES_FOUND))
    return UnitResult(tuple(writer.finish()), len(rows), {"left_out": changed.statistics}, not changed, failed)


_PART_BYTES = 64 * MIB


def _licenses_of(location: bytes, swhid: str, promised: bool, confidence: float) -> frozenset[str] | SourceError:
    """What a listed file tells of; the licences of a text that many repositories hold are found once."""
    found = _TOLD.get((swhid, promised, confidence))
    if found is None:
        (content,) = read_listed([location], [swhid], MAX_LICENSE_BYTES)
        if isinstance(content, SourceError):
            return content
        if len(_TOLD) >= _KNOWN:
            _TOLD.clear()
        found = _TOLD[swhid, promised, confidence] = detect(content, promised, confidence)
    return found


_TOLD: dict[tuple[str, bool, float], frozenset[str]] = {}


def licenses_by_folder(found: Units, unit: int) -> Mapping[int, Mapping[str, set[str]]]:
    """Of a unit: number of a repository -> folder -> the licences that were found there."""
    folders: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for _, table in found.rows(unit, "licenses").groups(_LICENSES_FOUND.names):
        for number, folder, license_ in rows_of(table):
            folders[number][folder].add(license_)
    return folders


def detect(content: bytes, promised: bool, confidence: float) -> frozenset[str]:
    """The licences that a file tells of.

    A file that promises a licence is known as a whole or `UNKNOWN`: an added condition, or another licence that is not
    known, decides. Of any other file, such as a README, a licence that is not permissive counts wherever it stands in
    it, and a permissive one where the file says nothing else.
    """
    text = _text(content)
    told = tell(text, confidence) if text is not None else Told(frozenset(), False)
    if told.whole:
        return told.licenses
    if promised:
        return told.licenses | {UNKNOWN if text is not None else UNREADABLE}
    return told.licenses - permissive()


def covering(path: str, by_folder: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The licences that cover a file: those of all folders above it; the nearest does not replace the others.

    Args:
        path: of the file, relative to its repository.
        by_folder: licences found in each folder of that repository; the root is "".
    """
    found = set(by_folder.get("", ()))
    for at, character in enumerate(path):
        if character == "/":
            found.update(by_folder.get(path[:at], ()))
    return tuple(sorted(found))


def license_type(licenses: Iterable[str]) -> str:
    """`permissive`, `no_license` or `non_permissive`: one licence that is not permissive decides.

    The Stack v2 also asks what GHArchive knew about a repository, which is unknown for a local folder, and lets some
    ScanCode findings count as neutral, which are never reported here.
    """
    found = set(licenses)
    if not found:
        return "no_license"
    return "permissive" if found <= permissive() else "non_permissive"


def _text(content: bytes) -> str | None:
    """The text of a licence file, in UTF-16 and UTF-32 too; None if there is none."""
    try:
        for mark, encoding in _MARKS.items():
            if content.startswith(mark):
                return content.decode(encoding)
    except UnicodeDecodeError:
        return None
    decoded = decode(content) if b"\0" not in content else None
    return decoded[0] if decoded else None


@functools.cache
def permissive() -> frozenset[str]:
    """The SPDX identifiers of permissive licences."""
    return frozenset(name for (name,) in table_rows("permissive_licenses.txt", 1))
