"""What canonical solutions return: computed once for each version of everything that could change it, and remembered.

Expected values are those of the benchmark's own programs, run as a candidate is, in the same sandbox.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

import sc2jax
from sc2jax import storage
from sc2jax.assets import asset_path
from sc2jax.errors import os_error_text
from sc2jax.evaluation.benchmark import Benchmark, Groups, Reference
from sc2jax.evaluation.judging.cases import Expected, Judged
from sc2jax.evaluation.judging.checks import known_failures, refuse_unknown_failures
from sc2jax.evaluation.judging.oracles import EXPECTS_NOT_NONE, FLOAT_TOLERANCE, has_fractions
from sc2jax.evaluation.judging.python_judge import PythonJudge, calls_frame
from sc2jax.evaluation.judging.values import decode, encode, unwrapped
from sc2jax.evaluation.sandbox import Ended, Sandbox, TimedOut, TooLarge
from sc2jax.evaluation.verdicts import Verdict
from sc2jax.progress import progress
from sc2jax.records.manifest import sha256_of

_SECONDS = 600.0
"""For all calls of a group: they are the benchmark's own."""


_CODEC = pa.Codec("zstd")
_DIGEST_BYTES = 32


def remembered_expected(
    name: str,
    benchmark: Benchmark,
    judge: PythonJudge,
    candidates: Sandbox,
    tools: Mapping[str, str],
    memory: str,
    say: Callable[[str], object],
) -> Mapping[str, Groups]:
    """What each task expects, after all right answers of the benchmark have passed here once.

    Args:
        name: of the benchmark.
        benchmark: to be measured.
        judge: judges its own solutions.
        candidates: where they run.
        tools: the versions of what runs them.
        memory: a folder in which only this user may write; "" for none.
        say: told what is under way.

    Raises:
        UserError: a right answer does not pass that is not known to fail.
    """
    path = storage.join(memory, f"{_key(name, benchmark, candidates, tools)}.msgpack") if memory else ""
    found = _remembered(path) if path else None
    if found is not None:
        return found
    known = known_failures(name)
    say(f"{name}: judging the benchmark's own {len(benchmark.golds)} solutions, once for this machine")
    expected: dict[str, Groups] = {}
    verdicts = []
    for task, answer in progress(benchmark.golds.items(), desc="right answers"):
        if task in known:
            continue
        try:
            if task in benchmark.references:
                expected[task] = expected_of(benchmark.references[task], candidates, judge.scale)
            verdicts.append((task, judge.judge(benchmark.case(answer, expected.get(task, {})))))
        except TimedOut:
            verdicts.append((task, Judged(Verdict.TIMEOUT, "what it returns is not known in time")))
        except (RuntimeError, Ended, TooLarge) as error:
            verdicts.append((task, Judged(Verdict.WRONG, str(error))))
    refuse_unknown_failures(name, verdicts)
    if path:
        content = msgspec.msgpack.encode(expected)
        packed = _CODEC.compress(content, asbytes=True)
        size = len(content).to_bytes(8, "big")
        try:
            storage.write_whole(path, hashlib.sha256(size + packed).digest() + size + packed)
        except OSError as error:  # a full disk, which costs the next run some minutes and this one nothing
            say(f"what right answers return is not remembered: {os_error_text(error)}")
    return expected


def _remembered(path: str) -> Mapping[str, Groups] | None:
    """What was found before; None if nothing was, or it is damaged, and is found anew."""
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        return None
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    packed = _CODEC.decompress(rest[8:], int.from_bytes(rest[:8], "big"), asbytes=True)
    return msgspec.msgpack.decode(packed, type=dict[str, dict[str, Expected]])


def _key(name: str, benchmark: Benchmark, candidates: Sandbox, tools: Mapping[str, str]) -> str:
    """The digest of all that could change what right answers return, and whether they pass."""
    folders = [
        Path(sc2jax.__file__).parent / name for name in ("benchmarks", "evaluation/judging", "evaluation/measures")
    ]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    files += sorted(asset_path("data", "benchmarks").iterdir())
    code = [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
    limits = dataclasses.asdict(candidates.limits)
    return sha256_of([name, benchmark.read.file["content_sha256"], candidates.facts(), limits, dict(tools), code])


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
