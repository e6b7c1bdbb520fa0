"""Reaching an object store: whatever its package raises ends in one message, and nothing is taken from a cache."""

import contextlib
import errno
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar, cast

import fsspec

from sc2jax.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


class StoreError(UserError):
    """An object store did not answer, or refused: nothing is known of what lies in it."""


@contextlib.contextmanager
def reaching(path: str) -> Iterator[None]:
    """Turns whatever the package of an object store raises into `StoreError`; a list of its errors would be too short.

    Raises:
        FileNotFoundError: there is no such file.
        FileExistsError: there is one.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, UserError, MemoryError):
        raise
    except Exception as error:
        if not is_store(path):
            raise
        raise unreachable(path, error) from error


def unreachable(path: str, error: Exception) -> StoreError:
    """What is said of a store that raised an error."""
    said = " ".join(str(error).split())
    cause = type(error).__name__ + (f": {said}" if said else "")
    return StoreError(
        f"{path} cannot be reached ({cause}); check that its bucket exists, that the network reaches it and that the "
        "credentials for it are valid and allow this, and run the same command again"
    )


def is_store(path: str) -> bool:
    """Whether a path is a URL of something else than the local disk."""
    kind, is_url, _ = path.partition("://")
    return bool(is_url) and kind not in _OF_LOCAL_DISK


_OF_LOCAL_DISK = ("file", "local")


def reaches(function: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """A function of a path whose errors are those of `reaching`."""

    @functools.wraps(function)
    def reached(path: str, *args: P.args, **named: P.kwargs) -> T:
        with reaching(path):
            return function(path, *args, **named)

    return reached


def file_system(path: str) -> tuple[Any, str]:
    """What opens a path, and how it calls it; it asks the store each time, for other processes write there too."""
    return fsspec.core.url_to_fs(path, use_listings_cache=False)


def fetched(paths: Sequence[str], most: Sequence[int]) -> list[bytes | Exception]:
    """The first bytes of many files of one object store, asked for at once as far as its package can.

    Retries and the number of requests at a time are those of that package (for s3fs: botocore's `AWS_MAX_ATTEMPTS` and
    `AWS_RETRY_MODE`, fsspec's `gather_batch_size`).

    Args:
        paths: of the files; not none.
        most: bytes that are read of each.

    Returns:
        For each its bytes, `FileNotFoundError` if it is not there, or `StoreError`.
    """
    try:
        fs, _ = file_system(paths[0])
        names = [fs._strip_protocol(path) for path in paths]
        found = fs.cat_ranges(names, [0] * len(names), list(most), on_error="return")
    except Exception as error:  # a list of the errors of its package would be too short
        found = [error] * len(paths)
    return [_fetched(path, each) for path, each in zip(paths, found, strict=True)]


def _fetched(path: str, found: bytes | Exception) -> bytes | Exception:
    if isinstance(found, OSError) and found.errno == errno.EINVAL:
        return b""  # S3 knows no first bytes of an empty object
    return found if isinstance(found, bytes | FileNotFoundError) else unreachable(path, found)


class _RemoteFile(io.RawIOBase):
    """A file of an object store, reached whenever it is read."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        with reaching(self._path):
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


def remote_file(path: str, file: BinaryIO) -> BinaryIO:
    """A file of an object store whose errors are those of `reaching`, whenever it is read."""
    return cast("BinaryIO", _RemoteFile(path, file))
