"""How slow this machine is, in the sandbox and now: what limits of time are stretched by."""

import time

from sc2jax.evaluation.sandbox import Sandbox

REFERENCE_SECONDS = 0.03
"""What the work takes on the machine that limits of time are meant for: one core of a server of 2023, Python 3.11."""

_TRIES = 3
_WORK = b"""
def work():
    found = {}
    for number in range(100_000):
        found[number % 1009] = found.get(number % 1009, 0) + number
    return sorted(str(value) for value in found.values())
work()
"""


def time_scale(sandbox: Sandbox) -> float:
    """How many times longer than on the reference machine a program takes, at least 1."""
    return max(1.0, min(_once(sandbox) for _ in range(_TRIES)) / REFERENCE_SECONDS)


def _once(sandbox: Sandbox) -> float:
    contained = sandbox.start()
    try:
        began = time.monotonic()
        contained.send(b"P" + _WORK, began + 600)
        contained.receive(began + 600)
        return time.monotonic() - began
    finally:
        contained.close()
