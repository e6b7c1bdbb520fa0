"""A run that begins with another's parameters: all of them trained, or adapters alone, from start to export."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.records.manifest import read_manifest
from sc2jax.runs.inputs import stage_digest

STILL = {"training.peak_learning_rate": 1e-12, "training.warmup_tokens": 0}
"""A rate at which nothing moves."""
RANK = {"adapters.rank": 2, "adapters.alpha": 6.0}
QUICK = {"training.steps": 2, "training.peak_learning_rate": 1e-2, "training.warmup_tokens": 0}


def arrays(run: Path, step: int, part: str = "params") -> dict[str, np.ndarray]:
    """The arrays of a checkpoint as they are stored."""
    checkpoints = Checkpoints(str(run / "train/checkpoints"))
    try:
        names = json.loads((run / f"train/checkpoints/{step}/progress/metadata").read_text())["fingerprints"][part]
        return {
            name: np.asarray(checkpoints.open_array(step, tuple(name.split("/")), part).read().result())
            for name in names
        }
    finally:
        checkpoints.close()


def exported(call: Any, run: Path, target: Path, **config: object) -> dict[str, np.ndarray]:
    status, _, errors = call("convert", run, **{"convert.to_huggingface": target, **config})
    assert status == 0, errors
    (file,) = target.glob("*.safetensors")
    return load_file(file)


@pytest.fixture
def base(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture(scope="module")
def adapted(trained, inputs, start, tmp_path_factory) -> Path:
    """A run of adapters on the trained model; not to be changed."""
    folder = tmp_path_factory.mktemp("adapted")
    assert start("train", folder, **inputs, **RANK, **QUICK, **{"paths.start": trained / "train"}) == 0
    return folder


@pytest.fixture
def own(adapted: Path, tmp_path: Path) -> Path:
    shutil.copytree(adapted, tmp_path / "own")
    return tmp_path / "own"


def test_all_parameters_begin_with_those_of_the_start(call, trained, tmp_path):
    status, _, errors = call("train", tmp_path / "run", **{"paths.start": trained / "train", **STILL})
    assert status == 0, errors
    before, after = arrays(trained, 5), arrays(tmp_path / "run", 5)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-9, err_msg=name)
    # The optimizer is a new one: Adam counted 5 steps, not 10.
    assert _count(tmp_path / "run", 5) == 5


def test_the_optimizer_is_taken_too_where_the_config_says_so(call, trained, tmp_path):
    wanted = {"paths.start": trained / "train", "training.start_with_optimizer": True, **STILL}
    assert call("train", tmp_path / "run", **wanted)[0] == 0
    assert _count(tmp_path / "run", 5) == 10


def _count(run: Path, step: int) -> int:
    (count,) = {int(array) for name, array in arrays(run, step, "optimizer").items() if name.endswith("/count")}
    return count


def test_the_newest_checkpoint_of_an_unfinished_run_serves(call, base, tmp_path):
    (base / "train/manifest.json").unlink()
    assert call("train", tmp_path / "run", **{"paths.start": base / "train", **STILL})[0] == 0
    for name, array in arrays(base, 5).items():
        np.testing.assert_allclose(arrays(tmp_path / "run", 5)[name], array, atol=1e-9, err_msg=name)


def test_once_a_run_has_a_checkpoint_its_start_may_be_gone(call, base, tmp_path):
    wanted = {"paths.start": base / "train", "training.horizon_tokens": 1280, "training.checkpoint_every": 2}
    assert call("train", tmp_path / "run", **wanted, **{"training.steps": 2})[0] == 0
    whole = tmp_path / "whole"
    assert call("train", whole, **wanted, **{"training.steps": 4})[0] == 0
    shutil.rmtree(base)
    (tmp_path / "run/train/manifest.json").unlink()  # as if it had been interrupted
    status, _, errors = call("train", tmp_path / "run", **wanted, **{"training.steps": 4})
    assert status == 0, errors
    for name, array in arrays(whole, 4).items():
        np.testing.assert_array_equal(arrays(tmp_path / "run", 4)[name], array, err_msg=name)
    # A new run needs it.
    status, _, errors = call("train", tmp_path / "new", **wanted)
    assert status == 2
    assert "paths.start is" in errors
    assert "which holds no model; name a folder that `train` or `convert` wrote" in errors


def test_another_start_makes_another_run(call, trained, own, tmp_path):
    assert call("train", tmp_path / "run", **{"paths.start": trained / "train", **STILL})[0] == 0
    other = {"paths.start": tmp_path / "run/train", **STILL}
    assert call("train", tmp_path / "second", **other)[0] == 0
    status, _, errors = call("train", tmp_path / "second", **{"paths.start": trained / "train", **STILL})
    assert (status, "holds a run with another paths.start; give another" in errors) == (2, True), errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.num_layers": 2, "model.embed_dim": 32}, "model.embed_dim 16, not 32; model.num_layers 1, not 2"),
        ({"training.start_with_optimizer": True, **RANK}, "the optimizer in"),
        (
            {"training.start_with_optimizer": True, "training.optimizer": "adamw"},
            "is muon, and training.optimizer is adamw; set that to muon, or leave training.start_with_optimizer out",
        ),
    ],
    ids=["shape", "optimizer of adapters", "optimizer"],
)
def test_what_does_not_fit_the_start_is_refused(call, trained, tmp_path, change, message):
    status, _, errors = call("train", tmp_path / "run", **{"paths.start": trained / "train"}, **change)
    assert status == 2
    assert message in errors
    assert not (tmp_path / "run/train/checkpoints").exists()


def test_a_longer_context_and_another_rotary_base_fit(call, trained, tmp_path):
    change = {"model.context_length": 48, "model.rope_theta": 5e5, "model.window": 8, **STILL}
    assert call("train", tmp_path / "run", **{"paths.start": trained / "train"}, **change)[0] == 0


def test_another_tokenizer_is_refused(call, start, trained, small_source, tmp_path):
    assert start("curate", tmp_path / "other", **{"paths.source": small_source}) == 0
    assert start("tokenizer", tmp_path / "other", **{"seed": 3, "tokenizer.max_training_bytes": 3000}) == 0
    wanted = {"paths.start": trained / "train", "paths.tokenizer": tmp_path / "other/tokenizer"}
    status, _, errors = call("train", tmp_path / "run", **wanted)
    assert status == 2
    assert "was trained with another tokenizer than the run's" in errors


def test_adapters_need_a_model(call, tmp_path):
    status, _, errors = call("train", tmp_path / "run", **RANK)
    assert status == 2
    assert "adapters are added to a model that is there: name it with --config.paths.start=DIR" in errors


def test_the_checkpoint_holds_adapters_alone(adapted, trained):
    names = arrays(adapted, 2).keys()
    assert {name.rpartition("/")[2] for name in names} == {"lora_a", "lora_b"}
    assert len(names) == 2 * 6
    manifest = read_manifest(str(adapted / "train"))
    # Of one layer: 16 x 16 in q and o, 16 x 2 x 8 x 1 in k and v, 16 x 64 in up and down.
    sides = 2 * (16 + 16) + 2 * (16 + int(arrays(trained, 5)["layers/attention/k/bias"].size)) + 2 * (16 + 64)
    assert manifest.statistics["parameters"] == 2 * sides
    assert any(np.any(array) for name, array in arrays(adapted, 2).items() if name.endswith("lora_b"))


def test_the_exported_model_is_merged(call, adapted, trained, tmp_path):
    merged = exported(call, adapted, tmp_path / "merged")
    before = exported(call, trained, tmp_path / "before")
    adapters = arrays(adapted, 2)
    assert merged.keys() == before.keys()
    changed = {name for name in merged if not np.array_equal(merged[name], before[name])}
    assert changed == {name for name in merged if name.endswith(("_proj.weight", "c_fc.weight"))}
    up = adapters["layers/mlp/up/lora_a"][0] @ adapters["layers/mlp/up/lora_b"][0] * 3
    name = "model.layers.0.mlp.c_fc.weight"
    np.testing.assert_allclose(merged[name], before[name] + up.T, rtol=1e-5, atol=1e-7)


def test_it_completes_and_is_measured_with_the_adapters(call, own, trained):
    status, _, errors = call("complete", own)
    assert status == 0, errors
    status, printed, errors = call("evaluate", own)
    assert status == 0, errors
    assert "held-out bits per byte" in printed
    status, printed, errors = call("check", own)
    assert status == 0, printed + errors


def test_adapters_alone_come_back_and_are_trained_further(call, adapted, trained, tmp_path):
    alone = exported(call, adapted, tmp_path / "alone", **{"convert.adapters_only": True})
    assert len(alone) == 2 * 6
    named = {"convert.from_huggingface": tmp_path / "alone", "paths.tokenizer": ""}
    status, _, errors = call("convert", tmp_path / "again", **named, **{"paths.start": trained / "train"})
    assert status == 0, errors
    for name, array in arrays(adapted, 2).items():
        np.testing.assert_array_equal(arrays(tmp_path / "again", 0)[name], array)
    merged, again = (exported(call, run, tmp_path / f"of {run.name}") for run in (adapted, tmp_path / "again"))
    for name, array in merged.items():
        np.testing.assert_array_equal(again[name], array)
    further = {"paths.start": tmp_path / "again/train", **RANK}
    assert call("train", tmp_path / "further", **further, **STILL)[0] == 0
    for name, array in arrays(adapted, 2).items():
        np.testing.assert_allclose(arrays(tmp_path / "further", 5)[name], array, atol=1e-9)
    # A run of all parameters begins with both together.
    assert call("train", tmp_path / "all", **{"paths.start": tmp_path / "again/train"}, **STILL)[0] == 0
    whole = exported(call, tmp_path / "all", tmp_path / "of all")
    for name, array in merged.items():
        np.testing.assert_allclose(whole[name], array, atol=1e-7)


def test_adapters_are_refused_without_what_they_belong_to(call, base, tmp_path):
    run, wanted = tmp_path / "run", {**RANK, **QUICK}
    assert call("train", run, **wanted, **{"paths.start": base / "train"})[0] == 0
    base.rename(tmp_path / "moved")
    status, _, errors = call("complete", run)
    assert status == 2
    assert f"belong to a model that lay in {base}/train (step 5) and is not there now" in errors
    assert call("complete", run, **{"paths.start": tmp_path / "moved/train"})[0] == 0
    # Another model in its place is not taken for it.
    other = {"paths.start": tmp_path / "moved/train", **STILL, "training.peak_learning_rate": 1e-2}
    assert call("train", base, **other)[0] == 0
    status, _, errors = call("evaluate", run)
    assert (status, "is not there now" in errors) == (2, True), errors


def test_the_shape_and_the_tokenizer_of_the_start(call, trained, inputs, tmp_path):
    wanted: dict[str, object] = {
        "training.model_of_start": True,
        "paths.start": trained / "train",
        "paths.tokenizer": inputs["paths.tokenizer"],
        "model.context_length": 1000,
        "model.embed_dim": 64,
        "model.num_layers": 3,
        **STILL,
    }
    status, _, errors = call("train", tmp_path / "run", **wanted)
    assert status == 0, errors
    theirs, ours = (read_manifest(str(run / "train")).config["model"] for run in (trained, tmp_path / "run"))
    assert ours == theirs
    status, _, errors = call("train", tmp_path / "none", **wanted | {"paths.start": ""})
    assert status == 2
    assert "training.model_of_start takes the model's shape from paths.start, which names none" in errors


def test_the_tokenizer_of_the_start_is_copied(start, base, inputs, tmp_path):
    shutil.copytree(inputs["paths.tokenizer"], base / "tokenizer")
    wanted = {"training.model_of_start": True, "paths.start": base / "train"}
    assert start("tokenizer", tmp_path / "run", **wanted) == 0
    (mine,) = (tmp_path / "run/tokenizer").glob("tokenizer.model")
    assert mine.read_bytes() == (base / "tokenizer/tokenizer.model").read_bytes()
    assert start("tokenizer", tmp_path / "run", **wanted) == 0


def test_the_licence_goes_with_what_is_trained_further(call, base, tmp_path):
    """As with released weights: exported, read back with files beside them, trained, exported."""
    exported(call, base, tmp_path / "released")
    for name in ("LICENSE", "README.md"):
        (tmp_path / "released" / name).write_text(f"of {name}")
    released = {"convert.from_huggingface": tmp_path / "released", "paths.tokenizer": ""}
    assert call("convert", tmp_path / "imported", **released)[0] == 0
    own = {"paths.start": tmp_path / "imported/train", "paths.tokenizer": tmp_path / "imported/tokenizer"}
    for name, changes in {"adapters": RANK, "all": {}}.items():
        assert call("train", tmp_path / name, **own, **changes, **QUICK, **{"model.context_length": 24})[0] == 0
        exported(call, tmp_path / name, tmp_path / f"of {name}", **own)
        written = {path.name for path in (tmp_path / f"of {name}").iterdir()}
        assert written == {path.name for path in (tmp_path / "released").iterdir()} - {"README.md"}
        assert json.loads((tmp_path / f"of {name}/config.json").read_text())["max_position_embeddings"] == 24
        for same in ("LICENSE", "tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / f"of {name}" / same).read_bytes() == (tmp_path / "released" / same).read_bytes()


def test_a_start_that_went_on_and_was_moved_is_still_the_same(call, base, trained, tmp_path):
    (base / "train/manifest.json").unlink()
    shutil.rmtree(base / "train/checkpoints/5")
    wanted = {"training.horizon_tokens": 1280, "training.checkpoint_every": 2}
    assert call("train", tmp_path / "run", **wanted, **{"training.steps": 2, "paths.start": base / "train"})[0] == 0
    (tmp_path / "run/train/manifest.json").unlink()  # as if it had been interrupted
    shutil.copytree(trained / "train/checkpoints/5", base / "train/checkpoints/5")
    base.rename(tmp_path / "moved")
    now = {"training.steps": 4, "paths.start": tmp_path / "moved/train"}
    status, _, errors = call("train", tmp_path / "run", **wanted, **now)
    assert status == 0, errors
    assert json.loads((tmp_path / "run/train/start.json").read_text())["taken"]["step"] == 4


def test_adapters_go_on_as_if_they_had_not_been_interrupted(call, trained, tmp_path):
    wanted = {"training.horizon_tokens": 1280, "training.checkpoint_every": 2, "paths.start": trained / "train", **RANK}
    for run, parts in (("whole", (4,)), ("parts", (2, 4))):
        for steps in parts:
            (tmp_path / run / "train/manifest.json").unlink(missing_ok=True)
            assert call("train", tmp_path / run, **wanted, **{"training.steps": steps})[0] == 0
    whole, parts = (arrays(tmp_path / run, 4) for run in ("whole", "parts"))
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)


def test_a_run_of_adapters_does_not_go_on_without_them(call, trained, tmp_path):
    start = {"paths.start": trained / "train"}
    assert call("train", tmp_path / "run", **start, **RANK)[0] == 0
    status, _, errors = call("train", tmp_path / "run", **start, **RANK | {"adapters.rank": 0})
    assert (status, "holds a run with another adapters.rank; give another" in errors) == (2, True), errors


def test_adapters_of_another_kind_do_not_go_on(call, adapted, tmp_path):
    for change in ({"adapters.rank": 3}, {"adapters.alpha": 5.0}, {"adapters.targets": "q,v"}):
        wanted = {**RANK, **change, "paths.start": adapted / "train"}
        status, _, errors = call("train", tmp_path / "run", **wanted)
        assert (status, "are others than the run's" in errors) == (2, True), errors


def test_what_adapters_belong_to_is_a_part_of_the_model(adapted):
    manifest = read_manifest(str(adapted / "train"))
    other = dataclasses.replace(manifest, inputs={**manifest.inputs, "start": "another"})
    assert stage_digest(other) != stage_digest(manifest)
