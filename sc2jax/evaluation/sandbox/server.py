"""The fork server: makes a contained process for each three pipes that the host sends it, and never touches those.

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


def serve(control: socket.socket, start: Starter) -> None:
    """Starts a process for each message of three pipes, answers with a descriptor of it, and buries the dead."""
    waiting: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its number, and where its ending goes
    poll = select.poll()
    poll.register(control, select.POLLIN)
    control.send(b"ready")
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                poll.unregister(descriptor)
                os.close(descriptor)
                _bury(*waiting.pop(descriptor))
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 16, 3)
            if not message:
                return  # the host is gone
            process = _answer(control, start, (descriptors[0], descriptors[1], descriptors[2]))
            if process:
                own = os.pidfd_open(process[0])
                poll.register(own, select.POLLIN)
                waiting[own] = process


def _answer(control: socket.socket, start: Starter, pipes: Pipes) -> tuple[int, int] | None:
    try:
        started = start(pipes)
        handle = os.pidfd_open(started.killed)
        control.sendmsg([b"started"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))])
        os.close(handle)
        return started.buried, os.dup(pipes[2]) if started.silent else -1
    except OSError as error:
        control.send(contained.failure(error))
        return None
    finally:
        for pipe in pipes:
            os.close(pipe)


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
