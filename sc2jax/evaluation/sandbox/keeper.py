"""The sandbox's outermost process: gives up the host's rights, starts the fork server, and bounds every tree's memory.

It is the only one that sees the machine's /proc. It ends with the host, however that ends, and everything with it.
It needs the standard library and its neighbours alone.
"""

import contextlib
import os
import select
import signal
import socket
import sys
from pathlib import Path

from sc2jax.evaluation.sandbox import contained, linux, server, starting, view
from sc2jax.evaluation.sandbox.contained import Setup

UNPRIVILEGED = 65534
"""The user `nobody` that root becomes."""

# As fast as a core can touch new memory, huge pages included.
_BYTES_A_SECOND = (8 << 30) * (os.cpu_count() or 1)
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.05


def main(setup: Setup) -> None:
    """Runs a sandbox until the host closes it or ends."""
    host = os.getppid()
    notes = socket.socket(fileno=setup["notes"])
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    try:
        process = _start_server(setup)
    except Exception as error:
        notes.send(contained.failure(error))
        return
    os.close(setup["control"])
    try:
        _watch(process, host, notes, setup["memory_bytes"])
    finally:
        _end_all(process)


def _start_server(setup: Setup) -> int:
    """Starts the fork server; gives back its number."""
    seen = _give_up_rights(setup)
    if setup["home"] != "/":
        view.refuse_below(seen, setup["home"])
    user = os.getuid()
    process = linux.fork_into(server.OUTER_NAMESPACES) if setup["rung"] == 1 else os.fork()
    if process == 0:
        os.close(setup["notes"])
        control = socket.socket(fileno=setup["control"])
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            contained.forget_signal_handlers()
            server.serve(control, starting.STARTERS[setup["rung"]](setup, seen, user))
        except BaseException as error:
            control.send(contained.failure(error))
        finally:
            os._exit(0)
    return process


def _give_up_rights(setup: Setup) -> view.View:
    """Becomes an unprivileged user, who can still reach what is to be seen inside."""
    sys.path.extend(setup["package_folders"])
    linux.leave_keyring()
    seen = view.interpreter_view(setup["packages"])
    if os.getuid() == 0:
        view.make_reachable(seen)
        os.setgroups([])
        os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or it could not say who it is in its namespace
    return seen


def _end_all(process: int) -> None:
    """Ends the server, and what is left without it: in a PID namespace that is nothing."""
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while left := _children(os.getpid()):
        for each in left:
            os.kill(each, signal.SIGKILL)
            os.waitpid(each, 0)


def _watch(process: int, host: int, notes: socket.socket, memory_bytes: int) -> None:
    """Looks at the memory of each tree, again before the rest can be filled, until the host or the server is gone."""
    server_gone = os.pidfd_open(process)
    poll = select.poll()
    poll.register(notes, select.POLLIN)
    poll.register(server_gone, select.POLLIN)
    wait = _SHORTEST_WAIT
    while not poll.poll(wait * 1000) and os.getppid() == host:
        largest = 0
        for top in _children(process):
            tree = _descendants(top)
            held = _resident(tree, memory_bytes)
            largest = max(largest, held)
            if held > memory_bytes:
                _kill_tree(top, process, tree, notes)
        _bury_orphans(process)
        wait = min(max((memory_bytes - largest) / _BYTES_A_SECOND, _SHORTEST_WAIT), _LONGEST_WAIT)


def _bury_orphans(server_process: int) -> None:
    """What lost its parent became this process's child."""
    for each in _children(os.getpid()):
        if each != server_process:
            os.waitpid(each, os.WNOHANG)


def _kill_tree(top: int, parent: int, tree: list[int], notes: socket.socket) -> None:
    try:
        handle = os.pidfd_open(top)
    except OSError:
        return
    try:
        if top in _children(parent):  # still the same process: its number is taken until its parent buries it
            with contextlib.suppress(OSError):  # the host may be gone, or have left too many unread
                notes.send(" ".join(str(each) for each in tree[:100]).encode(), socket.MSG_DONTWAIT)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _children(process: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
            with Path(f"/proc/{process}/task/{thread}/children").open() as stream:
                found.extend(int(number) for number in stream.read().split())
    except OSError:
        pass  # it ended
    return found


def _descendants(top: int) -> list[int]:
    """A process and all that descends from it; whoever loses its parent is a child of the namespace's first process."""
    found = [top]
    for process in found:
        found.extend(_children(process))
    return found


def _resident(tree: list[int], limit: int) -> int:
    """The memory of some processes in bytes; if that is above the limit, what several share is counted once."""
    pages = sum(_pages(process) for process in tree) * _PAGE
    return pages if pages <= limit else sum(_share(process) for process in tree)


def _pages(process: int) -> int:
    try:
        with Path(f"/proc/{process}/statm").open() as stream:
            return int(stream.read().split()[1])
    except OSError:
        return 0


def _share(process: int) -> int:
    """The resident memory of a process in bytes, what it shares with others divided among them."""
    try:
        with Path(f"/proc/{process}/smaps_rollup").open() as stream:
            return sum(int(line.split()[1]) for line in stream if line.startswith("Pss:")) * 1024
    except OSError:
        return _pages(process) * _PAGE  # it may not be looked into: more than its share, never less


_PAGE = os.sysconf("SC_PAGE_SIZE")
