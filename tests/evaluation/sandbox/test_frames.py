"""Frames from an end that nobody can trust."""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator

import pytest

from sc2jax.evaluation.sandbox.frames import Frames
from sc2jax.evaluation.sandbox.limits import Limits, TimedOut, TooLarge

LIMITS = Limits(0, 0, 0, 0, frame_bytes=1000, output_bytes=3000)


@contextlib.contextmanager
def frames(limits: Limits = LIMITS) -> Iterator[tuple[Frames, int, int]]:
    """The host's end, and the other one: to read from and to write to."""
    reading, writing = os.pipe()
    back_reading, back_writing = os.pipe()
    ours = Frames(writing, back_reading, limits)
    try:
        yield ours, reading, back_writing
    finally:
        for descriptor in (writing, back_reading, reading, back_writing):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_frames_that_arrive_in_one_piece_or_in_many_are_the_same() -> None:
    with frames() as (ours, _, writing):
        os.write(writing, b"\0\0\0\2ab\0\0\0\0\0\0\0\3c")
        assert ours.receive(soon()) == b"ab"
        assert ours.receive(soon()) == b""
        with pytest.raises(TimedOut):
            ours.receive(soon(0.05))
        os.write(writing, b"de")
        assert ours.receive(soon()) == b"cde"
        os.close(writing)
        assert ours.receive(soon()) is None


def test_half_a_frame_at_the_end_is_none() -> None:
    with frames() as (ours, _, writing):
        os.write(writing, b"\0\0\0\5abc")
        os.close(writing)
        assert ours.receive(soon()) is None


def test_a_byte_at_a_time_is_no_way_past_the_deadline() -> None:
    with frames() as (ours, _, writing):
        stop = threading.Event()

        def dribble() -> None:
            os.write(writing, b"\0\0\3\xe8")
            while not stop.wait(0.001):
                os.write(writing, b"x")

        thread = threading.Thread(target=dribble)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(TimedOut):
            ours.receive(begun + 0.2)
        assert time.monotonic() - begun < 0.9  # before the frame is whole
        stop.set()
        thread.join()


def test_what_comes_after_the_deadline_comes_too_late() -> None:
    with frames() as (ours, _, writing):
        os.write(writing, b"\0\0\0\1a")
        with pytest.raises(TimedOut):
            ours.receive(time.monotonic() - 0.01)
        assert ours.receive(soon()) == b"a"


def test_limits_hold_to_the_byte() -> None:
    with frames() as (ours, _, writing):
        os.write(writing, b"\0\0\3\xe8" + bytes(1000))
        assert ours.receive(soon()) == bytes(1000)
        os.write(writing, b"\0\0\3\xe9")
        with pytest.raises(TooLarge, match="1001"):
            ours.receive(soon())
    with frames() as (ours, _, writing):
        os.write(writing, (b"\0\0\3\xe4" + bytes(996)) * 3)
        assert [ours.receive(soon()) for _ in range(3)] == [bytes(996)] * 3
        os.write(writing, b"x")
        with pytest.raises(TooLarge, match="3000"):
            ours.receive(soon())


def test_what_arrives_while_sending_is_kept_and_limited() -> None:
    with frames() as (ours, reading, writing):
        os.write(writing, b"\0\0\0\1a")
        with pytest.raises(TimedOut):
            ours.send(bytes(2 << 20), soon(0.1))  # nobody reads it
        assert ours.receive(soon()) == b"a"
        os.write(writing, bytes(3001))
        with pytest.raises(TooLarge):
            ours.send(bytes(2 << 20), soon())
        assert os.read(reading, 4) == (2 << 20).to_bytes(4, "big")


def test_sending_goes_on_when_nothing_more_will_come() -> None:
    with frames() as (ours, reading, writing):
        os.close(writing)
        received = bytearray()

        def read() -> None:
            while len(received) < 4 + (1 << 20):
                received.extend(os.read(reading, 1 << 16))

        thread = threading.Thread(target=read)
        thread.start()
        ours.send(bytes(1 << 20), soon())
        thread.join()
        assert bytes(received) == (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            ours.send(b"x", soon())


def test_what_nobody_has_asked_for_does_not_fill_the_memory() -> None:
    many = dataclasses.replace(LIMITS, output_bytes=1 << 30)
    with frames(many) as (ours, reading, writing):

        def flood() -> None:
            piece = b"\0\0\0\1x" * 10_000
            with contextlib.suppress(OSError):
                while True:
                    os.write(writing, piece)

        flooding = threading.Thread(target=flood)
        flooding.start()
        with pytest.raises(TooLarge, match="nobody has asked for"):
            ours.send(b"a" * (1 << 24), soon(60))  # which the other end does not read
        os.close(reading)
        ours.close()
        flooding.join()
