"""Processes of one run: they tell each other things, stop at the same step, and end together however one of them ends.

What they say and agree on is tried with threads, each with a membership of its own; how they end with processes.
"""

import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from members import CONFIG, in_threads
from processes import free_port

import sc2jax
from sc2jax.errors import UserError
from sc2jax.parallel.config import HostsConfig
from sc2jax.parallel.hosts import AgreedError, Hosts, Place, joined, together

SCRIPT = str(Path(__file__).parent / "one_of_several.py")


def test_all_have_the_value_of_the_first_and_those_of_all():
    def work(hosts: Hosts) -> Any:
        first = hosts.share("value", {"of": hosts.index, "tuple": (1,)})
        again = hosts.share("value", hosts.index + 10)
        every = hosts.gather("value", hosts.index * "x")
        return first, again, every, hosts.gather("large", "y" * 3_000_000 + str(hosts.index))[-1][-2:]

    said = ({"of": 0, "tuple": [1]}, 10, ["", "x", "xx", "xxx"], "y3")
    assert in_threads(4, work) == [said] * 4


def test_who_waits_in_vain_says_for_whom():
    def work(hosts: Hosts) -> str:
        if hosts.index == 2:
            hosts.gather("end", None)
            return ""
        with pytest.raises(UserError) as info:
            hosts.gather("names", None, within=0.5)
        hosts.gather("end", None)
        return str(info.value)

    said = in_threads(3, work)
    assert "process 0 on" in said[0]
    assert "in vain for the 'names' of processes 2" in said[0]
    assert "in vain for the 'names' of another process" in said[1]


@pytest.mark.parametrize("seed", range(6))
def test_all_stop_after_the_same_step_and_none_waits_for_another_that_stopped(seed):
    """Each step ends with a barrier, as a collective does: were one process to stop earlier, the others would hang."""
    count, asks_at = 4, random.Random(seed).randrange(12)
    barrier = threading.Barrier(count, timeout=20)

    def work(hosts: Hosts) -> tuple[int, int]:
        draw, step = random.Random(f"{seed} {hosts.index}"), 0
        while not hosts.stops_after(step):
            step += 1
            if hosts.index == seed % count and step == asks_at:
                hosts.ask_to_stop()
            time.sleep(draw.choice((0, 0, 0.001, 0.02)))
            barrier.wait()
        return step, hosts.gather("steps", step)[0]

    if asks_at == 0:
        asks_at = 1
    steps = in_threads(count, work)
    assert len(set(steps)) == 1
    assert asks_at <= steps[0][0] < 100_000


def test_who_has_begun_a_step_is_followed_there():
    """The others learn of the wish while one is a step ahead: it is in step 8, so all stop after that one."""

    def work(hosts: Hosts) -> list[bool]:
        if hosts.index == 0:
            assert not hosts.stops_after(7)
        hosts.gather("begun", None)
        if hosts.index == 1:
            hosts.ask_to_stop()
        time.sleep(0.5)  # the wish has reached all
        hosts.gather("wished", None)
        return [hosts.stops_after(step) for step in ((8,) if hosts.index == 0 else (6, 7, 8))]

    assert in_threads(3, work) == [[True], [False, False, True], [False, False, True]]


def test_asked_before_the_first_step_all_stop_at_once():
    def work(hosts: Hosts) -> bool:
        hosts.ask_to_stop()
        hosts.gather("asked", None)
        time.sleep(0.5)
        return hosts.stops_after(100)

    assert in_threads(2, work) == [True, True]


def test_what_all_find_out_alike_each_says_by_itself():
    def work(hosts: Hosts) -> None:
        time.sleep(0.3 * hosts.index)  # the others are still to come when the first one raises
        raise AgreedError("the same")

    assert list(map(str, in_threads(3, work))) == ["the same"] * 3


def test_who_is_missing_is_named():
    coordinator = f"127.0.0.1:{free_port()}"
    config = HostsConfig(join_seconds=1.0, silent_seconds=4.0)
    expected = r"within 1 s \(hosts.join_seconds\); these are missing: 1, 2; start all"
    with pytest.raises(UserError, match=expected), together(Place(coordinator, 3, 0), config, lambda *_: None):
        pass


def test_a_coordinator_that_is_not_there_is_named():
    config = HostsConfig(f"127.0.0.1:{free_port()}", 2, 1, join_seconds=0.7)
    started = time.monotonic()
    expected = rf"{config.coordinator} cannot be reached within 1 s .*refused; start process 0"
    with pytest.raises(UserError, match=expected), joined(config):
        pass
    assert 0.5 < time.monotonic() - started < 3


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        expected = rf"cannot listen at port {port}: Address already in use; name another one"
        with pytest.raises(UserError, match=expected), joined(HostsConfig(f"127.0.0.1:{port}", 2, 0)):
            pass


def test_what_is_no_run_of_ours_is_named():
    ended: queue.Queue[str] = queue.Queue()

    def member(port: int) -> None:
        with together(Place(f"127.0.0.1:{port}", 2, 1), CONFIG, lambda message, _: ended.put(message)):
            pass

    with socket.create_server(("", 0)) as server:
        # Its main thread waits for the end of the process, which does not come here.
        threading.Thread(target=member, args=(server.getsockname()[1],), daemon=True).start()
        server.accept()[0].sendall(b"SSH-2.0-OpenSSH\r\n")
        assert "what answers there is no run of sc2jax" in ended.get(timeout=10)


STRANGERS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"[1]\n",
    b'{"kind": "hello"}\n',
    b"[" * 100_000 + b"\n",
    b'{"kind": "beat"}\n',
    b'{"kind": "hello", "version": "0", "count": 2, "index": 1e999, "host": ""}\n',
    b'{"kind": "hello", "version": "0", "count": 2, "index": 1.5, "host": ""}\n',
]


def test_strangers_and_processes_that_do_not_fit_change_nothing():
    """They are refused with the reason, and the run goes on."""
    port = free_port()

    def newcomer(said: bytes) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(said)
            return connection.recv(10_000).decode()

    def hello(**changed: Any) -> bytes:
        said = {"kind": "hello", "version": sc2jax.__version__, "count": 2, "index": 1, "host": "elsewhere"}
        return json.dumps(said | changed).encode() + b"\n"

    def member(index: int) -> Any:
        with together(Place(f"127.0.0.1:{port}", 2, index), CONFIG, lambda message, _: pytest.fail(message)) as hosts:
            if hosts.is_first:
                for stranger in STRANGERS:
                    assert "no process of ours" in newcomer(stranger)
                assert "runs sc2jax" in newcomer(hello(version="0"))
                assert "hosts.count=2, and this one with 3" in newcomer(hello(count=3))
                assert "process 1 on" in newcomer(hello())
                assert "2 is no index of 2" in newcomer(hello(index=2))
            return hosts.gather("end", index)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(member, range(2))) == [[0, 1]] * 2


def test_one_that_is_refused_ends_with_the_reason():
    port = free_port()

    def work(index: int, count: int) -> str:
        try:
            place, config = Place(f"127.0.0.1:{port}", count, index), HostsConfig(join_seconds=2.0)
            with together(place, config, lambda *_: None):
                return ""
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        first, other = pool.map(work, (0, 1), (2, 3))
    assert "hosts.count=2, and this one with 3" in other
    assert "these are missing: 1" in first


class Ended:
    """How a process ended, and after which time since one of them failed, in seconds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.out, self.errors = process.communicate(timeout=100)
        self.at, self.status = time.monotonic(), process.returncode

    @property
    def ours(self) -> list[str]:
        """The messages of ours: of the command line, as the script plays it, and of the membership."""
        return [line for line in self.errors.splitlines() if line.startswith(("one: ", "sc2jax: "))]


def start(count: int, **task: Any) -> "list[subprocess.Popen[str]]":
    """Starts the processes of a run."""
    hosts = {"coordinator": f"127.0.0.1:{free_port()}", "count": count, "silent_seconds": 10.0, "join_seconds": 120.0}
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, json.dumps(task | {"hosts": hosts | {"index": index}})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(count)
    ]


def ends(processes: "list[subprocess.Popen[str]]") -> list[Ended]:
    """How they ended; none of them is left."""
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            return list(pool.map(Ended, processes))
    finally:
        for process in processes:
            process.kill()


def said(ended: Ended) -> dict[str, int]:
    return json.loads(next(line for line in ended.out.splitlines() if line.startswith("{")))


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_sum_over_all_and_leave_with_0(count):
    ended = ends(start(count))
    assert [one.status for one in ended] == [0] * count, ended[0].errors
    assert [said(one) for one in ended] == [{"step": 20, "devices": 2 * count, "slowest": 20}] * count
    assert not any(one.ours for one in ended)
    assert max(one.at for one in ended) - min(one.at for one in ended) < 5


@pytest.mark.parametrize("who", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_processes_stop_after_the_same_step(who):
    """Process 1 pauses after each sum, so that process 0 waits for it in the next one when the wish arrives."""
    ended = ends(start(2, who=who, asked=4, pause=0.05))
    assert [one.status for one in ended] == [0, 0]
    assert said(ended[0]) == said(ended[1])
    assert 4 <= said(ended[0])["step"] < 20


SLOW = pytest.mark.slow
STATUS = {"error": 2, "disk": 2, "defect": 1, "kill": -signal.SIGKILL, "interrupt": 130}
MESSAGE = {
    "error": "its own error",
    "disk": "/data: No space left on device",
    "defect": "ZeroDivisionError: a defect",
    "kill": "it ended without a word (killed, crashed, or out of memory)",
    "interrupt": "it was interrupted",
}


@pytest.mark.parametrize(
    ("count", "who", "when", "how"),
    [
        (2, 0, "training", "kill"),
        (2, 1, "training", "kill"),
        (2, 0, "training", "error"),
        (2, 1, "end", "error"),
        *(
            pytest.param(*case, marks=SLOW)
            for case in (
                *((2, who, "training", how) for who in (0, 1) for how in MESSAGE),
                *((4, who, "training", how) for who, how in ((0, "error"), (1, "kill"))),
                *((2, who, when, "kill") for who in (0, 1) for when in ("start", "end")),
                *((2, 1 - (when == "end"), when, how) for when in ("start", "end") for how in ("error", "interrupt")),
            )
            if case not in [(2, 0, "training", "kill"), (2, 1, "training", "kill"), (2, 0, "training", "error")]
            and case != (2, 1, "end", "error")
        ),
    ],
)
def test_whatever_fails_at_one_ends_all(count, who, when, how):
    """Each with one message of ours, the others with who it was and why."""
    standing = "" if when == "start" else "it stands well"
    ended = ends(start(count, who=who, when=when, how=how, standing=standing))
    for index, one in enumerate(ended):
        if index == who:
            assert one.status == STATUS[how]
            assert len(one.ours) == (how not in ("kill", "defect"))
            continue
        assert one.status == 3, one.errors
        host = socket.gethostname()
        expected = f"sc2jax: process {index} on {host} ends, for process {who} on {host} failed: {MESSAGE[how]}"
        assert one.ours == [f"{expected}; {standing}" if standing else expected]
    assert max(one.at for one in ended) - min(one.at for one in ended) < 15


@pytest.mark.parametrize("who", [0, pytest.param(1, marks=SLOW)])
def test_one_that_is_stopped_ends_the_others_and_ends_itself_when_it_goes_on(who):
    processes = start(2, who=who, when="training", how="stop")
    try:
        errors = processes[1 - who].communicate(timeout=60)[1]
        assert processes[1 - who].returncode == 3
        host = socket.gethostname()
        assert (
            f"process {1 - who} on {host} ends, for process {who} on {host} failed: nothing was heard of it" in errors
        )
        assert processes[who].poll() is None
        processes[who].send_signal(signal.SIGCONT)
        errors = processes[who].communicate(timeout=20)[1]
        assert processes[who].returncode not in (0, None)
        assert errors.count(f"sc2jax: process {who} on {host}") == 1
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_though_native_code_does_not_hear_it(who, number):
    """As while compiling: the handler in Python comes to nothing before that is done."""
    processes = start(2, who=who, when="compiling")
    time.sleep(15)
    processes[who].send_signal(number)
    sent = time.monotonic()
    ended = ends(processes)
    assert ended[who].status == 128 + number
    assert ended[1 - who].status == 3
    assert max(one.at for one in ended) - sent < 40
    assert all(len(one.ours) == 1 for one in ended)
