"""Runs programs that nobody has read, in the strongest sandbox that the machine allows (docs/sandbox.md)."""

from sc2jax.evaluation.sandbox.host import Contained, Sandbox
from sc2jax.evaluation.sandbox.limits import Ended, Ending, Guest, Kind, Limits, TimedOut, TooLarge
from sc2jax.evaluation.sandbox.opening import RungReport, open_sandbox, probe

__all__ = [
    "Contained",
    "Ended",
    "Ending",
    "Guest",
    "Kind",
    "Limits",
    "RungReport",
    "Sandbox",
    "TimedOut",
    "TooLarge",
    "open_sandbox",
    "probe",
]
