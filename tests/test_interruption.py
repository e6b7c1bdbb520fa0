"""Killed at any moment of any stage, the same command ends with the outputs of an uninterrupted run."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_story import TINY  # pyright: ignore[reportMissingImports]

from sc2jax.records.manifest import read_manifest

STAGES = ("curate", "tokenizer", "tokenize", "train", "evaluate", "complete", "report")
FOLDER = {"curate": "corpus"}
PARTS = {"evaluate": ("evaluate/bits_per_byte", "evaluate/infilling", "evaluate/decoding")}
KILLS = int(os.environ.get("SC2JAX_KILLS", "2"))
"""Moments a stage is killed at; each in a folder of its own, followed by the same command."""

OVERRIDES = {**TINY, "tokenizer.vocab_size": 512, "training.steps": 60, "corpus.row_group_bytes": 20_000}


def command(stage: str, source: Path, workdir: Path) -> list[str]:
    overrides = [f"--config.{key}={value}" for key, value in OVERRIDES.items()]
    verb = [sys.executable, "-m", "sc2jax.cli", stage, f"--config.paths.source={source}", f"--workdir={workdir}"]
    return verb + overrides


def environment() -> dict[str, str]:
    # One device: the eight of the tests only cost time here.
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def run(stage: str, source: Path, workdir: Path) -> float:
    started = time.monotonic()
    done = subprocess.run(
        command(stage, source, workdir), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def digests(stage: str, workdir: Path) -> dict[str, str]:
    """The digests of a stage's manifests, and those of every result that they list."""
    found: dict[str, str] = {}
    for name in PARTS.get(stage, (stage,)):
        folder = workdir / FOLDER.get(name, name)
        manifest = read_manifest(str(folder))
        files = {
            output.path: hashlib.sha256((folder / output.path).read_bytes()).hexdigest() for output in manifest.outputs
        }
        assert files == {output.path: output.sha256 for output in manifest.outputs}
        results = {output.path for output in manifest.outputs if output.result}
        found |= {f"{name}/{path}": digest for path, digest in files.items() if path in results}
        found |= {name: manifest.digest}
    return found


@pytest.fixture(scope="module")
def source() -> Path:
    """The text processing, mail and JSON packages of the standard library: real files, and not many."""
    import email

    return Path(email.__file__).parent.parent


@pytest.fixture(scope="module")
def small_source(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for package in ("email", "json", "logging", "asyncio", "concurrent", "html", "http", "urllib", "wsgiref", "xml"):
        (root / package).symlink_to(source / package)
    copied = tmp_path_factory.mktemp("copied")
    subprocess.run(["cp", "-rL", f"{root}/.", str(copied)], check=True)
    return copied


@pytest.fixture(scope="module")
def uninterrupted(small_source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, {stage: run(stage, small_source, workdir) for stage in STAGES}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", range(KILLS))
@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_started_again_it_ends_the_same(stage, moment, small_source, uninterrupted, tmp_path):
    whole, seconds = uninterrupted
    for before in STAGES[: STAGES.index(stage)]:
        folder = FOLDER.get(before, before)
        (tmp_path / folder).symlink_to(whole / folder)
    process = subprocess.Popen(
        command(stage, small_source, tmp_path),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(random.Random(f"{stage} {moment}").uniform(0.05, 1.0) * seconds[stage])
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(stage, small_source, tmp_path)
    assert digests(stage, tmp_path) == digests(stage, whole)
