"""A run of an ablation has results only if its corpus was made without what it is scored on."""

import dataclasses
from pathlib import Path

import pytest

from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest, commit, write_output
from sc2jax.runs.ablation_results import _refuse_near_heldout
from sc2jax.runs.run import Run


def corpus(folder: Path, content: bytes, **inputs: str) -> str:
    folder.mkdir()
    output = write_output(str(folder), "out", content)
    return commit(str(folder), Manifest("curate", inputs, {}, (output,), {})).digest


def run_on(folder: Path) -> Run:
    settings = Settings()
    return Run(dataclasses.replace(settings, paths=dataclasses.replace(settings.paths, corpus=str(folder))), "/w")


def test_another_corpus_must_have_been_made_without_them(tmp_path):
    base = corpus(tmp_path / "base", b"base")
    corpus(tmp_path / "without", b"other", heldout=base)
    corpus(tmp_path / "with", b"other")
    corpus(tmp_path / "of_another", b"other", heldout="another")
    for folder in ("base", "without"):
        _refuse_near_heldout(run_on(tmp_path / folder), str(tmp_path / "base"))
    for folder in ("with", "of_another"):
        with pytest.raises(UserError, match=r"may hold what resembles .* --config.paths.heldout=.*/base$"):
            _refuse_near_heldout(run_on(tmp_path / folder), str(tmp_path / "base"))
