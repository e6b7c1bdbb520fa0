"""Lays the tokens of a mixture's sources flat, once, before training (`flat_tokens.py`).

A rendering of a source is all of its documents written and encoded once; its draws are the order of the documents and
of a repository's files, whether they have metadata, and infilling at document level. Context-level infilling works on
windows and is drawn anew in every epoch, so one rendering is enough to train as StarCoder2 was.

The work is cut into parts of some row groups, which are independent of each other: they are done by any number of
processes in any order, and those that an interrupted run had finished are not done again.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.feed.config import TokenizeConfig
from sc2jax.feed.documents import DocumentWriter, rendering_key, unit_tokens
from sc2jax.feed.flat_tokens import rendering_folder, write_part
from sc2jax.feed.sources import FeedInputs, SourceUnits
from sc2jax.feed.units import Units
from sc2jax.json_files import decode_json
from sc2jax.progress import progress
from sc2jax.records.manifest import Output, canonical_json
from sc2jax.records.stage import Written
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer

MapUnits = Callable[
    [pa.Table, Sequence[int], Callable[[pa.Table], pa.Table], pa.Schema], AbstractContextManager[Iterator[pa.Table]]
]
"""What spreads the work: it applies a function to each stretch of a table's rows and gives the results in order."""

_PART_BYTES = 2**24
"""Compressed text of a part, about: some 25 million tokens, 50 MB, which its worker holds several times in memory."""
_PARTS = 32
"""Parts that a smaller source is cut into, as far as it has that many row groups."""

_WORK = pa.schema(
    [
        ("source", pa.int64()),
        ("rendering", pa.int64()),
        ("part", pa.int64()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
    ]
)
_DONE = pa.schema([("part", pa.string())])


@dataclasses.dataclass(frozen=True)
class Part:
    """What became of a part: its files, of which there are none if it has no tokens, and what was left out of it."""

    outputs: tuple[Output, ...]
    tokens: int
    left_out: Mapping[str, int]
    damaged_units: int


@dataclasses.dataclass(frozen=True)
class _EncodePart:
    """The work of one part, for any process; it is noted as done at once, whatever becomes of the others."""

    folder: str
    done: str
    sources: Sequence[SourceUnits]
    writers: Sequence[DocumentWriter]
    tokenizer: Tokenizer
    seed: int

    def __call__(self, work: pa.Table) -> pa.Table:
        """Encodes and writes the part that the one row of a table names."""
        (row,) = work.to_pylist()
        source = self.sources[row["source"]]
        tokens, left_out, damaged = [np.empty(0, np.int32)], Counter(), 0
        for index in range(row["start"], row["stop"]):
            unit = source.units.read(index)
            if unit is None:
                damaged += 1
                continue
            left_out.update(unit.left_out)
            key = rendering_key(self.seed, source.name, row["rendering"], index)
            tokens += unit_tokens(unit, self.writers[row["source"]], self.tokenizer, key)
        laid = np.concatenate(tokens)
        outputs: list[Output] = []
        if len(laid):
            prefix = rendering_folder(source.name, row["rendering"])
            outputs = write_part(self.folder, prefix, row["part"], laid, self.tokenizer.vocab_size)
        content = canonical_json(dataclasses.asdict(Part(tuple(outputs), len(laid), dict(left_out), damaged)))
        storage.write_whole(_note(self.done, list(row.values())), content.encode())
        return pa.table({"part": [content]}, _DONE)


def lay_tokens(
    folder: str,
    done: str,
    inputs: FeedInputs,
    sources: Sequence[SourceUnits],
    config: TokenizeConfig,
    map_units: MapUnits,
) -> Written:
    """Encodes all renderings of all sources into a folder.

    Args:
        folder: gets the tokens.
        done: the folder in which an interrupted run of the same work noted what it had done, if there was one.
        inputs: what the tokens follow from.
        sources: what the mixture reads.
        config: how often each is rendered.
        map_units: spreads the work.

    Returns:
        The files, and for each source its tokens, by rendering, and what was left out of it.

    Raises:
        UserError: a part of the corpus is damaged and damage is not skipped, or nothing is left of a source.
    """
    work = [
        (number, rendering, part, start, stop)
        for number, source in enumerate(sources)
        for rendering in range(config.renderings)
        for part, (start, stop) in enumerate(itertools.pairwise(_cuts(source.units)))
    ]
    parts = {row: part for row in work if (part := _read_done(folder, done, row)) is not None}
    missing = [row for row in work if row not in parts]
    table = pa.table(list(zip(*missing, strict=True)) or [[]] * len(_WORK), _WORK)
    writers = [DocumentWriter(source.format, inputs.formats, inputs.fim) for source in sources]
    encode = _EncodePart(folder, done, sources, writers, inputs.tokenizer, inputs.seed)
    with (
        progress(initial=len(parts), total=len(work), desc="tokenize", unit="part") as bar,
        map_units(table, range(len(missing)), encode, _DONE) as results,
    ):
        for row, result in zip(missing, results, strict=True):
            content = result.column("part")[0].as_py().encode()
            parts[row] = decode_json(content, Part, "a part's tokens", "run `sc2jax tokenize` again")
            bar.update()
    return [output for row in work for output in parts[row].outputs], _statistics(sources, config, parts)


def _cuts(units: Units) -> list[int]:
    """Where the parts of a source begin, by the number of the row group, and the end of the last one."""
    sizes = units.sizes
    limit = min(_PART_BYTES, sum(sizes) / _PARTS)
    cuts, filled = [0], 0.0
    for index, size in enumerate(sizes):
        if filled and filled + size > limit:
            cuts.append(index)
            filled = 0.0
        filled += size
    return [*cuts, len(sizes)]


def _note(done: str, row: Sequence[int]) -> str:
    return join(done, f"{'-'.join(map(str, row))}.json")


def _read_done(folder: str, done: str, row: Sequence[int]) -> Part | None:
    """A part that an interrupted run had finished, if its files are still what was written."""
    path = _note(done, row)
    if not storage.exists(path):
        return None
    part = decode_json(storage.read_bytes(path), Part, path, f"delete {done} and run `sc2jax tokenize` again")
    for output in part.outputs:
        parent, _, name = join(folder, output.path).rpartition("/")
        if name not in storage.file_sizes(parent) or storage.sha256_of_file(f"{parent}/{name}") != output.sha256:
            return None
    return part


def _statistics(
    sources: Sequence[SourceUnits], config: TokenizeConfig, parts: Mapping[tuple[int, ...], Part]
) -> dict[str, Any]:
    said = {}
    for number, source in enumerate(sources):
        tokens = [0] * config.renderings
        left_out: Counter[str] = Counter()
        damaged = 0
        for (of_source, rendering, *_), part in parts.items():
            if of_source == number:
                tokens[rendering] += part.tokens
                left_out.update(part.left_out if rendering == 0 else {})
                damaged += part.damaged_units if rendering == 0 else 0
        if not min(tokens):
            raise UserError(
                f"nothing of the source {source.name} can be read: all of its {len(source.units)} row groups are "
                "damaged; bring the corpus back, or curate again"
            )
        said[source.name] = {"tokens": tokens, "left_out": dict(left_out), "damaged_units": damaged}
    return {"sources": said}
