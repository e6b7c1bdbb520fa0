"""How each rung starts a contained process, in the fork server.

It needs the standard library and its neighbours alone.
"""

import importlib
import json
import os
import signal
import socket
import sys

from sc2jax.evaluation.sandbox import contained, linux, server, view
from sc2jax.evaluation.sandbox.contained import Setup
from sc2jax.evaluation.sandbox.server import Pipes, Started, Starter

PROC = "/proc"


def in_namespaces(setup: Setup, seen: view.View, user: int) -> Starter:
    """Rung 1: the server is the first process of its namespaces and root in them, each child is in its own again."""
    proc = os.open(PROC, os.O_PATH | os.O_DIRECTORY)  # of the machine: `self` in it is whoever opens it
    server.map_user(0, user, proc)
    view.build_root(seen)
    socket.sethostname("sandbox")
    entry = contained.load_guest(setup)
    server.refuse_threads(proc)

    def start(pipes: Pipes) -> Started:
        child = linux.fork_into(server.CHILD_NAMESPACES)
        if child == 0:
            try:
                server.map_user(server.INNER_USER, 0, proc)
                contained.mount_home(setup)
            except BaseException as error:
                os.write(pipes[2], contained.failure(error))
                os._exit(0)
            contained.run_first(entry, setup, pipes)
        return Started(killed=child, buried=child, silent=False)

    return start


def in_bubblewrap(setup: Setup, seen: view.View, user: int) -> Starter:  # noqa: ARG001
    """Rung 2: a container by bubblewrap for each process, which loads the interpreter and the guest anew."""
    sources = [pair for pair in setup["sources"] if pair[0] in ("linux", "contained")]
    content = json.dumps({**setup, "sources": sources}).encode()
    command = _bubblewrap_command(setup, seen)

    def start(pipes: Pipes) -> Started:
        setup_file = os.memfd_create("setup")
        os.write(setup_file, content)
        os.lseek(setup_file, 0, os.SEEK_SET)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                contained.take_descriptors(*pipes, setup_file, writing)
                os.dup2(6, 0)
                os.dup2(7, 2)
                os.close(6)
                os.execve(command[0], command, {})
            finally:
                os._exit(127)
        os.close(setup_file)
        os.close(writing)
        return Started(killed=_first_process(reading, child), buried=child, silent=False)

    return start


def _bubblewrap_command(setup: Setup, seen: view.View) -> list[str]:
    command = [setup["bubblewrap"], "--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session"]
    command += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]  # to mount /tmp; the contained process has none
    command += ["--uid", str(server.INNER_USER), "--gid", str(server.INNER_USER), "--hostname", "sandbox"]
    command += ["--info-fd", "7", "--tmpfs", "/"]
    for source, target in view.links():
        command += ["--symlink", target, source]
    for path in seen.shown:
        command += ["--ro-bind", os.path.realpath(path), view.home_of(path)]
    for path in view.DEVICES:
        command += ["--dev-bind", path, path]
    for path in seen.hidden:
        command += ["--tmpfs", path, "--remount-ro", path]
    command += ["--dir", "/tmp", "--remount-ro", "/", "--clearenv"]
    for name, value in setup["environment"].items():
        command += ["--setenv", name, value]
    return [*command, "--chdir", "/", "--", *setup["command"]]


def _first_process(reading: int, child: int) -> int:
    """The number of the container's first process, as bubblewrap says it.

    Raises:
        OSError: it made none.
    """
    said = b""
    while b"}" not in said and (piece := os.read(reading, 4096)):
        said += piece
    os.close(reading)
    try:
        return json.loads(said[said.index(b"{") : said.index(b"}") + 1])["child-pid"]
    except (ValueError, KeyError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise OSError(said.decode(errors="replace").strip() or "bubblewrap made no process") from None


def under_landlock(setup: Setup, seen: view.View, user: int) -> Starter:  # noqa: ARG001
    """Rung 3: a child that may read the view alone, and neither write, nor start a process, nor signal one."""
    ruleset = linux.landlock_ruleset(view.landlock_rights(seen))
    for package in setup["packages_by_name"]:
        importlib.import_module(package)
    # Where they are installed cannot be listed, and an import from there would fail with another error than elsewhere.
    sys.path[:] = [path for path in sys.path if path not in setup["package_folders"]]
    return _by_fork(setup, (ruleset,))


def bare(setup: Setup, seen: view.View, user: int) -> Starter:  # noqa: ARG001
    """Rung 4: a child with limits, which are no containment."""
    return _by_fork(setup, ())


def _by_fork(setup: Setup, more_descriptors: tuple[int, ...]) -> Starter:
    entry = contained.load_guest(setup)
    server.refuse_threads(os.open(PROC, os.O_PATH | os.O_DIRECTORY))
    parent = os.getpid()

    def start(pipes: Pipes) -> Started:
        child = os.fork()
        if child == 0:
            try:
                contained.take_descriptors(*pipes, *more_descriptors)
                linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == parent:
                    contained.run_contained(entry, setup)
            finally:
                os._exit(0)
        return Started(killed=child, buried=child, silent=True)

    return start


STARTERS = {1: in_namespaces, 2: in_bubblewrap, 3: under_landlock, 4: bare}
