"""A file's language by its name, from Linguist's tables (StarCoder2 paper, section 2.1)."""

import functools
import re

from sc2jax.corpus.tables import table_rows
from sc2jax.errors import UserError

TABLES = ("languages.tsv", "excluded_extensions.tsv")
"""What the answers depend on, in `data/`."""

_INTERPRETER = re.compile(rb"#![ \t]*(?:\S*/)?env(?:[ \t]+-\S+|[ \t]+\w+=\S*)*[ \t]+(\S+)|#![ \t]*(\S+)")


def language_of_name(name: str) -> str:
    """The language of a file with this base name, or "".

    The whole name decides first, then its longest known extension (`x.d.ts` is tried as `.d.ts`, then `.ts`), in any
    case. Where Linguist would look into the file to choose between several languages, `languages.tsv` holds one.
    """
    tables = _languages()
    if name in tables["filename"]:
        return tables["filename"][name]
    lowered, extensions = name.lower(), tables["extension"]
    dot = lowered.find(".")
    while dot >= 0:
        if lowered[dot:] in extensions:
            return extensions[lowered[dot:]]
        dot = lowered.find(".", dot + 1)
    return ""


def language_of_interpreter(content: bytes) -> str:
    """The language of a script by its `#!` line, or ""; `python3.11` is tried as such, then without the version."""
    if not content.startswith(b"#!"):
        return ""
    found = _INTERPRETER.match(content.split(b"\n", 1)[0])
    if not found:
        return ""
    interpreter = (found[1] or found[2]).decode("utf-8", "replace").rsplit("/", 1)[-1]
    table = _languages()["interpreter"]
    for name in (interpreter, re.sub(r"\d*\.\d+$", "", interpreter), re.sub(r"[\d.]+$", "", interpreter)):
        if name in table:
            return table[name]
    return ""


def is_excluded(language: str, name: str) -> bool:
    """Whether the inspection of The Stack v2 excluded this language's files with the last extension of `name`."""
    return (language, name.lower().rpartition(".")[2] if "." in name else "") in _excluded()


@functools.cache
def _languages() -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {"filename": {}, "extension": {}, "interpreter": {}}
    for kind, name, language in table_rows("languages.tsv", 3)[1:]:
        if kind not in tables:
            raise UserError(f"data/languages.tsv is damaged at {kind!r}; install sc2jax again")
        tables[kind][name] = language
    return tables


@functools.cache
def _excluded() -> frozenset[tuple[str, str]]:
    return frozenset((language, extension) for language, extension in table_rows("excluded_extensions.tsv", 2)[1:])
