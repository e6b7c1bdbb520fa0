"""The host's end of the pipes to a contained process: frames in pieces, each way at once, up to a deadline."""

import contextlib
import fcntl
import os
import select
import time

from sc2jax.evaluation.sandbox.limits import Limits, TimedOut, TooLarge

_HEAD = 4
_PIECE = 1 << 18


class Frames:
    """Frames with their lengths before them, over two pipes whose other ends nobody can trust."""

    def __init__(self, writing: int, reading: int, limits: Limits) -> None:
        self._writing, self._reading = writing, reading
        self._limits = limits
        self._buffer = bytearray()
        self._received = 0
        self._ended = False
        for descriptor in (writing, reading):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):  # a user may have no more of such pipes
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIECE)

    def send(self, frame: bytes, deadline: float) -> None:
        """Sends a frame, and keeps what arrives meanwhile.

        Raises:
            TimedOut: the other end does not read.
            BrokenPipeError: it is closed.
            TooLarge: it writes too much meanwhile.
        """
        content = memoryview(len(frame).to_bytes(_HEAD, "big") + frame)
        poll = select.poll()
        poll.register(self._writing, select.POLLOUT)
        if not self._ended:
            poll.register(self._reading, select.POLLIN)
        while content:
            ready = dict(_poll(poll, deadline))
            if self._reading in ready and not self._read_piece():
                poll.unregister(self._reading)
            if self._writing in ready:
                with contextlib.suppress(BlockingIOError):
                    content = content[os.write(self._writing, content[:_PIECE]) :]

    def receive(self, deadline: float) -> bytes | None:
        """The next frame; None when the other end is closed.

        Raises:
            TimedOut: there is none in time.
            TooLarge: a frame, or all of them, are larger than allowed.
        """
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        while (frame := self._take_frame()) is None:
            if self._ended:
                return None
            _poll(poll, deadline)
            self._read_piece()
        return frame

    def _take_frame(self) -> bytes | None:
        if len(self._buffer) < _HEAD:
            return None
        end = _HEAD + int.from_bytes(self._buffer[:_HEAD], "big")
        if end - _HEAD > self._limits.frame_bytes:
            raise TooLarge(f"a frame of {end - _HEAD} bytes")
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[_HEAD:end])
        del self._buffer[:end]
        return frame

    def _read_piece(self) -> bool:
        """Reads what there is; False at the end."""
        try:
            piece = os.read(self._reading, _PIECE)
        except BlockingIOError:
            return True
        self._ended = not piece
        self._received += len(piece)
        if self._received > self._limits.output_bytes:
            raise TooLarge(f"more than {self._limits.output_bytes} bytes")
        self._buffer += piece
        if len(self._buffer) > self._limits.frame_bytes + _HEAD + _PIECE:
            raise TooLarge("more than a frame that nobody has asked for")
        return bool(piece)

    def close(self) -> None:
        """Closes this end."""
        for descriptor in (self._writing, self._reading):
            os.close(descriptor)


def _poll(poll: select.poll, deadline: float) -> list[tuple[int, int]]:
    ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    if not ready or time.monotonic() > deadline:  # a stream of small pieces is no way past a deadline
        raise TimedOut
    return ready
