"""Sandboxes to test: one for each rung that can be reached here."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import attacks
import pytest
from opened_sandbox import Open

from sc2jax.errors import UserError
from sc2jax.evaluation.sandbox import Sandbox, open_sandbox


@pytest.fixture(scope="session", params=[1, 2, 3], ids=["namespaces", "bubblewrap", "landlock"])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    before = set(attacks.descendants(os.getpid()))
    try:
        context = open_sandbox(attacks.GUEST, attacks.LIMITS, rung=request.param)
        sandbox = context.__enter__()
    except UserError as error:
        pytest.skip(str(error))
    keeper = next(each for each in attacks.descendants(os.getpid()) if each not in before)
    # At rest there are the server and the spare process, with its container's.
    yield Open(sandbox, keeper, {1: 3, 2: 4, 3: 2}[request.param])
    context.__exit__(None, None, None)
    assert attacks.gone([keeper])


@pytest.fixture
def sandbox(opened: Open) -> Sandbox:
    return opened.sandbox


@pytest.fixture(scope="session")
def machine() -> Iterator[attacks.Machine]:
    """Files that everybody may read and write, and a socket: what keeps a program from them is the sandbox alone."""
    with TemporaryDirectory(prefix="canary", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listening:
        canary = Path(folder, "canary")
        canary.write_text("canary\n")
        canary.chmod(0o666)
        Path(folder).chmod(0o777)
        benchmark = Path(folder, "HumanEval.jsonl")
        benchmark.write_text('{"task_id": "HumanEval/0"}\n')
        benchmark.chmod(0o644)
        hidden = (str(benchmark), str(Path(attacks.__file__)), __file__)
        machine = attacks.Machine(str(canary), hidden, f"\0{folder}")
        listening.bind(machine.abstract)
        listening.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(machine.abstract + "-datagrams")
            yield machine
