"""One writer a folder: a lock that says who holds it, and that goes when its holder does.

On a local disk and on NFS the kernel holds it for as long as the process lives. An object store knows no such thing:
there the lock is an object that is created only if it is absent and renewed while the work goes on; one that was not
renewed for a minute is stale, and the next writer replaces it. Whoever finds its own lock replaced stops before it
writes. S3's, Google's and Azure's packages create if absent: on a server of S3's interface (moto) one of four processes
that tried at once got the lock each time; of the other two only the code was read. HDFS knows no such call and refuses.
Between its last look at the lock and the commit a writer that hung for a minute can be overtaken.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import decode_json
from sc2jax.stores import StoreError

STALE_SECONDS = 60
RENEW_SECONDS = 15


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock; `renewed` is in seconds since 1970, `token` tells two locks of one process apart."""

    host: str
    process: int
    since: str
    renewed: float
    token: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


@contextlib.contextmanager
def locked(path: str, what: str) -> Iterator[Callable[[], None]]:
    """Holds the lock file `path`; gives a function that raises if the lock was lost meanwhile.

    Args:
        path: of the lock, in a folder that exists.
        what: is locked, for the message.

    Raises:
        UserError: another process holds it, or has replaced it.
    """
    hold = _leased if storage.is_url(path) else _held
    with hold(path, what) as still_ours:
        yield still_ours


def holder(path: str) -> Holder | None:
    """Who holds a lock now, if anybody does; takes none itself.

    Raises:
        UserError: the lock is held, and its file is damaged.
    """
    if storage.is_url(path):
        found = _read(path)
        return found if found is not None and not _is_stale(found) else None
    if not Path(path).exists():
        return None
    file = _open(Path(path), os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path)
    finally:
        os.close(file)
    return None


def is_lock(path: str) -> bool:
    """Whether a file is a lock, held or not: it says who took it last, or nothing, if that one was killed at once.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no regular file.
    """
    content = storage.read_bytes(path)
    try:
        decode_json(content, Holder, path, "")
    except UserError:
        return not content
    return True


def _us() -> Holder:
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return Holder(socket.gethostname(), os.getpid(), since, time.time(), secrets.token_hex(8))


def _json(holder: Holder) -> bytes:
    return json.dumps(dataclasses.asdict(holder)).encode()


def _read(path: str) -> Holder | None:
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        return None
    return decode_json(content, Holder, path, "delete it if no other process writes there")


def _busy(what: str, holder: Holder | None) -> UserError:
    return UserError(f"{what} is being written by {holder or 'another process'}; wait until it is done, or stop it")


@contextlib.contextmanager
def _held(path: str, what: str) -> Iterator[Callable[[], None]]:
    file = _open_locked(Path(path), what)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, _json(_us()), 0)
        yield lambda: None
    finally:
        os.close(file)


def _open(path: Path, how: int) -> int:
    """Opens a lock's file, and neither what a link leads to nor a pipe."""
    try:
        file = os.open(path, how | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path} is no file of ours; remove it") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise UserError(f"{path} is no file of ours; remove it")
    return file


def _open_locked(path: Path, what: str) -> int:
    while True:
        file = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have deleted it between our opening and our locking it.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError as error:
            os.close(file)
            raise _busy(what, _holder_if_known(str(path))) from error
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _holder_if_known(path: str) -> Holder | None:
    """Who wrote the lock's file, which is empty in the moment between locking and writing it."""
    try:
        return _read(path)
    except UserError:
        return None


@contextlib.contextmanager
def _leased(path: str, what: str) -> Iterator[Callable[[], None]]:
    ours = _us()
    _take(path, what, ours)
    ended = threading.Event()

    def still_ours() -> None:
        found = _read(path)
        if found is None or found.token != ours.token:
            raise UserError(f"{what} was taken over by {found or 'another process'}; nothing more was written")

    def renew() -> None:
        while not ended.wait(RENEW_SECONDS):
            try:
                still_ours()
                storage.write_whole(path, _json(dataclasses.replace(ours, renewed=time.time())))
            except StoreError:
                continue  # the next turn tries again
            except UserError:
                return  # the work finds out when it asks

    thread = threading.Thread(target=renew, daemon=True, name="sc2jax-lock")
    thread.start()
    try:
        yield still_ours
    finally:
        ended.set()
        thread.join()
        found = _read(path)
        if found is not None and found.token == ours.token:
            storage.delete_file(path)


def _take(path: str, what: str, ours: Holder) -> None:
    for _ in range(2):
        try:
            storage.create_file(path, _json(ours))
            return
        except FileExistsError as error:
            found = _read(path)
            if found is not None and not _is_stale(found):
                raise _busy(what, found) from error
            with contextlib.suppress(FileNotFoundError):
                storage.delete_file(path)
    raise _busy(what, _read(path))


def _is_stale(holder: Holder) -> bool:
    return time.time() - holder.renewed > STALE_SECONDS
