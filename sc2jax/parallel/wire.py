"""What travels between the processes of a run: messages, one line of JSON each, over a TCP connection; and a relay.

By the relay JAX's runtime talks to its service in process 0. Its client ends a process in the very moment in which that
connection breaks, without a word that a user could understand; behind the relay it never sees it break.
"""

import contextlib
import json
import socket
import threading
import time
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_MOST_BYTES = 2**26
"""Of a message: whoever sends more is none of ours."""


class Wire:
    """One end of a connection, which never waits for the other; of one thread."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.heard = time.monotonic()
        """When anything was heard last."""
        self._incoming, self._outgoing = bytearray(), bytearray()

    @property
    def is_flushed(self) -> bool:
        """Whether all that was said is on its way."""
        return not self._outgoing

    def send(self, message: Message) -> None:
        """Says something, now or by the next calls of `flush`."""
        self._outgoing += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Sends what can be sent without waiting."""
        try:
            while self._outgoing:
                del self._outgoing[: self.connection.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()  # the connection is broken, which `receive` tells after what came before that

    def receive(self) -> list[Message]:
        """What has come since the last call.

        Raises:
            EOFError: the other end is closed.
            ValueError: what came is no message.
        """
        ended = False
        try:
            while not ended:
                piece = self.connection.recv(2**16)
                self._incoming += piece
                ended = not piece
                if len(self._incoming) > _MOST_BYTES:
                    raise ValueError(f"a message of more than {_MOST_BYTES:,} bytes")
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        if ended and not lines:
            raise EOFError
        if lines:
            self.heard = time.monotonic()
        return [_decoded(bytes(line)) for line in lines]

    def close(self) -> None:
        """Lets go of the connection."""
        self.connection.close()


def _decoded(line: bytes) -> Message:
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError(f"no message: {line[:100]!r}")
    return message


class Relay:
    """Listens at a port of this machine alone and passes on, in both directions, what comes and goes there."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="sc2jax-relay").start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()  # JAX's client tries again
                    continue
                for pump in (_pump_out, _pump_in):
                    threading.Thread(target=pump, args=(near, far), daemon=True, name="sc2jax-relay").start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()


def _pump_out(near: socket.socket, far: socket.socket) -> None:
    """What the near end says is lost where the far one is gone, for nobody is to notice that."""
    with contextlib.suppress(OSError):
        while piece := near.recv(2**16):
            with contextlib.suppress(OSError):
                far.sendall(piece)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)
    near.close()


def _pump_in(near: socket.socket, far: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := far.recv(2**16):
            near.sendall(piece)
