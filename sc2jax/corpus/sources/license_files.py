"""Which files may tell of a licence (The Stack v2's rule, from go-license-detector)."""

import re

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


def is_license_file(name: str) -> bool:
    """Whether a base name promises a licence; README and ABOUT do."""
    return _LICENSE_FILE.fullmatch(name) is not None
