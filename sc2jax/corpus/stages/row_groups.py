"""Row groups of the corpus, of bounded size: whole repositories, and documents that a larger repository is cut into.

A training window sees some thousand tokens of a repository, in a random order of its files; a document to which the
files were dealt by chance shows it the same neighbourhoods as the whole would.
"""

import hashlib
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import MIB
from sc2jax.corpus.numbered_rows import NumberedRows

_HELD_BYTES = 64 * MIB
"""Rows of a large repository in memory while they are dealt to its documents."""


def cut_repositories(rows: NumberedRows, ids: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """The repositories of several files that, of the rows `ids` (ascending), have more than `most` bytes together.

    Returns:
        For each its files' documents, numbered from 0, in the order of the rows; see `deal`.
    """
    sizes = _runs(rows, ids, "source_bytes", lambda piece: piece["source_bytes"].to_numpy())
    large = [(at, found) for at, _, found in sizes if len(found) > 1 and found.sum() > most]
    if not large:
        return {}
    wanted = np.concatenate([ids[at : at + len(found)] for at, found in large])
    hashes = _runs(rows, wanted, "path", _hashes)
    return {name: deal(of_files, found, most) for (_, found), (_, name, of_files) in zip(large, hashes, strict=True)}


def deal(hashes: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """The document of each file: in the order of their hashes as many to each as fit, but at least one.

    Args:
        hashes: of the files.
        sizes: in bytes.
        most: bytes of a document; one of a single file may have more.
    """
    order = np.argsort(hashes, kind="stable")
    ends = np.cumsum(sizes[order])
    documents = np.empty(len(sizes), np.int32)
    begin = 0
    for number in itertools.count():
        if begin == len(order):
            return documents
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most, side="right")))
        documents[order[begin:end]] = number
        begin = end
    raise AssertionError


def row_groups(tables: Iterable[pa.Table], target: int, cut: Mapping[str, np.ndarray]) -> Iterator[pa.Table]:
    """The row groups that files, in order of repository, are written in.

    Args:
        tables: the files; a repository may go on in the next.
        target: bytes of text from which on a row group of whole repositories is closed.
        cut: what `cut_repositories` says; each of the documents is a row group of its own.
    """
    held: list[pa.Table] = []
    size = 0
    for name, pieces in itertools.groupby(_by_repository(tables), key=_repository):
        if held and (size >= target or name in cut):
            yield pa.concat_tables(held).combine_chunks()
            held, size = [], 0
        if name in cut:
            yield from _documents(pieces, cut[name])
            continue
        for piece in pieces:
            held.append(piece)
            size += piece["content"].nbytes
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _documents(pieces: Iterable[pa.Table], documents: np.ndarray) -> Iterator[pa.Table]:
    """The documents of a repository, in order of their numbers; in between its rows lie in a temporary file."""
    with tempfile.TemporaryFile() as file:
        places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for first, table in _held(pieces):
            numbers = documents[first : first + table.num_rows]
            order = np.argsort(numbers, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, table.schema) as stream:
                    stream.write_table(table.take(pa.array(rows)))
                content = sink.getvalue()
                places[int(numbers[rows[0]])].append((file.tell(), content.size))
                file.write(content)
        for _, found in sorted(places.items()):
            parts = []
            for start, length in found:
                file.seek(start)
                parts.append(pa.ipc.open_stream(file.read(length)).read_all())
            yield pa.concat_tables(parts).combine_chunks()


def _held(pieces: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """The pieces joined to tables of a bounded size, each with the number of its first row."""
    held: list[pa.Table] = []
    at = size = 0
    for piece in pieces:
        held.append(piece)
        size += piece.nbytes
        if size >= _HELD_BYTES:
            table = pa.concat_tables(held)
            yield at, table
            at += table.num_rows
            held, size = [], 0
    if held:
        yield at, pa.concat_tables(held)


def _runs(
    rows: NumberedRows, ids: np.ndarray, column: str, numbers: Callable[[pa.Table], np.ndarray]
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Numbers of certain rows by repository: which is its first row, its name, what follows from a column."""
    at = 0
    pieces = _by_repository(rows.take(ids, ["repository", column]))
    for name, found in itertools.groupby(pieces, key=_repository):
        values = np.concatenate([numbers(piece) for piece in found])
        yield at, name, values
        at += len(values)


def _by_repository(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        names = table["repository"].to_numpy()
        cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        for low, high in itertools.pairwise(cuts):
            yield table.slice(low, high - low)


def _repository(piece: pa.Table) -> str:
    return piece["repository"][0].as_py()


def _hashes(piece: pa.Table) -> np.ndarray:
    """Numbers that depend on a repository and the paths of its files alone."""
    name = _repository(piece)
    digests = (hashlib.sha256(f"{name}\0{path}".encode()).digest() for path in piece["path"].to_pylist())
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
