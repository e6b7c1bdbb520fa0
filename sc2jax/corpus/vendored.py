# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Which files are vendored, by their paths and Linguist's table (the column `is_vendor` of The Stack v2)."""

import functools

import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.tables import table_rows

TABLES = ("vendored_paths.tsv",)
"""What the answers depend on, in `data/`."""


def vendored(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each path in a repository whether one of Linguist's expressions is found in it, as its `vendored?` says.

    The Stack v2 asks this of base names, although most of the expressions are about folders; here it is asked of paths.
    """
    return pc.match_substring_regex(paths, _expression())


@functools.cache
def _expression() -> str:
    """All expressions in one, which RE2 reads as Ruby does: lines have beginnings and ends, `\\v` is a space."""
    expressions = (expression for (expression,) in table_rows("vendored_paths.tsv", 1)[1:])
    return "(?m)" + "|".join(expression.replace(r"\s", r"\s\v") for expression in expressions)
