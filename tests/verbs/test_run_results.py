"""What a run of an ablation came to, against what its stages left, counted by hand."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sc2jax.ablation.results import RunResult
from sc2jax.ablation.variants import Variant
from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.records.manifest import commit, read_manifest, write_output
from sc2jax.runs.ablation import AblationRun, Job
from sc2jax.runs.ablation_results import run_result


def ablation_run(folder: Path, inputs: dict[str, str]) -> AblationRun:
    settings = to_settings(load_config(f"{folder}/train/config.json"))
    paths = dataclasses.replace(settings.paths, corpus=inputs["paths.corpus"], tokenizer=inputs["paths.tokenizer"])
    settings = dataclasses.replace(settings, paths=paths)
    scored = {"paths.corpus": inputs["paths.corpus"]}
    train, evaluate = (Job(verb, verb, scored, str(folder), (), ()) for verb in ("train", "evaluate"))
    return AblationRun(Variant("mqa", (("model.num_kv_heads", "1"), ("seed_of", "x"))), 7, settings, train, evaluate)


@pytest.fixture(scope="module")
def found(measured, inputs, tmp_path_factory) -> RunResult:
    workdir = tmp_path_factory.mktemp("ablation")
    (workdir / "logs").mkdir()
    note = {"arguments": [], "version": "", "digests": {}, "peak_bytes": 123}
    (workdir / "logs" / "train.json").write_text(json.dumps(note))
    return run_result(ablation_run(measured, inputs), str(workdir))


def lines(measured: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (measured / "train" / name).read_text().splitlines()]


def test_whose_it_is(found):
    assert (found.label, found.seed, found.overrides) == ("mqa", 7, "model.num_kv_heads=1 seed_of=x")


def test_the_curve_is_the_log(found, measured):
    rows = lines(measured, "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert found.losses == [row["loss"] for row in rows]
    assert found.rates == [row["bits_per_byte"] for row in rows]
    assert found.tokens == [row["tokens"] for row in rows]
    assert found.figures["tokens"] == rows[-1]["tokens"]
    assert found.figures["loss"] == rows[-1]["loss"]  # the last twentieth of three lines


def test_floating_point_operations_are_those_of_every_position(found):
    """Width 16, one layer, two heads of 8 with two for keys and values, MLP 64, 340 tokens; window 16 of rows of 32."""
    layer = 4 * (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16) + 2 * 2 * 16
    weights = 340 * 16 + layer + 2 * 16
    keys = 16 - 16 * 15 / (2 * 32)
    per_token = 6 * weights + 12 * 16 * keys
    assert found.figures["parameters"] == weights
    assert found.figures["flops_per_token"] == per_token
    assert found.figures["training_flops"] == per_token * 5 * 8 * 32
    assert found.flops == [per_token * step * 8 * 32 for step in (2, 4, 5)]


def test_the_cache_is_that_of_the_window(found):
    """Keys and values in float32, and the position of each slot."""
    assert found.figures["cache_bytes"] == 2 * 1 * 2 * 8 * 16 * 4 + 16 * 4


def test_scores_are_those_of_the_measures(found, measured):
    scores = {
        name: json.loads((measured / "evaluate" / name / "scores.json").read_text())
        for name in ("bits_per_byte", "infilling")
    }
    assert found.figures["bits_per_byte"] == scores["bits_per_byte"]["total"]["model"]
    assert found.figures["infill_exact"] == scores["infilling"]["model"]["exact_match"]
    assert found.figures["infill_similarity"] == scores["infilling"]["model"]["edit_similarity"]
    assert "decoding_alone" not in found.figures  # switched off


def test_speed_is_without_the_line_in_which_programs_are_compiled(found, measured):
    speeds = [line["tokens_per_second"] for line in lines(measured, "timing.jsonl")]
    assert found.figures["tokens_per_second"] == pytest.approx(sum(speeds[1:]) / 2)


def test_memory_is_that_of_the_process_where_no_device_tells_it(found):
    assert found.figures["peak_bytes"] == 123


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (3, r"3 were trained on, and so left out; curate its corpus with paths\.heldout"),
        ("unknown", "is not known, for its corpus is not where it was then"),
    ],
)
def test_a_run_that_was_trained_on_what_it_is_scored_on_has_no_result(measured, inputs, tmp_path, left_out, message):
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    at = folder / "evaluate" / "bits_per_byte"
    scores = json.loads((at / "scores.json").read_text()) | {"corpus": {"trained_on": False, "left_out": left_out}}
    output = write_output(str(at), "scores.json", json.dumps(scores).encode())
    manifest = read_manifest(str(at))
    others = [one for one in manifest.outputs if one.path != "scores.json"]
    commit(str(at), dataclasses.replace(manifest, outputs=(*others, output)))
    with pytest.raises(UserError, match=message):
        run_result(ablation_run(folder, inputs), str(tmp_path))
