"""How a checkpoint lies on disk, as Orbax lays it out: its folders, an array's chunks, and what the disk refuses."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from sc2jax import storage
from sc2jax.errors import UserError, os_error_text

# Where TensorFlow is installed, Orbax's paths would import it to reach object stores, of which it knows Google's alone;
# fsspec reaches all of them, with the same credentials and settings as the rest of a run.
os.environ.setdefault("EPATH_USE_TF", "0")

CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints, each in a folder named by its step."""

PARAMS, OPTIMIZER, PROGRESS = "params", "optimizer", "progress"
"""The folders of a checkpoint."""

COMMITTED = "commit_success.txt"
"""The last file of a checkpoint in an object store, where no folder takes its name in one step."""

CHUNK_BYTES = 8 * 2**20
"""Arrays are stored in chunks of at most this size, each of one layer, so that a part can be read without the rest."""


def chunk_shape(shape: tuple[int, ...], itemsize: int, *, stacked: bool) -> tuple[int, ...]:
    """The chunks of an array: of one layer if layers are stacked, their longest side halved until they are small.

    Chunks that are about square serve a mesh that splits either dimension.
    """
    chunk = [1, *shape[1:]] if stacked else list(shape)
    while math.prod(chunk) * itemsize > CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)


_BUCKETS = ("gs", "s3", "az", "hf")
"""First folders of a path that the libraries take for the scheme of a URL."""


_STORES = ("gs",)
"""Schemes of the URLs that both Orbax and TensorStore write to: fewer than the other stages may lie at.

TensorStore writes to s3:// too, but Orbax (0.12.8) takes that for a relative path, at the first save.
"""


def refuse_misread_path(folder: str, *, merged: bool) -> None:
    """Makes sure that Orbax and TensorStore take a path for what it is.

    A URL must be of a store that they know. With a local path they write elsewhere, or find nothing of what they wrote,
    if it has what they read otherwise.

    Args:
        folder: of checkpoints.
        merged: whether the parts of a save will be put together there, which Orbax finds by a pattern.

    Raises:
        UserError: it has; nothing was done yet.
    """
    scheme, is_url, rest = folder.partition("://")
    if is_url and scheme not in _STORES:
        instead = f"name it by its path, {rest}" if scheme in ("file", "local") else "use one of these"
        raise UserError(
            f"{folder} cannot hold checkpoints, which lie on a local disk or in a store of "
            f"{' or '.join(f'{name}://' for name in _STORES)}; {instead}"
        )
    if is_url:
        return
    path = str(Path(folder).absolute())
    wrong = [sign for sign in ("\\", "gs:/", *("*?[" if merged else ())) if sign in path]
    wrong += [f"/{name}/" for name in _BUCKETS if path.startswith(f"/{name}/")]
    wrong += [] if storage.is_text(path) else ["bytes that are no UTF-8"]
    if wrong:
        raise UserError(
            f"{folder} cannot hold checkpoints: {wrong[0]} in a path means something else to Orbax; rename the folder, "
            "or name it by a link without that"
        )


def key_value_store(folder: epath.Path) -> Any:
    """A folder as TensorStore opens it."""
    name = str(folder)
    return f"{name}/" if "://" in name else {"driver": "file", "path": f"{Path(name).absolute()}/"}


@contextlib.contextmanager
def disk_errors(folder: str) -> Iterator[None]:
    """Raises what the disk refused as an `OSError`: TensorStore has one class for all that goes wrong."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), folder) from error


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return os_error_text(error)
    return (str(error).strip() or repr(error)).splitlines()[0][:300]
