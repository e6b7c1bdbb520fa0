"""What runs inside a sandbox, what it may use, and how it can end."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True)
class Guest:
    """What runs inside."""

    modules: tuple[Path, ...]
    """Source files that need the standard library and `packages` alone. They are loaded in this order, in memory:
    no file inside holds them. One of ours is imported by its name, another by its stem."""

    entry: str
    """A function of the last module, called as `entry(receive, send)` in each contained process: `receive()` is the
    next frame from the host, or None when it sends no more; `send(frame)` sends one."""

    preload: tuple[str, ...] = ()
    """Modules that are imported once, before the contained processes are forked."""

    packages: tuple[str, ...] = ()
    """Installed packages that can be imported inside, such as `numpy`."""


@dataclass(frozen=True)
class Limits:
    """What one contained process, with all that it starts, may use."""

    memory_bytes: int
    """Address space of each process, and resident memory of all of them together."""

    disk_bytes: int
    """Size of /tmp, which is memory too."""

    processes: int
    """Processes and threads at a time."""

    open_files: int
    """Descriptors of each process."""

    frame_bytes: int
    """Largest frame from inside, and about the most that waits in the host unread."""

    output_bytes: int
    """All frames from inside together, with their lengths."""


class Kind(StrEnum):
    """How a contained process ended: by itself, by a signal, by the bound on memory, by the host, or it was lost.

    Lost is no doing of the guest: the sandbox itself failed, or something outside ended it.
    """

    EXITED = "exited"
    SIGNAL = "signal"
    MEMORY = "memory"
    KILLED = "killed"
    LOST = "lost"


@dataclass(frozen=True)
class Ending:
    """How a contained process ended."""

    kind: Kind
    status: int = 0
    """The exit status, or the number of the signal."""

    detail: str = ""
    """Of one that was lost: what is known."""


class TimedOut(Exception):  # noqa: N818
    """The deadline passed; the process goes on."""


class TooLarge(Exception):  # noqa: N818
    """More came from inside than the limits allow; nothing more can be received."""


class Ended(Exception):  # noqa: N818
    """The process ended, or closed its pipe and was killed for it."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"{ending.kind} {ending.status} {ending.detail}".strip())
        self.ending = ending
