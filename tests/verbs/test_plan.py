"""Plans from the command line: what cannot be planned is one message, and what can leaves numbers and a page."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from sc2jax.cli import main
from sc2jax.plan import slices

T = TypeVar("T")
NEEDS_LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[plan]'"
)
TINY = {
    "model.embed_dim": 256,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "model.context_length": 256,
    "model.window": 128,
    "model.vocab_size": 512,
    "training.batch_size": 8,
    "model.compute_dtype": "bfloat16",
}


def run(tmp_path, capsys, *flags: str, **config: object) -> tuple[int, str, str]:
    given = [f"--config.{key.replace('__', '.')}={value}" for key, value in (TINY | config).items()]
    with pytest.raises(SystemExit) as exit_info:
        main(["plan", *flags, *given, f"--workdir={tmp_path / 'w'}"])
    printed, errors = capsys.readouterr()
    return int(exit_info.value.code or 0), printed, errors


@pytest.mark.parametrize(
    ("slice_name", "message"),
    [
        ("", "there is no slice ''; the largest of each kind are"),
        ("v5p-500", "there is no slice v5p-500; the nearest are v5p-384 and v5p-512"),
        ("v5e:16x15", "there is no slice v5e:16x15; the nearest are v5e:8x16 and v5e:16x16"),
        ("h100-8", "there is no slice 'h100-8'; the largest of each kind are"),
    ],
)
def test_a_slice_that_does_not_exist_is_one_message(tmp_path, capsys, slice_name, message):
    status, _, errors = run(tmp_path, capsys, plan__slice=slice_name)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors
    assert not (tmp_path / "w").exists()


def test_without_libtpu_it_is_said_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slices.importlib.util, "find_spec", lambda _: None)
    status, _, errors = run(tmp_path, capsys, plan__slice="v5e-4")
    assert status == 2
    assert 'pip install "sc2jax[plan]"' in errors
    assert not (tmp_path / "w" / "plan").exists()


def test_a_file_that_was_not_measured_is_refused_before_anything_is_compiled(tmp_path, capsys):
    status, _, errors = run(tmp_path, capsys, "--measured", f"{tmp_path}/none.json", plan__slice="v5e-4")
    assert status == 2
    assert "none.json" in errors


@NEEDS_LIBTPU
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_plan_is_numbers_and_a_page(tmp_path, capsys):
    status, printed, errors = run(tmp_path, capsys, plan__slice="v5e-4", plan__price="2.0")
    assert (status, errors) == (0, "")
    found = json.loads((tmp_path / "w/plan/plan.json").read_text())
    assert found["fits"] is True
    assert 0 < found["hbm_gib"] < found["memory"]["usable_gib"] == 15.75
    assert 0 < found["utilisation"]["exposed"] <= found["utilisation"]["overlapped"] < 1
    assert found["mesh"]["fsdp"] == 4
    assert found["step_seconds"] == found["seconds"]["exposed"]
    assert found["step_seconds"] == pytest.approx(sum(sum(kinds.values()) for kinds in found["parts"].values()))
    # Every product of the model is there; kernels compute scores again, which counts where so little else is computed.
    assert 1.0 <= found["flops"]["computed_over_model"] < 1.6
    assert found["training"]["cost"] == pytest.approx(2 * found["training"]["chip_hours"])
    assert "15.75 GiB" in printed
    assert "<svg" in (tmp_path / "w/plan/index.html").read_text() or "not computed in a loop" in printed

    status, printed, _ = run(tmp_path, capsys, plan__slice="v5e-4", plan__price="2.0")
    assert status == 0
    assert "compiling" not in printed, "what was planned is not compiled again"
    assert "fits" in printed and "utilisation" in printed, "the answer is told again"


@NEEDS_LIBTPU
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_does_not_fit_says_what_would(tmp_path):
    """And no more: libtpu would tell at length that no TPU is here, if what is counted for that looked for one."""
    large = TINY | {"training.batch_size": 4096, "model.num_layers": 16, "model.rematerialization": "none"}
    given = [f"--config.{key}={value}" for key, value in (large | {"plan.slice": "v5e-4"}).items()]
    command = [sys.executable, "-m", "sc2jax.cli", "plan", *given, f"--workdir={tmp_path / 'w'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sc2jax plan: the step does not fit v5e-4: it takes")
    assert "--config.training.accumulation=" in ended.stderr
    assert "libtpu" not in ended.stderr
    assert not (tmp_path / "w/plan/plan.json").exists()


@NEEDS_LIBTPU
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_mesh_that_does_not_divide_the_slice_is_one_message(tmp_path, capsys):
    status, _, errors = run(tmp_path, capsys, plan__slice="v5e-4", **{"mesh.data": 3})
    assert status == 2
    assert "does not fit 4 devices" in errors


@NEEDS_LIBTPU
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_compiler_is_left_behind_by_a_plan_that_is_killed(tmp_path):
    given = [f"--config.{key}={value}" for key, value in TINY.items()]
    command = [sys.executable, "-m", "sc2jax.cli", "plan", *given, "--config.plan.slice=v5e-4", f"--workdir={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = wait_for(lambda: children_of(process.pid))
    process.kill()
    process.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{child}/cmdline").exists() for child in children))


def children_of(pid: int) -> list[int]:
    """The compiler's process, once it has begun; multiprocessing has another one, which ends by itself."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in (found.read_text().split() if found.exists() else [])]


def wait_for(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
