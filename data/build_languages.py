"""Writes languages.tsv from a languages.yml of Linguist.

    python data/build_languages.py languages.yml > data/languages.tsv

Where several languages claim a name, exactly one is chosen, by the first of these rules that decides:

1. `language_ties.tsv`, for names where the rules below would pick a rare language;
2. languages that list the name first, as their primary one;
3. programming languages before markup, data and prose;
4. alphabetical order.

Needs PyYAML, which sc2jax itself does not.
"""

import sys
from collections import defaultdict
from pathlib import Path

import yaml

_TYPES = ("programming", "markup", "data", "prose")
_KINDS = {"filenames": "filename", "extensions": "extension", "interpreters": "interpreter"}
_HEADER = """\
# File name, extension or interpreter -> language. Written by build_languages.py; do not edit.
# Derived from GitHub Linguist's languages.yml, Copyright (c) 2017 GitHub, Inc., MIT licence (see NOTICE).
kind\tname\tlanguage
"""


def read_ties(path: Path) -> dict[tuple[str, str], str]:
    """The choices made by hand: (kind, name) -> language."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {(kind, name): language for kind, name, language in (line.split("\t") for line in lines[1:])}


def table(languages: dict, ties: dict[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    """The sorted rows (kind, name, language), one for each name."""
    claims: dict[tuple[str, str], dict[str, tuple]] = defaultdict(dict)
    for language, fields in languages.items():
        for field, kind in _KINDS.items():
            for place, name in enumerate(fields.get(field, [])):
                key = (kind, name.lower() if kind == "extension" else name)
                rank = (place > 0, _TYPES.index(fields["type"]), language)
                claims[key][language] = min(rank, claims[key].get(language, rank))
    unknown = {key for key, language in ties.items() if language not in claims.get(key, {})}
    if unknown:
        raise SystemExit(f"language_ties.tsv names what Linguist does not: {sorted(unknown)}")
    chosen = {key: ties.get(key) or min(ranks, key=ranks.__getitem__) for key, ranks in claims.items()}
    return [(kind, name, language) for (kind, name), language in sorted(chosen.items())]


def main() -> None:
    """Reads the file named on the command line and writes the table to standard output."""
    source = Path(sys.argv[1])
    ties = read_ties(Path(__file__).with_name("language_ties.tsv"))
    rows = table(yaml.safe_load(source.read_text(encoding="utf-8")), ties)
    sys.stdout.write(_HEADER + "".join("\t".join(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
