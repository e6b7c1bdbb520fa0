"""Writes vendored_paths.tsv from a vendor.yml of Linguist.

    python data/build_vendored.py vendor.yml > data/vendored_paths.tsv

Needs PyYAML, which sc2jax itself does not.
"""

import sys
from pathlib import Path

import yaml

_HEADER = """\
# Regular expressions of the paths of vendored files, in Ruby's syntax. Written by build_vendored.py; do not edit.
# From GitHub Linguist's vendor.yml, Copyright (c) 2017 GitHub, Inc., MIT licence (see NOTICE).
expression
"""


def main() -> None:
    """Reads the file named on the command line and writes the table to standard output."""
    expressions = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(_HEADER + "".join(f"{expression}\n" for expression in expressions))


if __name__ == "__main__":
    main()
