"""Each measure is a stage of its own: changing one does not compute the other again."""

import json
import shutil
from pathlib import Path

import pytest

from sc2jax.records.manifest import Manifest, read_manifest

ON_TEXT = ("bits_per_byte", "infilling")
MEASURES = (*ON_TEXT, "decoding")


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
        assert json.loads((folder / "scores.json").read_text())["measured"] is (name in ON_TEXT)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, ()),
        ({"evaluation.infill_tokens": 5}, ("infilling",)),
        ({"evaluation.unigram_bytes": 900}, ("bits_per_byte",)),
        ({"evaluation.max_files": 3}, ON_TEXT),
        ({"evaluation.decoding_batch": 3}, ("decoding",)),
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


def test_what_generation_costs_is_left_out_until_it_is_asked_for(call, run):
    """With it and without it the page is written; on the page stands what is a result, and no time."""
    status, printed, errors = call("evaluate", run)
    assert status == 0, errors
    assert "decoding: not measured, switched off (evaluation.decoding_tokens is 0)" in printed
    assert not (run / "evaluate/decoding/timing.json").exists()
    for verb in ("complete", "report"):
        assert call(verb, run)[0] == 0
    assert "decoding:" not in (run / "report/index.html").read_text()

    asked = {"evaluation.decoding_tokens": 3, "evaluation.decoding_batch": 2}
    status, printed, errors = call("evaluate", run, **asked)
    assert status == 0, errors
    (said,) = (line for line in printed.splitlines() if "decoding:" in line)
    assert "a prompt of 29 tokens is read in " in said
    assert " tokens/s alone and " in said
    timing = json.loads((run / "evaluate/decoding/timing.json").read_text())
    assert timing["together"]["batch"] == 2
    manifest = manifests(run)["decoding"]
    assert {output.path: output.result for output in manifest.outputs} == {
        "config.json": False,
        "scores.json": True,
        "timing.json": False,
    }
    assert set(manifest.inputs) == {"tokenizer", "train"}
    status, again, _ = call("evaluate", run, **asked)
    assert status == 0
    assert again.count("complete already") == len(MEASURES)
    assert said in again
    assert call("report", run, **asked)[0] == 0
    page = (run / "report/index.html").read_text()
    assert f"{said.strip().partition('; ')[0]}</p>" in page
    assert "tokens/s" not in page
    assert call("check", run)[0] == 0
