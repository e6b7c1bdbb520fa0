"""Tokens laid flat: a source's documents one after the other, from which any window is read with one request.

A rendering of a source lies in parts, `SOURCE/rendering-00000/part-00000-DIGEST`, each a zarr 3 array of one dimension
in a single shard, whose blocks carry CRC-32C checksums; TensorStore writes and reads them, on local disk and in object
stores. A token takes two bytes where the vocabulary fits. How many tokens a part has stands in the manifest, so that
nothing is opened before it is read, and then only the shard's index.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore as ts

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest, Output, write_output
from sc2jax.storage import join

BLOCK = 16384
"""Tokens under one checksum, all of which are read for any of them: four rows of 4096."""

_SHARD = "c/0"
_OPENED = 4096
"""Parts that stay open; each holds a little more than its shard's index in memory."""
_CACHED_BYTES = 2**28
"""Of shards' indices, 16 bytes a block, so those of 10^11 tokens; and of blocks that were read lately."""
_RETRIES_AFTER = (0.5, 2.0, 8.0)
"""Seconds before a read that failed is tried again; TensorStore itself retries what object stores call temporary."""

_DRIVERS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
"""How TensorStore calls the kinds of URLs."""
_DAMAGE = re.compile("DATA_LOSS|NOT_FOUND|OUT_OF_RANGE|FAILED_PRECONDITION: .*byte range .* is not valid", re.DOTALL)
"""How TensorStore calls a checksum that is off, a block that is not there, one beyond the end of its file, and a file
that is shorter than the index at its end, such as an empty one."""


class DamagedTokensError(UserError):
    """A block is missing or is not what was written, which no repetition mends."""


def rendering_folder(source: str, rendering: int) -> str:
    """Where the parts of a source's rendering lie, relative to the folder of all tokens."""
    return f"{source}/rendering-{rendering:05d}"


def write_part(folder: str, prefix: str, index: int, tokens: np.ndarray, vocab_size: int) -> list[Output]:
    """Writes the tokens of one part, named by its place and its content.

    Args:
        folder: that of the manifest.
        prefix: `rendering_folder`.
        index: of the part.
        tokens: ids (tokens,), at least one.
        vocab_size: that of the tokenizer.

    Returns:
        Its two files; the one that has `rows` holds the tokens, and that is how many they are.
    """
    context = ts.Context()
    memory = ts.KvStore.open({"driver": "memory"}, context=context).result()
    array = ts.open(_spec({"driver": "memory"}, len(tokens), vocab_size), create=True, context=context).result()
    array.write(tokens.astype(_dtype(vocab_size))).result()
    contents = {name.decode(): memory[name] for name in memory.list().result()}
    digest = hashlib.sha256(contents[_SHARD]).hexdigest()[:16]
    part = f"{prefix}/part-{index:05d}-{digest}"
    outputs = [write_output(folder, f"{part}/{name}", contents[name]) for name in sorted(contents)]
    return [
        dataclasses.replace(output, rows=len(tokens)) if output.path.endswith(_SHARD) else output for output in outputs
    ]


class FlatTokens:
    """One rendering of a source, opened to read; nothing is read until a window is.

    Args:
        folder: of the manifest.
        manifest: lists the parts.
        source: whose.
        rendering: which of its renderings.
        vocab_size: that of the tokenizer.

    Raises:
        UserError: there are no tokens, or the folder is none that TensorStore opens.
    """

    def __init__(self, folder: str, manifest: Manifest, source: str, rendering: int, vocab_size: int) -> None:
        outputs = [output for output in manifest.under(rendering_folder(source, rendering)) if output.rows]
        if not outputs:
            raise UserError(f"{folder} holds no tokens of the source {source}; run `sc2jax tokenize` again")
        self._folder, self._outputs = folder, outputs
        self._kvstore = _kvstore(folder)
        self._vocab_size = vocab_size
        self._ends = list(itertools.accumulate(output.rows for output in outputs))
        self._open = functools.lru_cache(_OPENED)(self._open_part)

    def __len__(self) -> int:
        """The number of tokens."""
        return self._ends[-1]

    @property
    def outputs(self) -> Sequence[Output]:
        """The files that hold the tokens."""
        return self._outputs

    def request(self, start: int, length: int, batch: ts.Batch) -> "Window":
        """Begins to read `length` tokens from `start` on; behind the last token comes the first one again.

        Requests of one batch are sent together when it is left, adjacent blocks of a part as one.
        """
        pieces = []
        while length:
            start %= len(self)
            part = bisect.bisect_right(self._ends, start)
            first = start - (self._ends[part] - self._outputs[part].rows)
            taken = min(length, self._outputs[part].rows - first)
            pieces.append(_Piece(self, part, first, taken, self._begin(part, first, taken, batch)))
            start, length = start + taken, length - taken
        return Window(pieces)

    def _begin(self, part: int, first: int, length: int, batch: ts.Batch) -> Any:
        try:
            return self._open(part)[first : first + length].read(batch=batch)
        except DamagedTokensError as error:
            return _Failed(error)

    def path(self, part: int) -> str:
        """The file of a part."""
        return join(self._folder, self._outputs[part].path)

    def read(self, part: int, first: int, length: int) -> np.ndarray:
        """Reads tokens of one part at once."""
        return self._open(part)[first : first + length].read().result()

    def _open_part(self, part: int) -> ts.TensorStore:
        output = self._outputs[part]
        if not storage.is_url(self._folder) and not storage.is_file(self.path(part)):
            raise damaged_tokens(self.path(part), "there is no such file")  # a pipe would be waited for without end
        place = self._kvstore | {"path": join(self._kvstore["path"], output.path.removesuffix(_SHARD))}
        # The number of tokens and the vocabulary say all that the array's own description does.
        spec = _spec(place, output.rows, self._vocab_size)
        return ts.open(spec, open=True, assume_metadata=True, read=True, context=_context()).result()


def damaged_tokens(where: str, what: str) -> DamagedTokensError:
    """The error of tokens that are not those that were written."""
    return DamagedTokensError(
        f"{where}: the file is damaged or missing ({what}); delete it and run `sc2jax tokenize` again, or leave such "
        "rows empty with --config.feed.damaged=skip"
    )


@dataclasses.dataclass(frozen=True)
class _Failed:
    """Stands for tokens whose file was not even opened."""

    error: DamagedTokensError

    def result(self) -> np.ndarray:
        """Raises the error."""
        raise self.error


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Tokens of one part that are being read."""

    tokens: FlatTokens
    part: int
    first: int
    length: int
    arriving: Any

    def result(self) -> np.ndarray:
        """Waits for the tokens; an error that may pass is waited for and tried again."""
        read = self.arriving.result
        for seconds in (*_RETRIES_AFTER, None):
            try:
                return read()
            except ValueError as error:
                where = f"{self.tokens.path(self.part)}, tokens {self.first} to {self.first + self.length}"
                if _DAMAGE.match(str(error)):
                    raise damaged_tokens(where, str(error)) from error
                if seconds is None:
                    raise UserError(
                        f"{where} cannot be read ({error}), tried {1 + len(_RETRIES_AFTER)} times; when the disk or "
                        "the store answers again, run the same command again"
                    ) from error
                time.sleep(seconds)
                read = functools.partial(self.tokens.read, self.part, self.first, self.length)
        raise AssertionError("unreachable")


@dataclasses.dataclass(frozen=True)
class Window:
    """Tokens that are being read."""

    pieces: Sequence[_Piece]

    def result(self) -> np.ndarray:
        """The tokens, int32.

        Raises:
            DamagedTokensError: some are missing or not those that were written.
            UserError: they cannot be read.
        """
        read = [piece.result() for piece in self.pieces]
        return (np.concatenate(read) if len(read) > 1 else read[0]).astype(np.int32)


def _spec(kvstore: Any, tokens: int, vocab_size: int) -> dict[str, Any]:
    def checked(codec: Any) -> list[Any]:
        return [codec, {"name": "crc32c"}]

    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [BLOCK], "codecs": checked(little), "index_codecs": checked(little)},
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [-(-tokens // BLOCK) * BLOCK]}}
    metadata = {
        "shape": [tokens],
        "data_type": _dtype(vocab_size).name,
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [sharding],
    }
    return {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": metadata,
        # What is not there is no text: without these a lost block would read as so many ends of text, id 0.
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
        # Parts are named by their content, so what was read once need not be asked for again.
        "recheck_cached_data": False,
    }


def _dtype(vocab_size: int) -> np.dtype:
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def _kvstore(folder: str) -> dict[str, str]:
    """The folder as TensorStore names it."""
    if not storage.is_url(folder):
        if "\\" in folder or not storage.is_text(folder):
            raise UserError(
                f"{folder}: TensorStore opens no path with a backslash or bytes that are no UTF-8; rename it"
            )
        return {"driver": "file", "path": folder}
    kind, _, rest = folder.partition("://")
    if kind in ("file", "local"):
        return {"driver": "file", "path": rest}
    if kind not in _DRIVERS:
        raise UserError(f"{folder}: tokens cannot be read from {kind}://; use a local folder, gs:// or s3://")
    bucket, _, path = rest.partition("/")
    spec = {"driver": _DRIVERS[kind], "bucket": bucket, "path": path}
    # Of a store of one's own, where fsspec finds it too; TensorStore looks at Amazon's alone.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return spec | {"endpoint": endpoint} if spec["driver"] == "s3" and endpoint else spec


@functools.cache
def _context() -> ts.Context:
    return ts.Context({"cache_pool": {"total_bytes_limit": _CACHED_BYTES}})
