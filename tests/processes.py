"""Several processes that run together on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def run_two(program: Path, folder: Path) -> None:
    """Runs a program in two processes to their ends; each is told its number, a port and the folder."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(number), port, str(folder)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
