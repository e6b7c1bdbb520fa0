"""What a contained process can do, what it is refused, and how its end is told."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attacks
import pytest
from attacks import ROOT, Machine
from opened_sandbox import Open

from sc2jax.errors import UserError
from sc2jax.evaluation.sandbox import (
    Contained,
    Ended,
    Ending,
    Guest,
    Kind,
    Limits,
    Sandbox,
    TimedOut,
    TooLarge,
    open_sandbox,
    probe,
)

GUEST_THAT_EVALUATES = """
import os, sys, time

def entry(receive, send):
    names = {}
    while (frame := receive()) is not None:
        text = frame.decode()
        try:
            value = eval(text, names)
        except SyntaxError:
            value = exec(text, names)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        send(repr(value).encode())
"""


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["namespaces", "bubblewrap", "landlock"])
def evaluating(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    module = tmp_path_factory.mktemp("guest") / "evaluating.py"
    module.write_text(GUEST_THAT_EVALUATES)
    guest = Guest((module,), "entry", preload=("numpy",), packages=("numpy",))
    limits = Limits(1 << 30, 16 << 20, 32, 64, 4 << 20, 16 << 20)
    with contextlib.ExitStack() as stack:
        try:
            sandbox = stack.enter_context(open_sandbox(guest, limits, rung=request.param))
        except UserError as error:
            pytest.skip(str(error))
        yield sandbox


def ask(contained: Contained, text: str, seconds: float = 60.0) -> str:
    deadline = time.monotonic() + seconds
    contained.send(text.encode(), deadline)
    return contained.receive(deadline).decode()


@contextlib.contextmanager
def started(sandbox: Sandbox) -> Iterator[Contained]:
    contained = sandbox.start()
    try:
        yield contained
    finally:
        contained.close()


def test_the_standard_library_and_packages_work(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        assert ask(contained, "__import__('numpy').arange(4).sum().item()") == "6"
        modules = ("ssl", "sqlite3", "lzma", "bz2", "zlib", "decimal", "ctypes", "xml.dom.minidom", "email", "asyncio")
        for module in modules:
            assert ask(contained, f"bool(__import__('{module}'))") == "True"
        assert ask(contained, "__import__('hashlib').sha256(b'').hexdigest()[:8]") == "'e3b0c442'"
        assert ask(contained, "len(os.urandom(8))").startswith('"NameError')
        assert ask(contained, "len(__import__('os').urandom(8))") == "8"


def test_the_environment_is_empty_and_sets_have_one_order(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        assert ask(contained, "dict(__import__('os').environ)") == "{}"
        inside = ask(contained, "hash('a set of strings')")
    command = [sys.executable, "-c", "print(hash('a set of strings'))"]
    outside = subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True)
    assert inside == outside.stdout.strip()


def test_other_installed_packages_are_not_there(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        for name in ("jax", "pytest", "sc2jax.config", "pyseccomp", "pip"):
            assert "ModuleNotFoundError" in ask(contained, f"__import__({name!r})")


def test_files_of_one_process_are_its_own(evaluating: Sandbox) -> None:
    write = "open('/tmp/mine', 'w').write('text')"
    with started(evaluating) as first, started(evaluating) as second:
        if evaluating.rung == 3:
            assert "PermissionError" in ask(first, write)
            return
        assert ask(first, write) == "4"
        assert ask(first, "oct(__import__('os').stat('/tmp/mine').st_mode)") == "'0o100600'"
        assert ask(second, "__import__('os').listdir('/tmp')") == "[]"
        assert ask(second, "__import__('os').listdir('.')") == "[]"


def test_a_program_can_run_another_where_that_is_contained(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        program = (
            "__import__('subprocess').run([__import__('sys').executable, '-c', 'print(6 * 7)'], capture_output=True)"
        )
        answer = ask(contained, program + ".stdout")
        assert ("PermissionError" in answer) if evaluating.rung == 3 else answer == "b'42\\n'"


def test_two_at_a_time_do_not_see_each_other(evaluating: Sandbox) -> None:
    with started(evaluating) as first, started(evaluating) as second:
        numbers = [int(ask(each, "__import__('os').getpid()")) for each in (first, second)]
        if evaluating.rung < 3:
            assert numbers == [2, 2]
        else:
            assert "PermissionError" in ask(first, f"__import__('os').kill({numbers[1]}, 0)")


def test_threads_work(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        pool = "list(__import__('concurrent.futures').futures.ThreadPoolExecutor(4).map(abs, [-1, 2]))"
        assert ask(contained, pool) == "[1, 2]"


def test_a_slow_process_is_waited_for_up_to_the_deadline_and_no_longer(evaluating: Sandbox) -> None:
    with started(evaluating) as contained:
        ask(contained, "1")
        begun = time.monotonic()
        contained.send(b"__import__('time').sleep(60)", begun + 5)
        with pytest.raises(TimedOut):
            contained.receive(begun + 0.5)
        assert 0.5 <= time.monotonic() - begun < 5
        assert contained.close() == Ending(Kind.KILLED)


def test_exit_statuses_and_signals_are_told(sandbox: Sandbox, machine: Machine) -> None:
    for program, ending in (
        ("sys.exit(3)", Ending(Kind.EXITED, 3)),
        ("sys.exit('text')", Ending(Kind.EXITED, 1)),
        ("raise ValueError", Ending(Kind.EXITED, 1)),
        ("os._exit(137)", Ending(Kind.EXITED, 137)),
        ("os.kill(os.getpid(), 11)", Ending(Kind.SIGNAL, 11)),
        ("os.kill(os.getpid(), 15)", Ending(Kind.SIGNAL, 15)),
        ("libc.unshare(0x10000000)", Ending(Kind.SIGNAL, 31)),
    ):
        outcome = attacks.run(sandbox, program, machine)
        assert (outcome.ending, outcome.heard) == (ending, f"ended {ending.kind}"), program


def test_an_ended_process_stays_ended(sandbox: Sandbox) -> None:
    contained = sandbox.start()
    assert attacks.echo(contained, b"x") == b"x"
    assert contained.close() == contained.close() == Ending(Kind.KILLED)
    for call in (lambda: contained.send(b"", time.monotonic() + 1), lambda: contained.receive(time.monotonic() + 1)):
        with pytest.raises(Ended) as end:
            call()
        assert end.value.ending == Ending(Kind.KILLED)


@pytest.mark.parametrize("size", [0, 1, 4095, 65536, 65537, attacks.LIMITS.frame_bytes])
def test_frames_of_all_sizes_come_back(sandbox: Sandbox, size: int) -> None:
    with started(sandbox) as contained:
        text = os.urandom(1024) * (size // 1024) + os.urandom(size % 1024)
        assert attacks.echo(contained, text) == text


def test_a_frame_may_be_as_large_as_the_limit_and_no_larger(sandbox: Sandbox, machine: Machine) -> None:
    limit = attacks.LIMITS.frame_bytes
    head = "os.write(4, ({}).to_bytes(4, 'big'))\n"
    fits = head.format(limit) + f"for _ in range({limit} // 1024): os.write(4, bytes(1024))"
    outcome = attacks.run(sandbox, fits, machine)
    assert outcome.heard == "noise"
    outcome = attacks.run(sandbox, head.format(limit + 1) + "time.sleep(100)", machine)
    assert outcome.heard == "too large"


def test_all_frames_together_are_limited(sandbox: Sandbox) -> None:
    with started(sandbox) as contained:
        text = bytes(1 << 20)
        whole = attacks.LIMITS.output_bytes // (len(text) + 4)
        for _ in range(whole):
            assert attacks.echo(contained, text) == text
        with pytest.raises(TooLarge):
            attacks.echo(contained, text)


def test_full_pipes_both_ways_are_no_deadlock(sandbox: Sandbox) -> None:
    with started(sandbox) as contained:
        text = bytes(range(256)) * 320
        deadline = time.monotonic() + 60
        for _ in range(12):  # the guest's answers fill its pipe long before the last frame is sent
            contained.send(b"=" + text, deadline)
        assert [contained.receive(deadline) for _ in range(12)] == [text] * 12


def test_threads_of_the_host_may_use_a_sandbox_together(sandbox: Sandbox) -> None:
    failures: list[str] = []

    def talk(number: int) -> None:
        for at in range(4):
            with started(sandbox) as contained:
                text = f"{number} {at}".encode()
                if attacks.echo(contained, text) != text:
                    failures.append(f"{number} {at}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_descriptor_of_the_host_or_the_server_is_left(opened: Open) -> None:
    def descriptors() -> list[int]:
        assert attacks.within(10, lambda: len(opened.processes()) == opened.at_rest)
        return [len(list(Path(f"/proc/{each}/fd").iterdir())) for each in (os.getpid(), opened.processes()[0])]

    opened.sandbox.start().close()
    before = descriptors()
    for _ in range(6):
        opened.sandbox.start().close()
    # One more may be being taken apart, and on a loaded machine another still.
    assert attacks.within(20, lambda: all(now <= then + 1 for now, then in zip(descriptors(), before, strict=True)))


HOST = """
import os, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
import attacks
from hostile_programs import PROGRAMS
from sc2jax.evaluation.sandbox import open_sandbox
machine = attacks.Machine({canary!r}, ())
with open_sandbox(attacks.GUEST, attacks.LIMITS, rung={rung}) as sandbox:
    with_child = "os.fork()\\n" if {rung} < 3 else ""
    contained = sandbox.start()
    import json
    from hostile_programs import PRELUDE
    program = PRELUDE + "signal.signal(signal.SIGINT, signal.SIG_IGN)\\n" + with_child + "while True: time.sleep(1)"
    frame = json.dumps(dict(prelude="escapes = []", program=program, names=dict()))
    contained.send(frame.encode(), time.monotonic() + 30)
    time.sleep(0.3)
    print("running", flush=True)
    {then}
"""


@pytest.mark.parametrize("rung", [1, 2, 3])
@pytest.mark.parametrize("end", ["killed", "interrupted", "raises"])
def test_nothing_outlives_the_host(tmp_path: Path, rung: int, end: str) -> None:
    then = "raise ValueError" if end == "raises" else "time.sleep(100)"
    canary = tmp_path / "canary"
    program = textwrap.dedent(HOST).format(
        root=str(ROOT), tests=str(attacks.HERE), canary=str(canary), rung=rung, then=then
    )
    mounts = Path("/proc/self/mountinfo").read_text()
    host = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert host.stdout and host.stderr
    if host.stdout.readline() != "running\n":
        said = host.stderr.read()
        assert "cannot be reached" in said, said
        pytest.skip(said.splitlines()[-1])
    inside = attacks.descendants(host.pid)
    if end == "killed":
        host.kill()
    if end == "interrupted":
        os.killpg(host.pid, signal.SIGINT)  # as a terminal does to all that runs in it
    if end != "raises":
        assert len(inside) >= 4
    host.communicate(timeout=60)
    assert host.returncode == {"killed": -signal.SIGKILL, "interrupted": -signal.SIGINT, "raises": 1}[end]
    assert attacks.gone(inside)
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_sandbox_that_fails_is_no_doing_of_the_program(tmp_path: Path) -> None:
    before = set(attacks.descendants(os.getpid()))
    with open_sandbox(attacks.GUEST, attacks.LIMITS) as sandbox:
        contained = sandbox.start()
        assert attacks.echo(contained, b"x") == b"x"
        own = [each for each in attacks.descendants(os.getpid()) if each not in before]
        os.kill(own[0], signal.SIGKILL)
        assert attacks.gone(own[1:])  # the first is this process's child, and stays until it is waited for
        with pytest.raises(Ended) as end:
            attacks.echo(contained, b"x")
        assert end.value.ending.kind == Kind.LOST
        with pytest.raises(Ended) as end:
            sandbox.start()
        assert end.value.ending.kind == Kind.LOST


def test_a_rung_that_cannot_be_reached_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"bubblewrap is not installed.*apt-get install bubblewrap"), _open(rung=2):
        pass
    report = {each.rung: each for each in probe(attacks.GUEST, attacks.LIMITS)}
    assert list(report) == [1, 2, 3]
    assert not report[2].works
    assert "not installed" in report[2].reason
    assert all(each.works or each.reason for each in report.values())


def test_no_sandbox_is_a_risk_that_must_be_taken_by_name() -> None:
    with pytest.raises(UserError, match="--unsafe"), _open(rung=4):
        pass
    with pytest.raises(UserError, match="no sandbox 5"), _open(rung=5):
        pass
    with open_sandbox(attacks.GUEST, attacks.LIMITS, rung=4, unsafe=True) as sandbox:
        assert sandbox.rung == 4
    with open_sandbox(attacks.GUEST, attacks.LIMITS, unsafe=True) as sandbox:
        assert sandbox.rung < 4  # the strongest, all the same


@contextlib.contextmanager
def _open(rung: int) -> Iterator[None]:
    with open_sandbox(attacks.GUEST, attacks.LIMITS, rung=rung):
        yield


def test_a_guest_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    module = tmp_path / "broken.py"
    module.write_text("import no_such_module\n")
    with (
        pytest.raises(UserError, match="no_such_module"),
        open_sandbox(Guest((module,), "entry"), attacks.LIMITS, rung=1),
    ):
        pass
    module.write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nentry = None\n"
    )
    with pytest.raises(UserError, match="thread"), open_sandbox(Guest((module,), "entry"), attacks.LIMITS, rung=1):
        pass
    guest = Guest((module,), "entry", packages=("no_such_package",))
    with pytest.raises(UserError, match=r"no_such_package.*pip install"), open_sandbox(guest, attacks.LIMITS):
        pass


def test_facts_say_what_a_result_needs(sandbox: Sandbox) -> None:
    facts = sandbox.facts()
    assert facts["rung"] == sandbox.rung
    assert facts["python"] == sys.version.split()[0]
    assert facts["kernel"] == os.uname().release
    assert set(facts) == {"rung", "name", "python", "kernel", "started_as", "memory_bound"}


def test_a_crash_is_nothing_for_the_crash_handler(evaluating: Sandbox) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    allowed = 0 if hard == 0 else 1  # 1 is less than any dump, and no handler is asked: core(5)
    with started(evaluating) as contained:
        assert ask(contained, "__import__('resource').getrlimit(4)") == f"({allowed}, {allowed})"


def test_a_sandbox_has_a_session_of_its_own(opened: Open) -> None:
    sessions = {os.getsid(each) for each in [opened.keeper, *opened.processes()]}
    assert os.getsid(0) not in sessions  # so that a Ctrl-C in the terminal does not end it before the host can


def test_many_processes_at_a_time_have_each_their_own_pipes(sandbox: Sandbox) -> None:
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(started(sandbox)) for _ in range(24)]
        for closed in many[::3]:  # numbers of descriptors become free in between
            closed.close()
        many = many[1::3] + many[2::3] + [stack.enter_context(started(sandbox)) for _ in range(8)]
        for number, contained in enumerate(many):
            assert attacks.echo(contained, b"%d" % number) == b"%d" % number


def test_closing_a_sandbox_ends_a_talk_of_another_thread() -> None:
    heard: list[BaseException] = []
    with open_sandbox(attacks.GUEST, attacks.LIMITS) as sandbox:
        contained = sandbox.start()

        def wait() -> None:
            try:
                contained.receive(time.monotonic() + 100)
            except Ended as end:
                heard.append(end)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
    waiting.join(10)
    assert len(heard) == 1


def test_a_host_that_forked_can_close_a_sandbox() -> None:
    with open_sandbox(attacks.GUEST, attacks.LIMITS) as sandbox:
        assert attacks.echo(sandbox.start(), b"x") == b"x"
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        begun = time.monotonic()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert time.monotonic() - begun < 10
