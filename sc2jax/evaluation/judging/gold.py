"""What canonical solutions return: computed once for each version of everything that could change it, and remembered.

Expected values are those of the benchmark's own programs, run as a candidate is, in the same sandbox.
"""

import time

from sc2jax.evaluation.benchmark import Reference
from sc2jax.evaluation.judging.cases import Expected
from sc2jax.evaluation.judging.oracles import EXPECTS_NOT_NONE, FLOAT_TOLERANCE, has_fractions
from sc2jax.evaluation.judging.python_judge import calls_frame
from sc2jax.evaluation.judging.values import decode, encode, unwrapped
from sc2jax.evaluation.sandbox import Sandbox

_SECONDS = 600.0
"""For all calls of a group: they are the benchmark's own."""


def expected_of(reference: Reference, sandbox: Sandbox, scale: float) -> dict[str, Expected]:
    """What a reference's function returns for each group of inputs."""
    return {
        name: _expected(reference, tuple(encode(list(one)) for one in inputs), sandbox, scale)
        for name, inputs in reference.groups.items()
    }


def _expected(reference: Reference, arguments: tuple[bytes, ...], sandbox: Sandbox, scale: float) -> Expected:
    contained = sandbox.start()
    try:
        deadline = time.monotonic() + _SECONDS * scale
        contained.send(b"P" + reference.program.encode(), deadline)
        contained.receive(deadline)
        contained.send(calls_frame(reference.entry_point, arguments, timed=True), deadline)
        lines = [contained.receive(deadline) for _ in arguments]
    finally:
        contained.close()
    values, digests, seconds = [], [], []
    for line in lines:
        if not line.startswith(b"+"):
            raise RuntimeError(f"the canonical solution of {reference.entry_point} fails: {line[:300]!r}")
        value, digest, took = line[1:].split(b"\t")
        values.append(_not_none(value) if reference.entry_point in EXPECTS_NOT_NONE else value)
        digests.append(digest)
        seconds.append(float(took) / scale)
    return Expected(arguments, tuple(values), tuple(digests), _tolerances(values, reference.atol), tuple(seconds))


def _not_none(value: bytes) -> bytes:
    return encode(decode(value) is not None)


def _tolerances(values: list[bytes], atol: float) -> tuple[float, ...]:
    """That of the task, or evalplus' own from the first expected value with a fraction on."""
    found = []
    for value in values:
        if atol == 0 and value and has_fractions(unwrapped(decode(value))):
            atol = FLOAT_TOLERANCE
        found.append(atol)
    return tuple(found)
