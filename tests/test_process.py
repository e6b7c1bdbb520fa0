"""The process around a verb: closed and narrow streams, signals, and what the machine refuses."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sc2jax.cli import main
from sc2jax.errors import UserError
from sc2jax.process import describe

PROGRAM = [sys.executable, "-m", "sc2jax.cli"]
HELP = [*PROGRAM, "train", "--help"]
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}
"""What is printed waits until it is flushed."""


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """What a shell's redirections make of a command, "$@" being the program's help of a verb, longer than a buffer."""
    script = ["bash", "-o", "pipefail", "-c", command, "bash", *HELP]
    return subprocess.run(script, capture_output=True, text=True, env=BUFFERED, check=False, timeout=60)


@pytest.mark.parametrize("command", ['"$@" >&-', '"$@" 2>&- >/dev/null', '"$@" <&- >&- 2>&-'])
def test_a_closed_stream_changes_no_exit_status(command):
    done = shell(command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ('"$@" | head -n 0', 141, ""),
        ('"${@:1:3}" --help > /dev/full', 2, "sc2jax: No space left on device; nothing half-written counts"),
        ('"$@" > /dev/full', 2, "sc2jax train: No space left on device; nothing half-written counts"),
        ('"$@" --config.nothing=1 2> /dev/full', 2, ""),
        ('"$@" --config.nothing=1 2>&-', 2, ""),
        ('"$@" --config.nothing=1 >&-', 2, "sc2jax train: there is no config key 'nothing'"),
    ],
)
def test_a_stream_that_takes_nothing_ends_in_one_message_at_most(command, status, message):
    done = shell(command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == bool(message)


def test_what_a_library_prints_goes_into_no_file_where_the_output_is_closed(tmp_path):
    program = (
        "import os, sys\nfrom sc2jax.process import open_streams\nopen_streams()\n"
        "file = open(sys.argv[1], 'w')\nos.write(1, b'from a library')\nprint('from us', flush=True)\n"
        "file.write('ours')"
    )
    script = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", program, str(tmp_path / "file")]
    subprocess.run(script, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "ours"


def test_a_terminal_without_unicode_shows_what_it_can():
    program = "from sc2jax import cli\ncli.load = lambda _: lambda *_: print('\\u27e6a\\udcff')\ncli.console()"
    for encoding in ("ascii", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-c", program, "show"],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u27e6a\\udcff\n", b"")


FORGED = "\x1b[2J\x07\u202e"
OUTLETS = {
    "a defect": "raise ValueError(FORGED)",
    "a defect in a thread": "t = threading.Thread(target=int, args=(FORGED,)); t.start(); t.join()",
    "a finalizer": "class C:\n    def __del__(self):\n        raise ValueError(FORGED)\nC()",
    "a log": "logging.getLogger('library').error(FORGED)",
    "a warning": "warnings.warn(FORGED)",
    "an expected error": "sys.argv.append('--debug'); raise UserError(FORGED)",
}


@pytest.mark.parametrize("color", ["0", "1"])
@pytest.mark.parametrize("outlet", OUTLETS)
def test_whatever_writes_to_the_standard_error_commands_no_terminal(outlet, color):
    program = (
        "import logging, sys, threading, warnings\nfrom sc2jax import cli\nfrom sc2jax.errors import UserError\n"
        f"FORGED = {FORGED!r}\ndef fail(*_):\n    exec({OUTLETS[outlet]!r})\ncli.load = lambda _: fail\ncli.console()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "show", "--debug"],
        capture_output=True,
        env=os.environ | {"FORCE_COLOR": color},
        check=False,
        timeout=60,
    )
    errors = done.stderr.decode()
    assert not {"\x1b", "\x07", "\u202e"} & set(errors)
    assert "\u241b[2J" in errors or "\\x1b[2J" in errors
    assert "Traceback" not in errors or len(errors.splitlines()) > 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough files for curation to take seconds."""
    root = tmp_path_factory.mktemp("source")
    for number in range(2000):
        folder = root / f"repository{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}.py").write_text("\n".join(f"def f{number}_{line}(x): return x" for line in range(40)))
    return root


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_a_stage_under_way_in_one_message(source, tmp_path, number, status, word):
    command = [*PROGRAM, "curate", f"--config.paths.source={source}", f"--workdir={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "corpus").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    message = f"sc2jax curate: {word}; nothing half-written counts: the same command goes on where it was\n"
    assert (process.returncode, output, errors) == (status, "", message)
    assert not (tmp_path / "corpus" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (lambda *_: bytearray(1 << 62), "sc2jax curate: out of memory; give it more"),
        (lambda *_: dig(), "sc2jax curate: something that was read is nested too deeply"),
    ],
)
def test_memory_and_depth_that_run_out_end_in_one_message(monkeypatch, capsys, fail, message):
    monkeypatch.setattr("sc2jax.cli.load", lambda _: fail)
    with pytest.raises(SystemExit) as end:
        main(["curate"])
    output, errors = capsys.readouterr()
    assert (end.value.code, output, len(errors.splitlines())) == (2, "", 1)
    assert errors.startswith(message)


def dig() -> None:
    dig()


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (KeyboardInterrupt(), "interrupted; nothing half-written counts: the same command goes on where it was", 130),
        (MemoryError(), "out of memory; give it more", 2),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory", 2),
        (ImportError("libx.so: cannot allocate memory in static TLS block"), "out of memory", 2),
        (RuntimeError("can't start new thread"), "out of memory", 2),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "out of memory", 2),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory", 2),
        (RecursionError("maximum recursion depth exceeded"), "something that was read is nested too deeply", 2),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), "/runs/x: No space left on device; nothing", 2),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; nothing half-written counts", 2),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/x"), "/runs/x: Permission denied", 2),
        (OSError("no number"), "no number", 2),
        (UserError("wrong"), "wrong", 2),
    ],
)
def test_what_a_user_or_the_machine_causes_has_a_message(error, message, status):
    described = describe(error)
    assert described is not None
    assert described[0].startswith(message)
    assert described[1] == status


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), ImportError("No module named x"), KeyError("x")])
def test_a_defect_keeps_its_traceback(monkeypatch, error):
    def fail(settings, workdir):
        raise error

    monkeypatch.setattr("sc2jax.cli.load", lambda _: fail)
    with pytest.raises(type(error)):
        main(["curate"])


def test_a_pipe_of_a_library_that_breaks_is_an_error_and_no_reader_that_left(monkeypatch):
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert describe(BrokenPipeError(errno.EPIPE, "Broken pipe")) == ("Broken pipe", 2)


def test_help_answers_in_under_half_a_second():
    best = min(_seconds([*PROGRAM, "--help"]) for _ in range(5))
    assert best < 0.5


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started
