"""Licences: which one a text is, which files it covers, and what a file's amount to (StarCoder2 paper, section 2.1)."""

import codecs
import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa

from sc2jax.corpus import license_texts
from sc2jax.corpus.config import LicenseConfig, PartsConfig, SourceConfig
from sc2jax.corpus.decoding import decode
from sc2jax.corpus.license_texts import Told, tell
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import MAX_LICENSE_BYTES
from sc2jax.corpus.sources.listing import Listing, read_listed
from sc2jax.corpus.tables import table_rows
from sc2jax.progress import progress
from sc2jax.records.dataset import PartWriter, read_tables
from sc2jax.records.stage import Written

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
        pa.field("repository", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
    ]
)


def write_licenses(
    folder: str,
    listing: Listing,
    license_config: LicenseConfig,
    source_config: SourceConfig,
    parts_config: PartsConfig,
) -> Written:
    """Names the licences.

    A file that is not read, or is not what was listed, covers its folder as an unknown licence.

    Raises:
        UserError: a file is not what was listed, and that ends the work.
    """
    columns = (listing.licenses[name].to_pylist() for name in listing.licenses.column_names)
    known: dict[tuple[str, bool], frozenset[str]] = {}
    rows, changed = set(), LeftOut()
    candidates = progress(list(zip(*columns, strict=True)), desc="licences", unit="file")
    for repository, at, location, swhid, promised in candidates:
        found = known.get((swhid, promised)) if swhid else frozenset((UNREADABLE,))
        if found is None:
            (content,) = read_listed([location], [swhid], MAX_LICENSE_BYTES)
            if isinstance(content, SourceError):
                name = "" if b"\0" in location else os.path.basename(as_text(os.fsdecode(location)))  # noqa: PTH119
                place = "/".join(part for part in (repository, at, name) if part)
                if source_config.damaged == "stop":
                    raise SourceError(content.reason, place, content.detail).as_user_error()
                if content.reason == "changed":  # what a repository cannot give is counted where its files are read
                    changed.add(SourceError("changed_license", place))
                found = frozenset((UNREADABLE,))
            else:
                found = known[swhid, promised] = detect(content, promised, license_config.license_confidence)
        rows.update((repository, at, license_) for license_ in found)
    statistics = {"left_out": changed.statistics}
    if not rows:
        return [], statistics
    table = pa.table([list(column) for column in zip(*sorted(rows), strict=True)], schema=_LICENSES_FOUND)
    writer = PartWriter(folder, "licenses", _LICENSES_FOUND, parts_config.part_bytes)
    writer.add(table)
    return writer.finish(), statistics


def licenses_by_folder(stage: Committed) -> Mapping[str, Mapping[str, set[str]]]:
    """Repository -> folder -> the licences that were found there."""
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for table in read_tables(stage.folder, stage.manifest, "licenses"):
        for repository, folder, license_ in zip(*(column.to_pylist() for column in table.columns), strict=True):
            folders[repository][folder].add(license_)
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
    return told.licenses - _permissive()


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
    return "permissive" if found <= _permissive() else "non_permissive"


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
def _permissive() -> frozenset[str]:
    return frozenset(name for (name,) in table_rows("permissive_licenses.txt", 1))
