"""Licences: which one a text is, which files it covers, and what a file's amount to (StarCoder2 paper, section 2.1)."""

import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import askalono
import pyarrow as pa

from sc2jax.corpus.config import LicenseConfig, PartsConfig, SourceConfig
from sc2jax.corpus.decoding import decode
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.listing import Listing, read_listed
from sc2jax.corpus.tables import table_rows
from sc2jax.progress import progress
from sc2jax.records.dataset import PartWriter, read_tables
from sc2jax.records.stage import Written

TABLES = ("permissive_licenses.txt",)
"""What the answers depend on, in `data/`."""

MAX_LICENSE_BYTES = 128 * 1024
"""Longer texts are not looked at: no licence comes near this length."""

UNREADABLE = "LicenseRef-unreadable"
"""Stands for what a file that may tell of a licence says, if it cannot be read: not for "no licence"."""

_COPYRIGHT_LINE = re.compile(r"^\W*(copyright|\(c\)|©).*$", re.IGNORECASE | re.MULTILINE)
_LEGAL_WORDS = re.compile(r"warrant|public licen[cs]e|permission|redistribut")

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
    """Names the licences; of texts that differ only in copyright lines and the like, one is looked at.

    A file that cannot be read, or is not what was listed, covers its folder as an unknown licence.

    Raises:
        UserError: a file is not what was listed, and that ends the work.
    """
    columns = (listing.licenses[name].to_pylist() for name in ("repository", "folder", "location", "swhid"))
    by_content: dict[str, str] = {"": UNREADABLE}
    by_words: dict[str, str] = {}
    rows, changed = set(), LeftOut()
    candidates = progress(list(zip(*columns, strict=True)), desc="licences", unit="file")
    for repository, at, location, swhid in candidates:
        found = by_content.get(swhid)
        if found is None:
            try:
                content = read_listed(os.fsdecode(location), swhid, source_config.max_file_bytes)
                found = by_content[swhid] = _license_of(content, by_words, license_config.license_confidence)
            except SourceError as fault:
                if source_config.damaged == "stop":
                    raise fault.as_user_error() from fault
                name = os.path.basename(as_text(fault.location))  # noqa: PTH119
                changed.add(SourceError("changed_license", "/".join(part for part in (repository, at, name) if part)))
                found = UNREADABLE
        if found:
            rows.add((repository, at, found))
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


def normalized(text: str) -> str:
    """The words of a text alone: texts that differ in copyright lines, case, spaces and punctuation become equal."""
    return " ".join(re.findall(r"\w+", _COPYRIGHT_LINE.sub("", text).lower()))


def detect(text: str, confidence: float) -> str:
    """The SPDX identifier of the licence that a text is, or "".

    askalono compares the whole text with each licence of SPDX and names the nearest one, however far; a score below
    `confidence` counts as no answer, so a text that joins several licences has none. It mistakes an Apache
    licence without its appendix for Pixar's, which is an Apache licence that says so in its first line.

    askalono takes about 0.2 s for any text, so texts without a single legal word are not shown to it.
    """
    if len(text) > MAX_LICENSE_BYTES or not _LEGAL_WORDS.search(text.lower()):
        return ""
    license_ = askalono.identify(text)  # pyright: ignore[reportAttributeAccessIssue]
    if license_ is None or license_.score < confidence:
        return ""
    if license_.name == "Pixar" and "modified apache" not in normalized(text):
        return "Apache-2.0"
    return license_.name


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
    ScanCode findings count as neutral, which askalono never reports.
    """
    found = set(licenses)
    if not found:
        return "no_license"
    return "permissive" if found <= _permissive() else "non_permissive"


def _license_of(content: bytes, known: dict[str, str], confidence: float) -> str:
    decoded = decode(content) if b"\0" not in content else None
    if decoded is None or len(content) > MAX_LICENSE_BYTES:
        return ""
    words = normalized(decoded[0])
    if words not in known:
        known[words] = detect(decoded[0], confidence)
    return known[words]


@functools.cache
def _permissive() -> frozenset[str]:
    return frozenset(name for (name,) in table_rows("permissive_licenses.txt", 1))
