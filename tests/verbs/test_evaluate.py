"""Each measure is a stage of its own: changing one does not compute the other again."""

import json
import shutil
from pathlib import Path

import pytest

from sc2jax.records.manifest import Manifest, read_manifest

MEASURES = ("bits_per_byte", "infilling")


@pytest.fixture
def run(measured: Path, tmp_path: Path) -> Path:
    shutil.copytree(measured, tmp_path / "run")
    return tmp_path / "run"


def manifests(run: Path) -> dict[str, Manifest]:
    return {name: read_manifest(str(run / "evaluate" / name)) for name in MEASURES}


def test_a_folder_a_measure(measured):
    for name in MEASURES:
        folder = measured / "evaluate" / name
        assert {path.name for path in folder.iterdir()} == {".sc2jax", "config.json", "manifest.json", "scores.json"}
        assert json.loads((folder / "scores.json").read_text())["measured"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, ()),
        ({"evaluation.infill_tokens": 5}, ("infilling",)),
        ({"evaluation.unigram_bytes": 900}, ("bits_per_byte",)),
        ({"evaluation.max_files": 3}, MEASURES),
        ({"seed": 2}, MEASURES),
        ({"model.compute_dtype": "bfloat16"}, MEASURES),
        ({"evaluation.score_batch": 4, "evaluation.infill_batch": 1, "model.attention": "reference"}, ()),
    ],
    ids=str,
)
def test_what_is_done_again(call, run, change, again):
    before = manifests(run)
    status, printed, errors = call("evaluate", run, **change)
    assert status == 0, errors
    assert printed.count("complete already") == len(MEASURES) - len(again)
    assert {name for name in MEASURES if manifests(run)[name].key != before[name].key} == set(again)
