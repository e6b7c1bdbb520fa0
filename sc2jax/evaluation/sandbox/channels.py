"""The host's connection to a sandbox's own processes: it starts them, asks the fork server, and ends them."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sc2jax.evaluation.sandbox.limits import Ended, Ending, Kind

_SECONDS_TO_OPEN = 60.0
_SECONDS_TO_START = 30.0
_SECONDS_TO_END = 30.0
_SOURCES = ("linux", "contained", "view", "server", "starting", "keeper")
_ROOM = "sc2jax.evaluation.sandbox"

# Sets have one order in every run, as some benchmarks need; the guest sees an empty environment.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}

BOOT = f"""
import json, sys, types
def load(setup):
    room = types.ModuleType("{_ROOM}")
    for name in ("sc2jax", "sc2jax.evaluation"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["{_ROOM}"] = room
    for name, source in setup["sources"]:
        module = types.ModuleType("{_ROOM}." + name)
        sys.modules[module.__name__] = module
        setattr(room, name, module)
        exec(compile(source, "<" + name + ">", "exec"), module.__dict__)
    return module
setup = json.loads(sys.stdin.buffer.read())
load(setup).main(setup)
"""
"""What the sandbox's own processes start with: they load sources in memory, since no file of ours exists inside."""


class Channels:
    """The sandbox's outermost process, and the sockets to it and to the fork server."""

    def __init__(self, setup: Mapping[str, object]) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._notes, notes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sources = [(name, (Path(__file__).parent / f"{name}.py").read_text()) for name in _SOURCES]
        # Neither installed packages nor the folder at hand; no compiled files.
        command = [interpreter(), "-S", "-s", "-P", "-B", "-c", BOOT]
        sent = {
            **setup,
            "sources": sources,
            "control": control.fileno(),
            "notes": notes.fileno(),
            "command": command,
            "environment": _ENVIRONMENT,
        }
        with control, notes:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_ENVIRONMENT,
                pass_fds=(control.fileno(), notes.fileno()),
                start_new_session=True,  # a Ctrl-C is for the host, which closes the sandbox in its own time
            )
        try:
            self._send_setup(json.dumps(sent).encode())
        except BaseException:
            self.close()
            raise

    def _send_setup(self, content: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stream:
            stream.write(content)
        with _limited(self._control, _SECONDS_TO_OPEN):
            said = self._control.recv(4096).decode(errors="replace")
        if said != "ready":
            with _limited(self._notes, 1.0):
                said = said or self._notes.recv(4096).decode(errors="replace")
            raise Ended(_lost(said))

    def start(self) -> tuple[int, int, int, int]:
        """Asks for a process: descriptors to write to it, to read from it and its ending, and of itself.

        Raises:
            Ended: the sandbox failed.
        """
        try:
            with _limited(self._control, _SECONDS_TO_START):
                self._control.send(b"next")
                said, found, _, _ = socket.recv_fds(self._control, 4096, 4)
        except OSError as error:
            raise Ended(_lost(str(error))) from error
        if len(found) != 4:
            raise Ended(_lost(said.decode(errors="replace")))
        return found[0], found[1], found[2], found[3]

    def over_memory(self) -> list[int]:
        """The numbers of all processes that were ended for their memory since this was last asked."""
        numbers: list[int] = []
        with contextlib.suppress(OSError):  # there are no more, or the sandbox is closed
            while note := self._notes.recv(4096, socket.MSG_DONTWAIT):
                numbers.extend(int(each) for each in note.split())
        return numbers

    def close(self) -> None:
        """Ends the sandbox and all that is in it."""
        for connection in (self._control, self._notes):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # closing is not enough where the host has forked
            connection.close()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except BaseException:
            self._process.kill()  # the fork server dies with its parent
            self._process.wait()
            raise


def interpreter() -> str:
    """The Python that runs inside: the one that this environment was made from."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _lost(said: str) -> Ending:
    return Ending(Kind.LOST, detail=said.removeprefix("lost ") or "the sandbox's own process ended")


@contextlib.contextmanager
def _limited(connection: socket.socket, seconds: float):
    connection.settimeout(seconds)
    try:
        yield
    except TimeoutError as error:
        raise Ended(_lost(f"no answer in {seconds:.0f} s")) from error
