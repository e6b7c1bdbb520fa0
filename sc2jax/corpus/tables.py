"""The tables in `data/` that decisions on files depend on: lines of columns between tabs, with comments."""

import dataclasses

from sc2jax.assets import asset_path
from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables as they are, by a digest of all of them."""

    digest: str


def table_rows(name: str, columns: int) -> list[tuple[str, ...]]:
    """The rows of a table, without comments and empty lines.

    Raises:
        UserError: it is missing, no text, or a row has another number of columns.
    """
    try:
        lines = asset_path("data", name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data/{name} cannot be read ({error}); install sc2jax again") from error
    rows = [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]
    for row in rows:
        if len(row) != columns or not row[0]:
            raise UserError(f"data/{name} is damaged at {row!r}; install sc2jax again")
    return rows
