"""Which files may tell of a licence (The Stack v2's rule, from go-license-detector), and which promise to."""

import re

from sc2jax.corpus.language import language_of_name

MAX_LICENSE_BYTES = 1 << 20
"""Longer ones are not read: what they say is unknown."""

_TITLES = r"li[cs]en[cs]e(s?)|copy(left|right|ing)|unlicense|copying(v?)(\d?)"
_FAMILIES = r"[al]?gpl([-_ v]?)(\d\.?\d?)?|bsd(l?)|mit(x?)|apache|artistic|eupl|gfdl|[cm]pl|cc0"
_HINTS = r"legal|disclaimer|al([-_ v]?)(\d\.?\d)?|about|notice|readme|guidelines"

_LICENSE_FILE = re.compile(rf"(|.*[-_. ])({_TITLES}|{_FAMILIES}|{_HINTS})(|[-_. ].*)", re.IGNORECASE)
_PROMISE = re.compile(rf"(|.*[-_. ])({_TITLES})(|[-_. ].*)|({_FAMILIES})([-_ .]?v?[\d.]*)(\.[a-z]+)?", re.IGNORECASE)
_PICTURE = re.compile(r".*\.(png|jpe?g|gif|ico|svg|webp|bmp)", re.IGNORECASE)

_PROSE = frozenset(
    (
        "AsciiDoc",
        "Creole",
        "HTML",
        "MDX",
        "Markdown",
        "Org",
        "Pod",
        "Pod 6",
        "RDoc",
        "RMarkdown",
        "Rich Text Format",
        "Roff",
        "Roff Manpage",
        "TeX",
        "Texinfo",
        "Text",
        "Textile",
        "Wikitext",
        "XML",
        "reStructuredText",
    )
)
"""Languages that licences are written in; a file in another one, such as `license.py`, is a program or data."""

_REUSE_FOLDER = "LICENSES"
"""Holds the licences of the folder that it lies in (https://reuse.software)."""

DISTRIBUTION_SUFFIXES = (".dist-info", ".egg-info")
"""Of folders with the metadata of what was installed beside them; a licence in there speaks for that."""


def is_license_file(name: str) -> bool:
    """Whether a file with this base name may tell of a licence; README and ABOUT do."""
    return _LICENSE_FILE.fullmatch(name) is not None


def promises_license(path: str) -> bool:
    """Whether a file must tell of a licence by its name; where it cannot be told which, that is unknown, not none."""
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == _REUSE_FOLDER:
        return True
    if not _PROMISE.fullmatch(name) or _PICTURE.fullmatch(name):
        return False
    language = language_of_name(name)
    return not language or language in _PROSE


def licensed_folder(path: str) -> str | None:
    """The folder whose files the file at this path may license ("" is the root); None if it is no licence file."""
    folder, _, name = path.rpartition("/")
    above, _, last = folder.rpartition("/")
    if last == _REUSE_FOLDER:
        return above
    return folder if is_license_file(name) else None
