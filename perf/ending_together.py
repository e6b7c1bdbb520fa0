"""How long it takes until all processes of a run have ended when one of them fails, by what fails and where.

    python perf/ending_together.py [PROCESSES]

Starts the processes of the tests (`tests/parallel/one_of_several.py`) over loopback, with the limits of the defaults.
"""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "tests/parallel/one_of_several.py"
WAYS = ("error", "defect", "disk", "interrupt", "kill", "stop")


def start(count: int, who: int, when: str, how: str) -> "list[subprocess.Popen[str]]":
    """Starts the processes of a run in which one fails."""
    with socket.create_server(("", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    tasks = [
        {"hosts": {"coordinator": coordinator, "count": count, "index": index}, "who": who, "when": when, "how": how}
        for index in range(count)
    ]
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, json.dumps(task)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for task in tasks
    ]


def measured(count: int, who: int, when: str, how: str) -> tuple[float, list[int], str]:
    """Seconds from the failure to the end of the last other process, their statuses, and what one of them says."""
    processes = start(count, who, when, how)
    others = [process for process in processes if process is not processes[who]]
    with ThreadPoolExecutor(count) as pool:
        errors = [pool.submit(lambda process=process: process.communicate(timeout=120)[1]) for process in others]
        output = processes[who].stdout
        assert output is not None
        while output.readline() != "failing\n":
            pass
        failed = time.monotonic()
        said = [future.result() for future in errors]
        took = time.monotonic() - failed
    processes[who].kill()
    processes[who].communicate()
    message = next(line for line in said[0].splitlines() if line.startswith("sc2jax: "))
    return took, [process.returncode for process in others], message.partition("failed: ")[2]


def main() -> None:
    """Prints the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    print(f"| what fails | where | when | s until all others ended (of {count}) | statuses | what they say |")
    print("|---|---|---|---|---|---|")
    for how in WAYS:
        for who in (0, count - 1):
            for when in ("start", "training", "end"):
                took, statuses, message = measured(count, who, when, how)
                print(f"| {how} | process {who} | {when} | {took:.1f} | {statuses} | {message} |", flush=True)


if __name__ == "__main__":
    main()
