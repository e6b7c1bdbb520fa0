"""Inside: the first process of a container, and the contained one, which runs the guest.

It needs the standard library and `linux` alone, and no file: whoever starts it loads the sources in memory.
"""

import fcntl
import gc
import os
import resource
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

from sc2jax.evaluation.sandbox import linux

RECEIVE, SEND = 3, 4
"""The two pipes of the contained process."""

_STATUS, _RULESET = 5, 6
_ABOVE = 16

Setup = dict[str, Any]
"""What the host sends when a sandbox opens (`opening.py` makes it)."""

Entry = Callable[[Callable[[], bytes | None], Callable[[bytes], None]], None]
"""A guest's function."""


def load_guest(setup: Setup) -> Entry:
    """Loads the guest's modules in memory, and what it asks to have imported beforehand; gives back its entry."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a thread of numpy's would keep forks of this process waiting for ever
    for name in setup["preload"]:
        __import__(name)
    module = types.ModuleType("guest")
    for name, source in setup["guest"]:
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    gc.collect()
    gc.freeze()  # what is loaded stays, and its pages stay shared
    return getattr(module, setup["entry"])


def main(setup: Setup) -> None:
    """As the first process of a container that another program made (rung 2), with the pipes at their places."""
    try:
        forget_signal_handlers()
        sys.path.extend(setup["package_folders"])
        mount_home(setup)
        entry = load_guest(setup)
    except BaseException as error:
        os.write(_STATUS, failure(error))
        os._exit(0)
    run_first(entry, setup, (RECEIVE, SEND, _STATUS))


def forget_signal_handlers() -> None:
    """Leaves every signal to the kernel: one that is the first of a namespace is deaf to those."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def mount_home(setup: Setup) -> None:
    """Gives the container the one folder that can be written to."""
    options = f"size={setup['disk_bytes']},nr_inodes={setup['disk_files']},mode=1777"
    linux.mount("tmp", setup["home"], "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)


def run_first(entry: Entry, setup: Setup, pipes: tuple[int, int, int]) -> None:
    """As the first process of a PID namespace: runs the contained one, says how it ended, and ends.

    With it the kernel ends whatever else runs in the namespace. It handles no signal, so none from inside reaches it.

    Args:
        entry: the guest.
        setup: what the host sent.
        pipes: to receive from, to send to, and to write the ending to.
    """
    try:
        take_descriptors(*pipes)
        contained = os.fork()
        if contained == 0:
            run_contained(entry, setup)
        os.close(RECEIVE)
        os.close(SEND)
        while True:
            process, status = os.wait()  # adopts and buries whatever loses its parent
            if process == contained:
                os.write(_STATUS, describe_status(status))
                break
    except BaseException as error:
        os.write(_STATUS, failure(error))
    finally:
        os._exit(0)


def describe_status(status: int) -> bytes:
    """How a process ended, as the host reads it."""
    if os.WIFSIGNALED(status):
        return b"signal %d" % os.WTERMSIG(status)
    return b"exited %d" % os.WEXITSTATUS(status)


def failure(error: BaseException) -> bytes:
    """The same where the sandbox itself failed."""
    return f"lost {type(error).__name__}: {error}".encode()[:1000]


def run_contained(entry: Entry, setup: Setup) -> None:
    """Becomes the contained process: gives up what it must not have, runs the guest, and exits."""
    code = 70
    try:
        try:
            os.setsid()
            _give_up_rights(setup)
        except BaseException as error:
            os.write(_STATUS, failure(error))
            os._exit(code)
        linux.close_from(_STATUS)
        _send(b"")  # to greet: from here on the guest is to blame
        entry(_receive, _send)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
    finally:
        os._exit(code & 0xFF)


def take_descriptors(*descriptors: int) -> None:
    """Leaves the pipes at 3 and 4, and at 5 and 6 what goes before the guest starts; the standard streams lead nowhere.

    Args:
        descriptors: to receive from, to send to, to write the ending to, and what Landlock shall allow, if it is used.
    """
    null = os.open("/dev/null", os.O_RDWR)
    # Copies at free numbers above, so that none of them is in another's place.
    null, *high = (fcntl.fcntl(each, fcntl.F_DUPFD, _ABOVE) for each in (null, *descriptors))
    for at, descriptor in enumerate((null, null, null, *high)):
        os.dup2(descriptor, at, inheritable=True)
    linux.close_from(3 + len(descriptors))


def _give_up_rights(setup: Setup) -> None:
    sys.argv[:] = [""]
    os.environ.clear()
    os.chdir(setup["home"])
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python starts
    for name, value in setup["limits"].items():
        number = getattr(resource, name)
        _, hard = resource.getrlimit(number)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    linux.drop_capabilities()
    if setup["rung"] == 3:
        linux.restrict_by_landlock(_RULESET)
    own = os.getpid().to_bytes(4, sys.byteorder)
    mark = setup["own_process_mark"].to_bytes(4, sys.byteorder)
    linux.install_filters([bytes.fromhex(program).replace(mark, own) for program in setup["filters"]])


def _receive() -> bytes | None:
    """The next frame from the host; None when it sends no more."""
    head = _read_exactly(4)
    return None if head is None else _read_exactly(int.from_bytes(head, "big"))


def _read_exactly(count: int) -> bytes | None:
    content = bytearray()
    while len(content) < count:
        piece = os.read(RECEIVE, min(count - len(content), 1 << 20))
        if not piece:
            return None
        content += piece
    return bytes(content)


def _send(frame: bytes) -> None:
    """Sends a frame to the host, in pieces as the pipe takes them."""
    content = memoryview(len(frame).to_bytes(4, "big") + frame)
    while content:
        content = content[os.write(SEND, content) :]
