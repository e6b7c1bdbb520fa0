"""Jobs done one after the other, each in a process of its own, whose end is noted beside its log.

What a job needs of memory is known of its process alone, and a job that crashes takes no other one with it.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import sc2jax
from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import Count, read_json
from sc2jax.records.manifest import canonical_json, is_finished, read_manifest
from sc2jax.runs.ablation import Job
from sc2jax.storage import join

LOGS = "logs"
"""The folder of logs and notes, in that of the ablation."""

_LOOK_AGAIN = 0.1
_NOT_BEGUN = "not begun, after the failure of "
_SECONDS_TO_END = 60.0
"""That a process gets to save what it can, once it was asked to end."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, the last line that it printed, and the most memory that it held."""

    status: int
    said: str
    peak_bytes: int


@dataclasses.dataclass(frozen=True)
class Note:
    """What is written down of a job that is done.

    `digests` are those of the manifests that it left. `peak_bytes` is 0 where another machine did it.
    """

    arguments: list[str]
    version: str
    digests: dict[str, str]
    peak_bytes: Count


@dataclasses.dataclass(frozen=True)
class Failure:
    """A job that failed, or that another's failure leaves undone."""

    job: Job
    message: str
    log: str


def do_jobs(
    jobs: Iterable[Job], workdir: str, base: str, tell: Callable[[Job, Ended | None], None]
) -> dict[str, Failure]:
    """Does every job that is not done, in their order; the failures by the names of their jobs.

    Args:
        jobs: each after those that it reads from.
        workdir: of the ablation, on the local disk.
        base: the file of the base config.
        tell: is called with a job when it begins, and with how it ended.
    """
    failures: dict[str, Failure] = {}
    fresh: set[str] = set()
    for job in jobs:
        log = log_path(job, workdir)
        lost = next((name for name in job.after if name in failures), "")
        if lost:
            cause = failures[lost]  # of which the last one that was begun is told
            said = cause.message if cause.message.startswith(_NOT_BEGUN) else f"{_NOT_BEGUN}{lost}: {cause.message}"
            failures[job.name] = Failure(job, said, cause.log)
            continue
        try:
            if fresh.isdisjoint(job.after) and is_done(job, workdir, base):
                continue
            was_there = all(map(is_finished, job.leaves))
        except UserError as error:  # a note or a manifest is damaged, which the other runs have nothing to do with
            failures[job.name] = Failure(job, str(error), "")
            continue
        tell(job, None)
        ended = run_process([sys.executable, "-m", "sc2jax.cli", *job.arguments(base)], Path(log))
        if ended.status:
            failures[job.name] = Failure(job, ended.said or f"exit status {ended.status}", log)
        else:
            _note(job, workdir, base, 0 if was_there else ended.peak_bytes)
            fresh |= {job.name} if not was_there else set()
        tell(job, ended)
    return failures


def log_path(job: Job, workdir: str) -> str:
    """Where all that a job prints is kept."""
    return join(workdir, f"{LOGS}/{job.name}.log")


def is_done(job: Job, workdir: str, base: str) -> bool:
    """Whether a job was done here with these arguments, and what it left is what it left then.

    Raises:
        UserError: its note, or a manifest, is damaged.
    """
    note = read_note(job, workdir)
    return (
        note is not None
        and (note.arguments, note.version) == (job.arguments(base), sc2jax.__version__)
        and all(map(is_finished, job.leaves))
        and note.digests == _digests(job)
    )


def read_note(job: Job, workdir: str) -> Note | None:
    """What is written down of a job that is done; None where nothing is.

    Raises:
        UserError: it is damaged.
    """
    path = _note_path(job, workdir)
    return read_json(path, Note, "delete it; its job is then looked at again") if storage.exists(path) else None


def _note(job: Job, workdir: str, base: str, peak_bytes: int) -> None:
    earlier = read_note(job, workdir)
    peak_bytes = peak_bytes or (earlier.peak_bytes if earlier else 0)
    note = Note(job.arguments(base), sc2jax.__version__, _digests(job), peak_bytes)
    storage.write_whole(_note_path(job, workdir), canonical_json(dataclasses.asdict(note), indent=1).encode())


def _note_path(job: Job, workdir: str) -> str:
    return join(workdir, f"{LOGS}/{job.name}.json")


def _digests(job: Job) -> dict[str, str]:
    return {folder: read_manifest(folder).digest for folder in job.leaves}


def run_process(command: Collection[str], log: Path) -> Ended:
    """Runs a command to its end, with all that it prints in a log.

    If this process is interrupted, the other one is asked to end, and waited for while it saves what it can. It is in a
    process group of its own, so that Ctrl-C does not reach it another time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            peak_bytes = _wait(process)
        except BaseException:
            _end(process)
            raise
    status = process.returncode
    said = _last_line(log, start)
    if status < 0:
        said = f"ended by {signal.Signals(-status).name}" + (f"; before that: {said}" if said else "")
    return Ended(status, said, peak_bytes)


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Waits for a process; the most memory that it held, in bytes.

    Not in one call, which a signal does not interrupt that another thread was given.
    """
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(_LOOK_AGAIN)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
    finally:  # also where this is interrupted another time
        process.kill()
        process.wait()


def _last_line(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
