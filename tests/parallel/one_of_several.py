"""One of the processes that the tests of `parallel/hosts.py` start: it sums over all in steps, and fails as it is told.

python one_of_several.py '{"hosts": {...}, "who": 1, "when": "training", "how": "kill"}'
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback

from sc2jax.errors import UserError
from sc2jax.parallel.config import HostsConfig
from sc2jax.parallel.hosts import Hosts, joined
from sc2jax.process import describe, watch_signals

STEPS = 20


def fail(how: str) -> None:
    """One of the ways in which a process ends before its time."""
    sys.stdout.write("failing\n")
    sys.stdout.flush()
    if how == "error":
        raise UserError("its own error")
    if how == "defect":
        raise ZeroDivisionError("a defect")
    if how == "disk":
        raise OSError(28, "No space left on device", "/data")
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "interrupt": signal.SIGINT}[how])
    time.sleep(0.5)


def work(hosts: Hosts, task: dict) -> None:
    """Sums over all processes, a step after the other."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import multihost_utils

    def reach(when: str) -> None:
        if hosts.index == task.get("who") and task.get("when") == when:
            fail(task["how"])

    assert hosts.gather("numbers", hosts.index) == list(range(hosts.count))
    reach("start")
    hosts.adds_when_ended(lambda: task.get("standing", ""))
    step = 0
    while step < STEPS and not hosts.stops_after(step):
        step += 1
        if step == task.get("asked") and hosts.index == task["who"]:
            hosts.ask_to_stop()
        if step == 3:
            reach("training")
        total = multihost_utils.process_allgather(jnp.float32(hosts.index + step)).sum()
        assert float(total) == sum(range(hosts.count)) + hosts.count * step
        time.sleep(task.get("pause", 0.0) * hosts.index)
    if hosts.index == task.get("who") and task.get("when") == "compiling":
        # A call into native code that no signal interrupts, as a compilation is one: a mutex that nobody opens.
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(mutex)
    said = {"step": step, "devices": jax.device_count(), "slowest": hosts.share("slowest", step)}
    sys.stdout.write(json.dumps(said) + "\n")
    reach("end")


def main() -> int:
    task = json.loads(sys.argv[1])
    try:
        with joined(HostsConfig(**task["hosts"])) as hosts:
            work(hosts, task)
    except (UserError, OSError) as error:
        sys.stderr.write(f"one: {error}\n")
        return 2
    except KeyboardInterrupt as error:
        message, status = describe(error) or ("", 1)
        sys.stderr.write(f"one: {message}\n")
        return status
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    watch_signals()
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)
