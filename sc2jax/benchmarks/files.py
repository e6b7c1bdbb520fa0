"""The files of the benchmarks: where each lies below one folder, where to get it, and how its records are read.

Nothing is fetched and nothing that a file holds is run: a benchmark is data here, for those who measure with it and for
those who look for it in a corpus. A file is read as it was published, compressed with gzip whether or not its authors
did; what it may be shown for, and the digest of the content that this code was checked against, stand beside its path.
Another content is read as well, for benchmarks are mended; its digest stands in what is measured with it.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypedDict, TypeVar

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import Count, as_kind

_LARGEST = 2**29  # of an uncompressed file; the largest benchmark has 8 MB


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of a benchmark as its authors published it.

    Attributes:
        path: of the file, below the folder of benchmarks.
        content_sha256: of what it holds, uncompressed: two who compress the same file get other bytes.
        records: how many it has.
        url: where to get it.
        licence: of its texts.
        shown: whether the texts may stand in a report that others can read; not those with a canary, or with a clause
            against training on them.
    """

    path: str
    content_sha256: str
    records: int
    url: str
    licence: str
    shown: bool = True

    def remedy(self, folder: str) -> str:
        """What to do if the file is not there or is of no use."""
        packed = ", compress it with gzip" if self.path.endswith(".gz") and not self.url.endswith(".gz") else ""
        return f"get it from {self.url} ({self.licence}){packed} and put it at {storage.join(folder, self.path)}"


class BenchmarkFile(TypedDict):
    """A file that was read, for the results.

    `sha256` is that of the file as it lies there, `content_sha256` that of what it holds, uncompressed.
    """

    path: str
    sha256: str
    content_sha256: str
    records: Count


class Task(Protocol):
    """One task of a benchmark."""

    @property
    def task_id(self) -> str | int:
        """Its name within the benchmark."""
        ...

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold if the task is to measure anything: its prompt and its solution."""
        ...


R = TypeVar("R")
T = TypeVar("T", bound=Task)


@dataclasses.dataclass(frozen=True)
class Tasks(Generic[T]):
    """A benchmark's tasks in the order of the file, and the file that they come from."""

    tasks: tuple[T, ...]
    file: BenchmarkFile
    source: Source

    @property
    def known(self) -> bool:
        """Whether the file holds, byte for byte, what this code was checked against."""
        return self.file["content_sha256"] == self.source.content_sha256


def json_lines(content: bytes) -> Iterator[Any]:
    """The records of JSON lines; numbers may be of any size, and Infinity and NaN, as Python writes them, are numbers.

    Raises:
        ValueError: a line is no JSON; the message says which.
    """
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is no JSON ({str(error) or 'nested too deeply'})") from error


def json_array(content: bytes) -> list[Any]:
    """The records of one JSON array.

    Raises:
        ValueError: it is none.
    """
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({str(error) or 'nested too deeply'})") from error
    if not isinstance(records, list):
        raise ValueError("it is no JSON array")
    return records


def unchanged(record: T, _number: int) -> T:
    """For files whose records are the tasks."""
    return record


def read_tasks(
    folder: str,
    source: Source,
    kind: type[R],
    make: Callable[[R, int], T],
    parse: Callable[[bytes], Iterable[Any]] = json_lines,
) -> Tasks[T]:
    """Reads a benchmark's file.

    Args:
        folder: of the benchmarks, local or a URL.
        source: which file.
        kind: of a record as it stands in the file; what else the record has is left out.
        make: makes a task of a record and its number, which counts from 0.
        parse: takes the uncompressed file apart.

    Raises:
        UserError: there is no such file, or it is cut off or otherwise damaged; the message says what to do.
    """
    path, remedy = storage.join(folder, source.path), source.remedy(folder)
    stored = _read(path, remedy)
    content = _unpacked(stored, path, remedy) if source.path.endswith(".gz") else stored
    tasks: dict[str | int, T] = {}
    try:
        for number, record in enumerate(parse(content)):
            task = _made(as_kind(record, kind, f"record {number} of {path}", remedy), number, make)
            if task.task_id in tasks:
                raise ValueError(f"record {number} is the second of the task {task.task_id!r}")
            tasks[task.task_id] = task
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from error
    if not tasks:
        raise UserError(f"{path} is damaged: it has no records; {remedy}")
    file = BenchmarkFile(
        path=source.path,
        sha256=hashlib.sha256(stored).hexdigest(),
        content_sha256=hashlib.sha256(content).hexdigest(),
        records=len(tasks),
    )
    return Tasks(tuple(tasks.values()), file, source)


def _made(record: R, number: int, make: Callable[[R, int], T]) -> T:
    try:
        task = make(record, number)
        for text in task.texts():
            text.encode()  # half of a surrogate pair, which JSON can hold, is no text
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"record {number} has another shape than its benchmark's ({error})") from error
    return task


def _read(path: str, remedy: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} is not there; {remedy}") from error


def _unpacked(stored: bytes, path: str, remedy: str) -> bytes:
    """A file's content, no further than a benchmark can be large."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
            content = file.read(_LARGEST + 1)
    except EOFError as error:
        raise UserError(f"{path} is cut off; {remedy}") from error
    except (OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from error
    if len(content) > _LARGEST:
        raise UserError(f"{path} is no file of this benchmark: it holds more than {_LARGEST} bytes; {remedy}")
    return content
