"""Runs hostile programs and says what came of each; as a script, as another user, for the tests that need one."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sc2jax.evaluation.sandbox import Contained, Ended, Ending, Guest, Limits, Sandbox, TimedOut, TooLarge, open_sandbox

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
GUEST = Guest((HERE / "hostile_guest.py",), "entry")
LIMITS = Limits(
    memory_bytes=256 << 20, disk_bytes=16 << 20, processes=16, open_files=64, frame_bytes=1 << 20, output_bytes=8 << 20
)
SECRET = "the secret " + "of the judge"


@dataclass(frozen=True)
class Outcome:
    """What came of a program: what it achieved (None: no answer), how the talk ended, how the process did."""

    escapes: list[str] | None
    heard: str
    ending: Ending


@dataclass(frozen=True)
class Machine:
    """What a program may be after."""

    canary: str
    hidden: tuple[str, ...]
    abstract: str = "\0sc2jax-canary"


def run(sandbox: Sandbox, program: str, machine: Machine, seconds: float = 20.0) -> Outcome:
    from hostile_programs import PRELUDE

    names = {**dataclasses.asdict(machine), "host": os.getpid(), "rung": sandbox.rung, "limits": vars(LIMITS)}
    frame = json.dumps({"prelude": PRELUDE, "program": program, "names": names}).encode()
    contained = sandbox.start()
    escapes, heard = None, ""
    try:
        deadline = time.monotonic() + seconds
        contained.send(frame, deadline)
        answer = contained.receive(deadline)
        try:
            escapes = json.loads(answer)
        except ValueError:
            escapes, heard = [], "noise"
    except TimedOut:
        heard = "timed out"
    except TooLarge:
        heard = "too large"
    except Ended as end:
        heard = f"ended {end.ending.kind}"
    return Outcome(escapes, heard, contained.close())


def echo(contained: Contained, text: bytes, seconds: float = 30.0) -> bytes:
    deadline = time.monotonic() + seconds
    contained.send(b"=" + text, deadline)
    return contained.receive(deadline)


def descendants(top: int) -> list[int]:
    """The processes that descend from one."""
    found = [top]
    for process in found:
        try:
            tasks = list(Path(f"/proc/{process}/task").iterdir())
            found.extend(int(each) for task in tasks for each in (task / "children").read_text().split())
        except OSError:
            continue
    return found[1:]


def gone(processes: list[int], seconds: float = 10.0) -> bool:
    """Whether processes end in time."""
    return within(seconds, lambda: not any(Path(f"/proc/{each}").exists() for each in processes))


def within(seconds: float, check: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (done := check()) and time.monotonic() < end:
        time.sleep(0.01)
    return done


def main() -> None:
    """Runs all programs on a rung, and prints what came of them."""
    from hostile_programs import PROGRAMS

    rung, canary = int(sys.argv[1]), sys.argv[2]
    machine = Machine(canary, (__file__,))
    with open_sandbox(GUEST, LIMITS, rung=rung) as sandbox:
        outcomes = {}
        for name, program in PROGRAMS.items():
            outcomes[name] = dataclasses.asdict(run(sandbox, program, machine, seconds=6.0))
            contained = sandbox.start()
            assert echo(contained, b"alive") == b"alive"
            contained.close()
    print(json.dumps(outcomes))  # noqa: T201


if __name__ == "__main__":
    main()
