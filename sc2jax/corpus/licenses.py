"""Licences: which files tell of one, which licence it is, and whom it covers (StarCoder2 paper, section 2.1)."""

import functools
import re
from collections.abc import Iterable, Mapping

import askalono

from sc2jax.assets import asset_path

TABLES = ("permissive_licenses.txt",)
"""What the answers depend on, in `data/`."""

MAX_LICENSE_BYTES = 128 * 1024
"""Longer texts are not looked at: no licence comes near this length."""

_NAMES = "|".join(
    (
        r"li[cs]en[cs]e(s?)",
        r"legal",
        r"copy(left|right|ing)",
        r"unlicense",
        r"[al]?gpl([-_ v]?)(\d\.?\d?)?",
        r"bsd(l?)",
        r"mit(x?)",
        r"apache",
        r"artistic",
        r"copying(v?)(\d?)",
        r"disclaimer",
        r"eupl",
        r"gfdl",
        r"[cm]pl",
        r"cc0",
        r"al([-_ v]?)(\d\.?\d)?",
        r"about",
        r"notice",
        r"readme",
        r"guidelines",
    )
)
_LICENSE_FILE = re.compile(rf"(|.*[-_. ])({_NAMES})(|[-_. ].*)", re.IGNORECASE)
_COPYRIGHT_LINE = re.compile(r"^\W*(copyright|\(c\)|©).*$", re.IGNORECASE | re.MULTILINE)
_LEGAL_WORDS = re.compile(r"warrant|public licen[cs]e|permission|redistribut")


def is_license_file(name: str) -> bool:
    """Whether a base name promises a licence; README and ABOUT do (The Stack v2's rule, from go-license-detector)."""
    return _LICENSE_FILE.fullmatch(name) is not None


def normalized(text: str) -> str:
    """The words of a text alone: texts that differ in copyright lines, case, spaces and punctuation become equal."""
    return " ".join(re.findall(r"\w+", _COPYRIGHT_LINE.sub("", text).lower()))


def detect(text: str, confidence: float) -> str:
    """The SPDX identifier of the licence that a text is, or "".

    askalono compares the whole text with each licence of SPDX and names the nearest one, however far; a score below
    `confidence` counts as no answer. A text that joins several licences so stays without one. It mistakes an Apache
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
    """The licences that cover a file: those of all the folders above it, for the nearest does not replace the others.

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

    The Stack v2 also asks what GHArchive knew about a repository, which a local folder has no answer to, and lets some
    ScanCode findings count as neutral, which askalono never reports.
    """
    found = set(licenses)
    if not found:
        return "no_license"
    return "permissive" if found <= _permissive() else "non_permissive"


@functools.cache
def _permissive() -> frozenset[str]:
    lines = asset_path("data", "permissive_licenses.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
