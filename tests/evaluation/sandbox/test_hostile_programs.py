"""Programs that try to break out: none achieves anything, on any rung, and the machine is as it was."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import attacks
import pyseccomp
import pytest
from attacks import ROOT, Machine
from hostile_programs import PROGRAMS
from opened_sandbox import Open

from sc2jax.evaluation.sandbox import Ending, Kind, Sandbox, open_sandbox

SIGSYS = Ending(Kind.SIGNAL, 31)
KILLED = Ending(Kind.KILLED)
"""By the host, when it had heard enough."""

# What has no honest use ends the process.
DEADLY = {
    *("keyrings", "ptrace", "ptrace of itself", "memory of other processes", "writes into other processes", "mount"),
    *("unmount", "new mounts", "file handles", "new namespaces", "other namespaces", "new namespaces by clone"),
    *("pivot_root", "i386 system calls", "x32 system calls", "bpf", "userfaultfd", "perf", "kexec", "modules", "clock"),
    *("reboot", "host name"),
}
SILENT = {"fork bomb without end", "half a frame", "never reads", "stops itself", "ignores every signal"}
ENDINGS = {
    1: {
        "memory of many processes": Ending(Kind.MEMORY),
        "memory that hides behind short-lived siblings": Ending(Kind.MEMORY),
        "descriptors of other processes": SIGSYS,
        "daemon": Ending(Kind.EXITED, 0),
        "exits at once": Ending(Kind.EXITED, 0),
        "kills itself": Ending(Kind.SIGNAL, 9),
        "core dump": Ending(Kind.SIGNAL, 6),
        **dict.fromkeys(DEADLY, SIGSYS),
    }
}
ENDINGS[2] = ENDINGS[1]
# There a program may start no other, and fails with what Python says of it.
NO_PROCESS = ("memory of many processes", "memory that hides behind short-lived siblings", "daemon")
NO_PROCESS = (*NO_PROCESS, "descriptors of other processes")
ENDINGS[3] = ENDINGS[1] | dict.fromkeys(NO_PROCESS, Ending(Kind.EXITED, 1))
HEARD = {"frames without end": "noise", "a frame of 4 GiB": "too large", "closes its pipes": "ended killed"}

POTENT = {
    "memory of a file without a name",
    "shared memory and queues",
    "secrets in the environment",
    "files of the machine",
    "files by other names",
    "the machine's processes",
    "watching files",
    "keyrings",
    "network",
    "name service",
    "sockets with abstract names",
    "signals by other ways",
    "new namespaces",
    "new namespaces by clone",
    "personality",
    "writes outside",
    "rights and times of files",
    "hard links",
    "i386 system calls",
}
"""What an unprivileged user achieves outside of a sandbox, without harm to the machine that tests."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_is_contained(opened: Open, machine: Machine, name: str) -> None:
    rung = opened.sandbox.rung
    outcome = attacks.run(opened.sandbox, PROGRAMS[name], machine, seconds=1.5 if name in SILENT else 60.0)
    assert outcome.ending == ENDINGS[rung].get(name, KILLED), outcome
    heard = HEARD.get(name, "timed out" if name in SILENT else "")
    assert outcome.heard == (heard or f"ended {outcome.ending.kind}" * (outcome.ending != KILLED)), outcome
    assert not outcome.escapes, outcome
    _assert_unharmed(opened, machine)


def _assert_unharmed(opened: Open, machine: Machine) -> None:
    folder = Path(machine.canary).parent
    assert Path(machine.canary).read_text() == "canary\n"
    assert {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()} == {
        "canary": 0o666,
        "HumanEval.jsonl": 0o644,
    }
    contained = opened.sandbox.start()
    assert attacks.echo(contained, b"alive") == b"alive"
    contained.close()
    assert attacks.within(10, lambda: len(opened.processes()) == opened.at_rest), opened.processes()


@pytest.mark.parametrize("name", sorted(POTENT))
def test_the_same_program_does_harm_where_nothing_contains_it(machine: Machine, bare: Sandbox, name: str) -> None:
    outcome = attacks.run(bare, PROGRAMS[name], machine)
    assert outcome.escapes, outcome
    for made in Path(machine.canary).parent.iterdir():
        if made.name not in ("canary", "HumanEval.jsonl"):
            made.unlink() if made.is_file() else made.rmdir()
    Path(machine.canary).write_text("canary\n")
    Path(machine.canary).chmod(0o666)


@pytest.fixture(scope="module")
def bare():
    with open_sandbox(attacks.GUEST, attacks.LIMITS, rung=4, unsafe=True) as sandbox:
        yield sandbox


def test_memory_of_the_host_is_not_inside(sandbox: Sandbox, machine: Machine) -> None:
    # The test process holds the secret, as a judge holds its tests.
    assert attacks.SECRET == "the secret of the judge"
    assert attacks.run(sandbox, PROGRAMS["the judge in its own memory"], machine).escapes == []


@pytest.fixture
def folder_for_all() -> Iterator[Path]:
    """A folder that other users may look into; pytest's own may not be."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("rung", [1, 2, 3])
def test_hostile_programs_of_a_user_who_is_not_root(folder_for_all: Path, rung: int) -> None:
    python = shutil.which("python3", path="/usr/bin")
    if os.getuid() != 0 or not python:
        pytest.skip("needs root, to become another user, and the system's own Python, which others may run")
    folder = folder_for_all
    code = shutil.copytree(ROOT / "sc2jax/evaluation/sandbox", folder / "sc2jax/evaluation/sandbox")
    for name in ("__init__.py", "errors.py", "evaluation/__init__.py"):
        shutil.copy(ROOT / "sc2jax" / name, folder / "sc2jax" / name)
    shutil.copy(pyseccomp.__file__, folder)
    shutil.copytree(Path(attacks.__file__).parent, folder / "tests")
    assert code.is_dir()
    (folder / "open").mkdir()
    canary = folder / "open" / "canary"
    canary.write_text("canary\n")
    canary.chmod(0o666)
    canary.parent.chmod(0o777)
    result = subprocess.run(
        [python, "attacks.py", str(rung), str(canary)],
        cwd=folder / "tests",
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "HOME": "/"},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode != 0 and "UserError" in result.stderr:
        pytest.skip(result.stderr.splitlines()[-1])
    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout)
    assert list(outcomes) == list(PROGRAMS)
    for name, outcome in outcomes.items():
        assert not outcome["escapes"], (name, outcome)
        expected = ENDINGS[rung].get(name, KILLED)
        assert (outcome["ending"]["kind"], outcome["ending"]["status"]) == (expected.kind, expected.status), name
    assert canary.read_text() == "canary\n"
    assert [each.name for each in canary.parent.iterdir()] == ["canary"]
