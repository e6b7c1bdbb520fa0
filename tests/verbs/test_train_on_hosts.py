"""`train` in several processes, as on several hosts: over loopback, each with devices of its own, in one folder."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import free_port

from sc2jax.parallel.config import HostsConfig
from sc2jax.records.manifest import read_manifest
from sc2jax.training.metrics import Row, read_metrics

DEVICES = 4
"""Of all processes together, whatever their number: the mesh is the same."""


Started = "subprocess.Popen[str]"
Start = Callable[..., "list[subprocess.Popen[str]]"]


@pytest.fixture
def start(inputs, small):
    """Starts `train` in so many processes; what each is told differently is given by its index."""
    started: list[subprocess.Popen[str]] = []

    def start(count: int, workdir: Path, differing: dict[int, dict[str, object]] | None = None, **config: object):
        flags = f"--xla_force_host_platform_device_count={DEVICES // count} --xla_backend_optimization_level=0"
        shared: dict[str, object] = {**small, **inputs, "hosts.silent_seconds": 30.0, **config}
        if count > 1:
            shared |= {"hosts.join_seconds": 300, "hosts.coordinator": f"127.0.0.1:{free_port()}", "hosts.count": count}
        for index in range(count):
            own = shared | ({"hosts.index": index} if count > 1 else {}) | (differing or {}).get(index, {})
            folder, current = own.pop("workdir", workdir), str(own.pop("cwd", Path.cwd()))
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "sc2jax.cli", "train", f"--workdir={folder}"]
                    + [f"--config.{key}={value}" for key, value in own.items()],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=current,
                    env={**os.environ, "XLA_FLAGS": flags},
                )
            )
        return started[-count:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


OF_GLOO = re.compile(
    r"\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : |\d+(?! steps)"
)
"""The pieces that it writes to standard output, one at a time: those of two of its threads may stand in one line."""


def ends(processes: "list[subprocess.Popen[str]]") -> list[tuple[int, str, str]]:
    """Status, output without what gloo says on it, and errors of each."""
    ended = []
    for process in processes:
        out, errors = process.communicate(timeout=300)
        ended.append((process.returncode, OF_GLOO.sub("", out).strip(), errors))
    return ended


def log(workdir: Path) -> list[Row]:
    return read_metrics(str(workdir / "train"))


def results(workdir: Path) -> dict[str, str]:
    """The digests of all that follows from the config: the log, and the fingerprints of the parameters."""
    manifest = read_manifest(str(workdir / "train"))
    return {output.path: output.sha256 for output in manifest.outputs if output.result}


def assert_same_training(workdir: Path, other: Path) -> None:
    """Rows and feed the same bit for bit, and losses but for the order in which gloo sums."""
    found, expected = log(workdir), log(other)
    exact = ("step", "tokens", "feed")
    assert [[row[name] for name in exact] for row in found] == [[row[name] for name in exact] for row in expected]
    for name in ("loss", "gradient_norm", "learning_rate"):
        np.testing.assert_allclose([row[name] for row in found], [row[name] for row in expected], rtol=1e-5)


def cut_back(whole: Path, workdir: Path) -> None:
    """A copy of a finished run without its newest checkpoint, as if it had been interrupted after step 4."""
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "train/checkpoints/5")


def trained(start: Start, count: int, workdir: Path, **config: object) -> None:
    """Trains to the end; process 0 alone says how it went."""
    ended = ends(start(count, workdir, **config))
    assert [status for status, _, _ in ended] == [0] * count, ended
    assert "5 steps" in ended[0][1]
    assert [said for _, said, _ in ended[1:]] == [""] * (count - 1)


def test_two_processes_train_like_one_and_go_on_like_two(start, tmp_path):
    """With tokens that process 0 lays first; then once more, when nothing is left to do."""
    trained(start, 2, tmp_path / "two")
    cut_back(tmp_path / "two", tmp_path / "again")
    trained(start, 2, tmp_path / "again")
    assert results(tmp_path / "again") == results(tmp_path / "two")
    cut_back(tmp_path / "two", tmp_path / "one")
    trained(start, 1, tmp_path / "one")
    assert_same_training(tmp_path / "one", tmp_path / "two")
    saved = json.loads((tmp_path / "two/train/config.json").read_text())
    assert saved["hosts"] == dataclasses.asdict(HostsConfig())


def test_hosts_that_differ_are_refused(start, tmp_path):
    """Each says so by itself, before anything is written."""
    ended = ends(start(2, tmp_path, {1: {"training.batch_size": 16, "training.checkpoint_every": 3}}))
    for status, said, errors in ended:
        assert status == 2
        assert not said
        assert "training.batch_size is 16 on process 1 on" in errors
        assert "training.checkpoint_every is 3 on process 1" in errors
        assert errors.count("sc2jax train: ") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hosts_with_other_inputs_or_another_folder_are_refused(start, inputs, tmp_path, small_source):
    shutil.copytree(inputs["paths.tokenizer"], tmp_path / "tokenizer")
    trained(start, 1, tmp_path / "tokens")
    tokens = {"paths.tokenize": f"{tmp_path}/tokens/tokenize"}
    ended = ends(start(2, tmp_path / "run", {1: {"workdir": tmp_path / "elsewhere"}}, **tokens))
    assert [status for status, _, _ in ended] == [3, 2]
    assert "is not the folder that process 0 writes to" in ended[0][2]
    assert "is not the folder that process 0 writes to" in ended[1][2]


@pytest.mark.slow
@pytest.mark.parametrize("saved_by", [1, 2, 4])
def test_any_number_of_processes_goes_on_where_any_other_stopped(start, tmp_path, saved_by):
    trained(start, saved_by, tmp_path / "whole")
    for count in (1, 2, 4):
        workdir = tmp_path / str(count)
        cut_back(tmp_path / "whole", workdir)
        trained(start, count, workdir)
        assert_same_training(workdir, tmp_path / "whole")
        if count == saved_by:
            assert results(workdir) == results(tmp_path / "whole")


@pytest.mark.slow
def test_local_checkpoints_that_hosts_do_not_share_are_refused(start, tmp_path):
    """A relative path is another folder for each process."""
    for index in (0, 1):
        (tmp_path / f"host_{index}").mkdir()
    own = {index: {"cwd": tmp_path / f"host_{index}"} for index in (0, 1)}
    ended = ends(start(2, tmp_path / "run", own, **{"training.checkpoints_local": "disk"}))
    for status, _, errors in ended:
        assert status == 2, errors
        assert "training.checkpoints_local is disk, which is another folder for process 1 on" in errors
    assert not [path for index in (0, 1) for path in (tmp_path / f"host_{index}").rglob("*") if path.is_file()]


STARTS: dict[str, dict[str, object]] = {
    "parameters": {},
    "with the optimizer": {"training.start_with_optimizer": True},
    "adapters": {"adapters.rank": 2, "adapters.alpha": 6.0, "training.peak_learning_rate": 1e-2},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", STARTS)
def test_two_processes_begin_where_another_run_ended(start, tmp_path, way):
    """As one does; and go on, adapters with what they are added to restored anew."""
    trained(start, 1, tmp_path / "base")
    begun: dict[str, object] = {"paths.start": tmp_path / "base/train", **STARTS[way]}
    for count in (1, 2):
        trained(start, count, tmp_path / f"of {count}", **begun)
    assert_same_training(tmp_path / "of 2", tmp_path / "of 1")
    cut_back(tmp_path / "of 2", tmp_path / "again")
    trained(start, 2, tmp_path / "again", **begun)
    assert results(tmp_path / "again") == results(tmp_path / "of 2")
    assert log(tmp_path / "of 2")[0]["loss"] < log(tmp_path / "base")[0]["loss"]


def wait_for_line(workdir: Path) -> None:
    path = workdir / "train/metrics.jsonl"
    while not (path.exists() and path.stat().st_size):
        time.sleep(0.1)


LONG: dict[str, Any] = {"training.steps": 100_000, "training.log_every": 1, "training.checkpoint_every": 50_000}


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_one_ends_all(start, tmp_path, who, number):
    """SIGTERM after a save, at the same step wherever it came; the others by what failed, and soon."""
    processes = start(2, tmp_path, **LONG)
    wait_for_line(tmp_path)
    processes[who].send_signal(number)
    sent = time.monotonic()
    ended = ends(processes)
    assert time.monotonic() - sent < 60
    assert all(status != 0 for status, _, _ in ended)
    saved = [path.name for path in (tmp_path / "train/checkpoints").iterdir()]
    if number == signal.SIGTERM:
        assert len(saved) == 1
        assert [status for status, _, _ in ended] == [143 if index == who else 2 for index in range(2)]
        assert all(f"it is saved up to step {int(saved[0]):,}" in errors for _, _, errors in ended)
    else:
        assert not saved
        assert f"process {who} on" in ended[1 - who][2]
        assert "there is no checkpoint yet" in ended[1 - who][2]
