"""Jobs in processes of their own: what is noted of them, what a failure leaves undone, and how they are ended."""

import dataclasses
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc2jax.records.manifest import Manifest, commit, write_output
from sc2jax.runs import jobs
from sc2jax.runs.ablation import Job
from sc2jax.runs.jobs import Ended, do_jobs, is_done, read_note, run_process

MIB = 2**20


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_that_a_process_prints_is_in_its_log_and_its_last_line_is_told(tmp_path):
    log = tmp_path / "logs" / "job.log"
    ended = run_process(python("import sys; print('one'); print('two ', file=sys.stderr); print(); sys.exit(3)"), log)
    assert (ended.status, ended.said) == (3, "two")
    run_process(python("print('three')"), log)
    assert log.read_text().split() == ["one", "two", "three"] or log.read_text().split() == ["two", "one", "three"]


def test_a_process_that_says_nothing_is_not_given_what_an_earlier_one_said(tmp_path):
    run_process(python("print('earlier')"), tmp_path / "log")
    assert run_process(python("pass"), tmp_path / "log").said == ""


def test_the_most_memory_that_it_held_is_its_own(tmp_path):
    """Where it is more than this process holds, whose memory counts as that of a process that it starts."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 100 * MIB
    peak = run_process(python(f"x = b'x' * {held}"), tmp_path / "log").peak_bytes
    assert held < peak < held + 50 * MIB


def test_a_process_that_a_signal_ends_is_told_by_its_name(tmp_path):
    code = "import os, sys; print('so far', flush=True); os.kill(os.getpid(), 9)"
    ended = run_process(python(code), tmp_path / "log")
    assert (ended.status, ended.said) == (-signal.SIGKILL, "ended by SIGKILL; before that: so far")


WAITS = """
import pathlib, signal, sys, time
def end(number, frame):
    print("asked to end", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, {handler})
pathlib.Path({started!r}).write_text(str(__import__("os").getpid()))
time.sleep(60)
"""


def interrupted(tmp_path: Path, handler: str) -> int:
    """Interrupts the wait for a process once that has begun; its id."""
    started = tmp_path / "started"

    def interrupt() -> None:
        while not started.exists() or not started.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_process(python(WAITS.format(handler=handler, started=str(started))), tmp_path / "log")
    thread.join()
    return int(started.read_text())


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_asks_the_process_to_end_and_waits_for_it(tmp_path):
    process = interrupted(tmp_path, "end")
    assert not is_running(process)
    assert (tmp_path / "log").read_text() == "asked to end\n"


def test_a_process_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_SECONDS_TO_END", 0.2)
    began = time.monotonic()
    process = interrupted(tmp_path, "signal.SIG_IGN")
    assert time.monotonic() - began < 50  # and not the minute that it would take by itself
    assert not is_running(process)


@dataclasses.dataclass
class Workshop:
    """A folder for jobs, which write a manifest instead of what their verbs do."""

    folder: Path
    ran: list[str] = dataclasses.field(default_factory=list)
    told: list[tuple[str, Ended | None]] = dataclasses.field(default_factory=list)
    fails: dict[str, str] = dataclasses.field(default_factory=dict)
    content: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def job(self, name: str, *after: str, **overrides: str) -> Job:
        return Job(name, "train", overrides, f"{self.folder}/{name}", (f"{self.folder}/{name}/train",), after)

    def do(self, *given: Job) -> dict[str, Any]:
        self.ran, self.told = [], []
        return do_jobs(given, str(self.folder), "base.json", lambda job, ended: self.told.append((job.name, ended)))

    def run_process(self, command: list[str], log: Path) -> Ended:
        name = log.stem
        self.ran.append(name)
        assert command[:4] == [sys.executable, "-m", "sc2jax.cli", "train"]
        if name in self.fails:
            return Ended(2, self.fails[name], 5)
        leaves = self.folder / name / "train"
        leaves.mkdir(parents=True, exist_ok=True)
        output = write_output(str(leaves), "out", self.content.get(name, b"result"))
        commit(str(leaves), Manifest("train", {}, {}, (output,), {}))
        return Ended(0, f"{name} is done", 7)


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setattr(jobs, "run_process", made.run_process)
    return made


def test_jobs_are_done_once_in_their_order(workshop):
    given = workshop.job("a"), workshop.job("b", "a")
    assert workshop.do(*given) == {}
    assert workshop.ran == ["a", "b"]
    assert workshop.told == [
        ("a", None), ("a", Ended(0, "a is done", 7)), ("b", None), ("b", Ended(0, "b is done", 7))
    ]  # fmt: skip
    assert workshop.do(*given) == {}
    assert (workshop.ran, workshop.told) == ([], [])


Change = Callable[[Workshop], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda workshop: (workshop.folder / "a" / "train" / "manifest.json").unlink(),
        lambda workshop: (workshop.folder / "logs" / "a.json").unlink(),
    ],
)
def test_what_is_gone_is_done_again(workshop, change: Change):
    workshop.do(workshop.job("a"))
    change(workshop)
    workshop.do(workshop.job("a"))
    assert workshop.ran == ["a"]


@pytest.mark.parametrize("damaged", ["a/train/manifest.json", "logs/a.json"])
def test_damage_of_a_job_is_its_failure_and_others_go_on(workshop, damaged: str):
    given = workshop.job("a"), workshop.job("b", "a"), workshop.job("c")
    workshop.do(*given[:2])
    (workshop.folder / damaged).write_text("damaged")
    failures = workshop.do(*given)
    assert {name: failure.message.partition(" is damaged")[0] for name, failure in failures.items()} == {
        "a": f"{workshop.folder}/{damaged}",
        "b": f"not begun, after the failure of a: {workshop.folder}/{damaged}",
    }
    assert workshop.ran == ["c"]


def test_other_arguments_and_another_version_are_another_job(workshop, monkeypatch):
    workshop.do(workshop.job("a"))
    workshop.do(workshop.job("a", seed="1"))
    assert workshop.ran == ["a"]
    monkeypatch.setattr("sc2jax.__version__", "next")
    workshop.do(workshop.job("a", seed="1"))
    assert workshop.ran == ["a"]


def test_a_folder_that_something_else_was_written_into_is_looked_at_again(workshop):
    job = workshop.job("a")
    workshop.do(job)
    workshop.content["a"] = b"other"
    workshop.run_process([sys.executable, "-m", "sc2jax.cli", "train"], workshop.folder / "a.log")
    assert not is_done(job, str(workshop.folder), "base.json")


def test_what_reads_from_a_job_that_was_done_anew_is_done_anew(workshop):
    given = workshop.job("a"), workshop.job("b", "a"), workshop.job("c")
    workshop.do(*given)
    (workshop.folder / "a" / "train" / "manifest.json").unlink()
    workshop.do(*given)
    assert workshop.ran == ["a", "b"]


def test_the_memory_of_a_job_that_was_done_elsewhere_is_not_known(workshop):
    """Its process here only finds that there is nothing to do."""
    job = workshop.job("a")
    workshop.run_process([sys.executable, "-m", "sc2jax.cli", "train"], workshop.folder / "a.log")
    workshop.do(job)
    note = read_note(job, str(workshop.folder))
    assert note is not None
    assert note.peak_bytes == 0


def test_the_memory_that_was_noted_stays(workshop):
    workshop.do(workshop.job("a"))
    workshop.do(workshop.job("a", prefetch="2"))
    note = read_note(workshop.job("a"), str(workshop.folder))
    assert note is not None
    assert note.peak_bytes == 7


def test_others_go_on_after_a_failure_but_those_that_read_from_it(workshop):
    given = [
        workshop.job(name, *after)
        for name, after in (("a", ""), ("b", "a"), ("c", "b"), ("d", ""))
        for after in [tuple(after)]
    ]
    workshop.fails = {"a": "sc2jax train: no room"}
    failures = workshop.do(*given)
    assert workshop.ran == ["a", "d"]
    log = f"{workshop.folder}/logs/a.log"
    assert [(name, failure.message, failure.log) for name, failure in failures.items()] == [
        ("a", "sc2jax train: no room", log),
        ("b", "not begun, after the failure of a: sc2jax train: no room", log),
        ("c", "not begun, after the failure of a: sc2jax train: no room", log),
    ]
    workshop.fails = {}
    assert workshop.do(*given) == {}
    assert workshop.ran == ["a", "b", "c"]


def test_a_failure_without_a_word_is_told_by_its_status(workshop):
    workshop.fails = {"a": ""}
    assert workshop.do(workshop.job("a"))["a"].message == "exit status 2"
