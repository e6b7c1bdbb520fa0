"""The fork server: makes a contained process for each three pipes that the host sends it, and never touches those.

It needs the standard library and its neighbours `linux`, `contained` and `view` alone.
"""

import array
import os
import select
import signal
import socket
from collections.abc import Callable

from sc2jax.evaluation.sandbox import contained, linux, view
from sc2jax.evaluation.sandbox.contained import Setup

Pipes = tuple[int, int, int]
"""To receive from, to send to, and to write the ending to."""

Starter = Callable[[Pipes], tuple[int, int, bool]]
"""Gives back the process that the host shall kill, the one to wait for, and whether it tells of its ending itself."""

OUTER_NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)
_CHILD_NAMESPACES = linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC
_INNER_USER = 1000


def serve(control: socket.socket, start: Starter) -> None:
    """Starts a process for each message of three pipes, answers with a descriptor of the process, buries the dead."""
    waiting: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its number, and where its ending goes
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                poll.unregister(descriptor)
                os.close(descriptor)
                _bury(*waiting.pop(descriptor))
                continue
            message, pipes = _receive_descriptors(control)
            if not message:
                return
            process = _answer(control, start, pipes)
            if process:
                own = os.pidfd_open(process[0])
                poll.register(own, select.POLLIN)
                waiting[own] = process


def _receive_descriptors(control: socket.socket) -> tuple[bytes, Pipes]:
    message, descriptors, _, _ = socket.recv_fds(control, 16, 3)
    return message, (descriptors[0], descriptors[1], descriptors[2]) if message else (-1, -1, -1)


def _answer(control: socket.socket, start: Starter, pipes: Pipes) -> tuple[int, int] | None:
    status_pipe = -1
    try:
        killed, waited, tells = start(pipes)
        if not tells:
            status_pipe = os.dup(pipes[2])
        handle = os.pidfd_open(killed)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))]
        control.sendmsg([b"started %d" % waited], rights)
        os.close(handle)
        return waited, status_pipe
    except OSError as error:
        if status_pipe >= 0:
            os.close(status_pipe)
        control.send(contained.failure(error))
        return None
    finally:
        for pipe in pipes:
            os.close(pipe)


def _bury(process: int, status_pipe: int) -> None:
    _, status = os.waitpid(process, 0)
    if status_pipe >= 0:
        try:
            os.write(status_pipe, contained.describe_status(status))
        except BrokenPipeError:
            pass  # the host does not want to know any more
        os.close(status_pipe)


def map_user(inner: int, outer: int, proc: int) -> None:
    """Says which user and group of the parent namespace this process is, and what it is called in its own."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inner} {outer} 1"), ("gid_map", f"{inner} {outer} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def run_in_namespaces(setup: Setup, control: socket.socket, seen: view.View, user: int) -> None:
    """Rung 1: the server is the first process of its namespaces and root in them, each child is in its own again."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)  # of the machine: `self` in it is whoever opens it
    map_user(0, user, proc)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    view.build_root(seen)
    socket.sethostname("sandbox")
    entry = contained.load_guest(setup)

    def start(pipes: Pipes) -> tuple[int, int, bool]:
        child = linux.fork_into(_CHILD_NAMESPACES)
        if child == 0:
            try:
                map_user(_INNER_USER, 0, proc)
                options = f"size={setup['disk_bytes']},nr_inodes={setup['disk_files']},mode=1777"
                linux.mount("tmp", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
            except BaseException as error:
                os.write(pipes[2], contained.failure(error))
                os._exit(0)
            contained.run_first(entry, setup, pipes)
        return child, child, True

    control.send(b"ready")
    serve(control, start)
