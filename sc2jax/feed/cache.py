"""Documents encoded ahead of training, so that they are encoded only once.

What is kept is a document before windows are cut: its tokens, with the order of files, the metadata and the
document-level infilling of one epoch. As long as there is such a rendering for every epoch that is read, rows are bit
for bit those of a feed that encodes documents as it reads them. Context-level infilling works on windows, so it still
differs from epoch to epoch. Each rendering has a folder, `SOURCE/epoch-00000`, with a row group for every unit of the
corpus and a row for every document.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.errors import UserError
from sc2jax.feed.documents import WrittenDocuments, WrittenUnit
from sc2jax.feed.units import Unit, Units
from sc2jax.progress import progress
from sc2jax.records.dataset import write_part
from sc2jax.records.manifest import Output, read_manifest

TOKENIZED = pa.schema([pa.field("ids", pa.large_list(pa.field("item", pa.int32(), nullable=False)), nullable=False)])
"""A document's tokens."""

_UNITS_PER_PART = 64


def write_tokens(folder: str, sources: Sequence[WrittenDocuments], epochs: int) -> tuple[list[Output], dict[str, Any]]:
    """Encodes the documents of the first epochs into a folder.

    Returns the parts, how many tokens each source has, and how many of its records were left out for which reason.

    Raises:
        UserError: a part of the corpus is damaged; only single records in it are skipped where damage is.
    """
    outputs = []
    tokens = {}
    left_out: dict[str, Counter[str]] = {}
    total = epochs * sum(map(len, sources))
    with progress(total=total, desc="tokenize", unit="unit") as bar:
        for source in sources:
            counted = 0
            left_out[source.name] = Counter()
            for epoch in range(epochs):
                for first in range(0, len(source), _UNITS_PER_PART):
                    tables = []
                    for index in range(first, min(first + _UNITS_PER_PART, len(source))):
                        unit = source.unit(epoch, index)
                        tables.append(_encode_unit(unit))
                        left_out[source.name].update(unit.left_out if epoch == 0 else {})
                    prefix = f"{source.name}/{_epoch(epoch)}"
                    outputs.append(write_part(folder, prefix, first // _UNITS_PER_PART, tables, TOKENIZED))
                    counted += sum(len(table.column("ids").combine_chunks().values) for table in tables)
                    bar.update(len(tables))
            tokens[source.name] = counted
    return outputs, {
        "epochs": epochs,
        "tokens": tokens,
        "left_out": {name: dict(reasons) for name, reasons in left_out.items()},
    }


def token_inputs(sources: Sequence[WrittenDocuments]) -> dict[str, str]:
    """The digests of what the tokens are made of: the tokenizer, and the dataset of each source."""
    return {"tokenizer": sources[0].tokenizer.digest} | {
        f"corpus/{source.name}": source.units.digest for source in sources
    }


def token_config(sources: Sequence[WrittenDocuments]) -> dict[str, Any]:
    """The settings that the tokens depend on; those of infilling only at document level.

    Where damage is skipped the tokens may lack what another corpus of the same digest has.
    """
    writer = sources[0].writer
    return {
        "seed": sources[0].seed,
        "format": dataclasses.asdict(writer.config),
        "fim": dataclasses.asdict(writer.fim) if writer.fim.level == "document" else {},
        "sources": {source.name: source.writer.format for source in sources},
        "skip_damaged": sources[0].units.skip_damaged,
    }


def refuse_stale(folder: str, sources: Sequence[WrittenDocuments]) -> None:
    """Makes sure that the tokens are those that the sources would be encoded to now.

    Raises:
        UserError: they are not, or there are none.
    """
    manifest = read_manifest(folder)
    ours, theirs = token_config(sources), dict(manifest.config)
    missing = [source.name for source in sources if theirs["sources"].get(source.name) != ours["sources"][source.name]]
    changed = [f"source {name}" for name in missing]
    changed += [name for name in ("seed", "format", "fim") if ours[name] != theirs[name]]
    changed += ["feed.damaged"] if theirs.get("skip_damaged") and not ours["skip_damaged"] else []
    changed += [name for name, digest in token_inputs(sources).items() if manifest.inputs.get(name) != digest]
    if changed:
        raise UserError(
            f"the tokens in {folder} were made of something else: {', '.join(changed)} differ; run `sc2jax tokenize` "
            "again, or set feed.tokenized to False"
        )


class CachedDocuments:
    """The documents of a source as `write_tokens` left them.

    Raises:
        UserError: they are damaged, and damage is not to be skipped.
    """

    def __init__(self, folder: str, source: WrittenDocuments, *, skip_damaged: bool) -> None:
        epochs = read_manifest(folder).statistics["epochs"]
        self._renderings = [
            Units(folder, f"{source.name}/{_epoch(epoch)}", TOKENIZED.names, skip_damaged=skip_damaged)
            for epoch in range(epochs)
        ]
        for units in self._renderings:
            if len(units) != len(source):
                raise UserError(
                    f"the tokens of {source.name} in {folder} are in {len(units)} units instead of {len(source)}; "
                    "delete the folder and run `sc2jax tokenize` again"
                )

    def __len__(self) -> int:
        return len(self._renderings[0])

    def unit(self, epoch: int, index: int) -> "CachedUnit":
        """Reads a unit of the rendering for this epoch."""
        return CachedUnit(self._renderings[epoch % len(self._renderings)][index])


class CachedUnit:
    """The documents of one unit, each in one part."""

    def __init__(self, unit: Unit) -> None:
        self.left_out: Mapping[str, int] = {}  # what was, was left out when the tokens were made
        ids = unit.table.column("ids").combine_chunks()
        self._unit = unit  # streams share it for as long as one of them holds it
        self._tokens, self._bounds = ids.values.to_numpy(), ids.offsets.to_numpy()

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def parts(self, document: int) -> list["CachedPart"]:
        """The whole document."""
        start, stop = self._bounds[document : document + 2]
        return [CachedPart(self._tokens[start:stop])]


@dataclasses.dataclass(frozen=True)
class CachedPart:
    """Tokens that need no encoding."""

    tokens: np.ndarray

    def ids(self) -> np.ndarray:
        """The tokens."""
        return self.tokens


def _encode_unit(unit: WrittenUnit) -> pa.Table:
    ids = [np.concatenate([part.ids() for part in unit.parts(document)]) for document in range(len(unit))]
    bounds = np.cumsum([0, *map(len, ids)])
    return pa.table({"ids": pa.LargeListArray.from_arrays(bounds, pa.array(np.concatenate(ids), pa.int32()))})


def _epoch(number: int) -> str:
    return f"epoch-{number:05d}"
