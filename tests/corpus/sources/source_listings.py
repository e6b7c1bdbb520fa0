"""What the tests of this room look at in a listing."""

import os
from pathlib import Path

from sc2jax.corpus.sources.listing import Listing

LIMIT = 1 << 20


def names(listing: Listing) -> list[tuple[str, str]]:
    return list(zip(listing.files["repository"].to_pylist(), listing.files["path"].to_pylist(), strict=True))


def licensed(listing: Listing) -> set[tuple[str, str, str]]:
    rows = listing.licenses.to_pylist()
    return {(row["repository"], row["folder"], Path(os.fsdecode(row["location"])).name) for row in rows}
