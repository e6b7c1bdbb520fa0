# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The identities of a corpus: all that is known of its files but their contents, as The Stack v2 was published.

They are a dataset of their own within the corpus, which can be handed on without it. From them and an archive of the
contents the corpus is built again (`recipes/rebuild.py`), so there is a part for each part of the corpus, with the same
row groups.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import sc2jax
from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.dataset import CODEC, PartWriter, write_labelled_part
from sc2jax.records.manifest import (
    MANIFEST,
    Manifest,
    Output,
    is_finished,
    manifest_json,
    read_manifest,
    read_output,
    write_output,
)
from sc2jax.records.schemas import IDENTITY, SOURCE_FILE, SPLITS
from sc2jax.records.statistics import CorpusStatistics, IdentityStatistics, identity_statistics
from sc2jax.storage import join

FOLDER = "identities"
"""Their folder within that of a corpus, and what their manifest calls its stage."""

CORPUS = "curate"
"""What the manifest of a corpus calls its stage."""

VERSION = 1
"""Raised whenever they are written in another way."""


def written_by() -> dict[str, str]:
    """What the bytes of a corpus depend on beside its records: what writes them."""
    return {"sc2jax": sc2jax.__version__, "pyarrow": pa.__version__, "arrow": pa.cpp_version, "codec": CODEC}


class Identities:
    """Writes the identities of some files of a corpus while its parts are written."""

    def __init__(self, folder: str):
        self._folder = folder
        self.outputs: list[Output] = []
        self.largest = 0

    def of(self, tables: Iterable[pa.Table], side: str, writer: PartWriter) -> Iterator[pa.Table]:
        """Hands row groups on, which go one by one into the parts of a side of the corpus."""
        part, held = writer.part, []
        for table in tables:
            if table.num_rows:
                if writer.part != part:
                    self._write(side, part, held)
                    part, held = writer.part, []
                held.append(_without_content(table, int(part), len(held)))
                self.largest = max(self.largest, pc.max(table["source_bytes"]).as_py())
            yield table
        if held:
            self._write(side, part, held)

    def _write(self, side: str, part: str, row_groups: Iterable[pa.Table]) -> None:
        self.outputs.append(write_labelled_part(join(self._folder, FOLDER), side, part, row_groups, IDENTITY))


def commit_identities(
    folder: str, parts: Sequence[Output], identities: Sequence[Output], largest: int, corpus: CorpusStatistics
) -> list[Output]:
    """Commits the identities of a corpus.

    Args:
        folder: of the corpus.
        parts: of both sides of the corpus.
        identities: for each of them that of its files.
        largest: bytes of the largest file.
        corpus: what is said of the corpus.
    """
    statistics: IdentityStatistics = {
        "parts": parts,
        "written_by": written_by(),
        "largest_file": largest,
        "corpus": {**corpus, "left_out": {}},  # names places on this machine
    }
    listed = {**statistics, "parts": [dataclasses.asdict(output) for output in parts]}
    manifest = Manifest(FOLDER, {}, {}, tuple(identities), listed, VERSION)
    own = [dataclasses.replace(output, path=join(FOLDER, output.path)) for output in identities]
    own.append(write_output(folder, join(FOLDER, MANIFEST), manifest_json(manifest)))
    # Nothing later depends on them: they follow from the corpus.
    return [dataclasses.replace(output, result=False) for output in own]


def _without_content(table: pa.Table, part: int, row_group: int) -> pa.Table:
    known = {name: table[name] for name in SOURCE_FILE.names if name != "content"}
    places = {"part": np.full(len(table), part), "row_group": np.full(len(table), row_group)}
    return pa.table({**known, "replacements": _replacements(table), **places}).cast(IDENTITY)


def _replacements(table: pa.Table) -> pa.Array:
    """What each edit of each text wrote there."""
    written: list[list[str]] = [[]] * len(table)
    for row in np.flatnonzero(pc.list_value_length(table["edits"]).to_numpy()).tolist():
        text = table["content"][row].as_py()
        written[row] = [text[edit["start"] : edit["end"]] for edit in table["edits"][row].as_py()]
    return pa.array(written, IDENTITY.field("replacements").type)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus without its contents.

    Attributes:
        folder: of its identities.
        manifest: in there.
        statistics: what is said of the corpus.
    """

    folder: str
    manifest: Manifest
    statistics: IdentityStatistics

    @property
    def parts(self) -> Sequence[Output]:
        """The parts of both sides, as the corpus lists them, numbered from 0."""
        return self.statistics["parts"]

    @property
    def identities(self) -> Sequence[Output]:
        """For each of them the identities of its files."""
        return self.manifest.outputs

    @property
    def places(self) -> list[tuple[str, str]]:
        """For each of them its side, and its label among those of the side."""
        return [_place(output) for output in self.parts]

    @property
    def digest(self) -> str:
        """The sha256 of all that is known of the corpus, and so of its contents."""
        return hashlib.sha256(manifest_json(self.manifest)).hexdigest()

    @property
    def files(self) -> int:
        """How many there are."""
        return sum(output.rows for output in self.parts)


_PART = re.compile(rf"({'|'.join(SPLITS)})/part-(\d{{5,18}})-[0-9a-f]{{16}}\.parquet")

_NO_PART = "", ""


def _place(output: Output) -> tuple[str, str]:
    """The side of a part, and its label; of another file _NO_PART."""
    found = _PART.fullmatch(output.path)
    return (found[1], found[2]) if found else _NO_PART


def open_corpus(folder: str) -> Corpus:
    """The corpus whose identities lie in a folder: their own, or that of the corpus.

    Raises:
        UserError: there are none, or they are damaged.
    """
    storage.refuse_no_folder(folder, "paths.manifest")
    if not is_finished(folder):
        raise UserError(
            f"paths.manifest is {folder}, which holds no {MANIFEST}; name a folder that `sc2jax curate` filled, or its "
            f"{FOLDER}/"
        )
    manifest = read_manifest(folder)
    if manifest.stage == CORPUS:
        own = join(FOLDER, MANIFEST)
        if not any(output.path == own for output in manifest.outputs):
            raise UserError(f"{folder} was written by an earlier version, without {FOLDER}/; run curate again")
        read_output(folder, manifest, own)
        folder = join(folder, FOLDER)
        manifest = read_manifest(folder)
    if manifest.stage != FOLDER:
        raise UserError(f"paths.manifest is {folder}, which `{manifest.stage}` wrote; name one that `{CORPUS}` wrote")
    corpus = Corpus(folder, manifest, identity_statistics(folder, manifest))
    parts = [(_place(output), output.rows, output.row_groups) for output in corpus.parts]
    if not parts or parts != [(_place(output), output.rows, output.row_groups) for output in corpus.identities]:
        raise UserError(f"{join(folder, MANIFEST)} is damaged: its parts are not those of its corpus; bring it back")
    if any(place == _NO_PART for place, _, _ in parts):
        raise UserError(f"{join(folder, MANIFEST)} is damaged: it names files that are no parts; bring it back")
    return corpus
