"""A run that went the whole way at the smallest scale, and the command line in this process in place of another."""

import contextlib
import io
from pathlib import Path

import pytest

from sc2jax import cli
from sc2jax.notebook import run as run_module

TINY = {
    "tokenizer.vocab_size": 340,
    "model.context_length": 32,
    "model.embed_dim": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.window": 16,
    "training.steps": 4,
    "training.batch_size": 8,
    "training.warmup_tokens": 8 * 32,
    "training.log_every": 1,
    "training.checkpoint_every": 4,
    "corpus.heldout_fraction": 0.3,
    "evaluation.max_bytes": 600,
    "evaluation.infill_samples": 2,
    "evaluation.infill_tokens": 4,
    "evaluation.prefix_characters": 30,
    "evaluation.suffix_characters": 15,
    "completion.max_new_tokens": 4,
}


def here(*arguments: str) -> str:
    """What the command line prints with these arguments, in this process."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.run(list(arguments)) == 0
    return printed.getvalue()


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets runs call the command line without a process, which would import jax again."""
    monkeypatch.setattr(run_module, "asked", here)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with every stage of quickstart; not to be changed."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("runs") / "whole"
    for package in range(8):
        (source / f"package_{package}").mkdir()
        lines = [f"def value_{package}_{line}(x):\n    return x * {line}\n" for line in range(12)]
        (source / f"package_{package}" / "module.py").write_text("\n".join(lines))
        (source / f"package_{package}" / "value.c").write_text(
            "\n".join(f"int v{package}_{n} = {n};" for n in range(9))
        )
    (source / "package_0" / "empty.py").write_text("")
    settings = [f"--config.{key}={value}" for key, value in TINY.items()]
    here("quickstart", f"--config.paths.source={source}", f"--workdir={folder}", *settings)
    return folder
