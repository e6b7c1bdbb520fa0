"""The fork server: makes the contained processes, gives the host the pipes to them, and never reads those itself.

It needs the standard library and its neighbours alone.
"""

import array
import contextlib
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sc2jax.evaluation.sandbox import contained, linux

Pipes = tuple[int, int, int]
"""To receive from, to send to, and to write the ending to."""


@dataclass(frozen=True)
class Started:
    """A process that was started."""

    killed: int
    """Its number; what it started ends with it."""

    buried: int
    """The server's own child to wait for, which is another one where another program made the container."""

    silent: bool
    """Whether the server must write its ending."""


Starter = Callable[[Pipes], Started]


@dataclass(frozen=True)
class _Spare:
    """A process that waits for its first frame."""

    process: Started
    for_host: tuple[int, int, int, int]
    """To write to it, to read from it and its ending, and a descriptor of the process."""


def serve(control: socket.socket, start: Starter) -> None:
    """Hands the host a process for each message, keeps the next one ready meanwhile, and buries the dead.

    Making the namespaces and giving up all rights takes longer than most programs, and so goes on beside them.
    """
    waiting: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its number, and where its ending goes
    poll = select.poll()
    poll.register(control, select.POLLIN)
    spare: _Spare | OSError = _make(start, poll, waiting)
    control.send(b"ready")
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                poll.unregister(descriptor)
                os.close(descriptor)
                _bury(*waiting.pop(descriptor))
            elif not control.recv(16):
                return  # the host is gone
            else:
                _hand_over(control, spare)
                spare = _make(start, poll, waiting)


def _make(start: Starter, poll: select.poll, waiting: dict[int, tuple[int, int]]) -> _Spare | OSError:
    inside_in, host_out = os.pipe()
    host_in, inside_out = os.pipe()
    ending, inside_ending = os.pipe()
    inside = (inside_in, inside_out, inside_ending)
    try:
        process = start(inside)
    except OSError as error:
        for descriptor in (host_out, host_in, ending):
            os.close(descriptor)
        return error
    finally:
        for descriptor in inside[:2]:
            os.close(descriptor)
    if not process.silent:
        os.close(inside_ending)
    own = os.pidfd_open(process.buried)
    poll.register(own, select.POLLIN)
    waiting[own] = (process.buried, inside_ending if process.silent else -1)
    return _Spare(process, (host_out, host_in, ending, os.pidfd_open(process.killed)))


def _hand_over(control: socket.socket, spare: _Spare | OSError) -> None:
    if isinstance(spare, OSError):
        control.send(contained.failure(spare))
        return
    control.sendmsg([b"started"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", spare.for_host))])
    for descriptor in spare.for_host:
        os.close(descriptor)


def _bury(process: int, ending_pipe: int) -> None:
    _, status = os.waitpid(process, 0)
    if ending_pipe < 0:
        return
    with contextlib.suppress(BrokenPipeError):  # the host does not want to know any more
        os.write(ending_pipe, contained.describe_status(status))
    os.close(ending_pipe)


def map_user(inner: int, outer: int, proc: int) -> None:
    """Says which user and group of the parent namespace this process is, and what they are called in its own."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inner} {outer} 1"), ("gid_map", f"{inner} {outer} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def refuse_threads(proc: int) -> None:
    """Makes sure that the process can fork: locks that another thread holds would stay locked for ever.

    Raises:
        RuntimeError: it has threads.
    """
    folder = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    threads = len(os.listdir(folder))  # noqa: PTH208
    os.close(folder)
    if threads > 1:
        raise RuntimeError(f"what the guest preloads started {threads - 1} threads, which cannot be forked")


OUTER_NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)
CHILD_NAMESPACES = linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC
INNER_USER = 1000
