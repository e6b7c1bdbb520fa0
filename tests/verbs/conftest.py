"""A small corpus and a tokenizer, made once by their verbs, and a way to call a verb on them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sc2jax.cli import main

SMALL = {
    "tokenizer.vocab_size": 340,
    "model.context_length": 32,
    "model.embed_dim": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.window": 16,
    "training.steps": 5,
    "training.batch_size": 8,
    "training.warmup_tokens": 8 * 32,
    "training.log_every": 2,
    "training.checkpoint_every": 4,
    "corpus.heldout_fraction": 0.3,
    "evaluation.max_bytes": 600,
    "evaluation.infill_samples": 2,
    "evaluation.infill_tokens": 4,
    "evaluation.prefix_characters": 30,
    "evaluation.suffix_characters": 15,
    "completion.max_new_tokens": 4,
}

Call = Callable[..., tuple[int, str, str]]
"""Runs a verb in a working folder with overrides; its status, what it printed, and its errors."""


@pytest.fixture(scope="session")
def small() -> dict[str, object]:
    """The config of the smallest run."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small_source")
    for package in range(8):
        (root / f"package_{package}").mkdir()
        for module in range(2):
            lines = [f"def value_{package}_{module}_{line}(x):\n    return x * {line}\n" for line in range(12)]
            (root / f"package_{package}" / f"module_{module}.py").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def inputs(small_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the corpus and the tokenizer."""
    folder = tmp_path_factory.mktemp("small")
    for verb in ("curate", "tokenizer"):
        with pytest.raises(SystemExit) as exit_info:
            main([verb, f"--config.paths.source={small_source}", f"--workdir={folder}", *overrides({})])
        assert not exit_info.value.code
    return {"paths.corpus": f"{folder}/corpus", "paths.tokenizer": f"{folder}/tokenizer"}


def overrides(config: dict[str, object]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in (SMALL | config).items()]


@pytest.fixture(scope="session")
def start() -> Callable[..., int]:
    """Runs a verb in a working folder with overrides, and with nothing of another run."""

    def start(verb: str, workdir: Path, **config: object) -> int:
        with pytest.raises(SystemExit) as exit_info:
            main([verb, f"--workdir={workdir}", *overrides(config)])
        return int(exit_info.value.code or 0)

    return start


@pytest.fixture
def call(inputs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Call:
    def call(verb: str, workdir: Path, **config: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_info:
            main([verb, f"--workdir={workdir}", *overrides(inputs | config)])
        printed, errors = capsys.readouterr()
        return int(exit_info.value.code or 0), printed, errors

    return call


@pytest.fixture(scope="session")
def trained(inputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.raises(SystemExit) as exit_info:
        main(["train", f"--workdir={folder}", *overrides(dict(inputs))])
    assert not exit_info.value.code
    return folder


@pytest.fixture(scope="session")
def measured(trained: Path, inputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its measures; not to be changed."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(trained, folder)
    with pytest.raises(SystemExit) as exit_info:
        main(["evaluate", f"--workdir={folder}", *overrides(dict(inputs))])
    assert not exit_info.value.code
    return folder
