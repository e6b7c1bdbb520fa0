"""How far a run goes may change when it is started again; what its steps are may not."""

import json
import shutil

import pytest


def steps(run):
    return json.loads((run / "train/manifest.json").read_text())["statistics"]["steps"]


def log(run):
    return (run / "train/metrics.jsonl").read_bytes()


def test_a_complete_run_goes_on_to_a_later_step_as_if_it_had_not_ended(tmp_path, call):
    horizon = {"training.horizon_tokens": 8 * 32 * 10, "training.log_every": 3, "training.checkpoints_kept": 1}
    assert call("train", tmp_path / "whole", **horizon, **{"training.steps": 9})[0] == 0
    run = tmp_path / "run"
    for count in (3, 6, 9):
        assert call("train", run, **horizon, **{"training.steps": count})[0] == 0
        assert steps(run) == count
        assert call("complete", run)[0] == 0
    assert log(run) == log(tmp_path / "whole")
    parameters = (run / "train/parameters.json").read_bytes()
    assert parameters == (tmp_path / "whole/train/parameters.json").read_bytes()
    status, printed, _ = call("train", run, **horizon, **{"training.steps": 9})
    assert status == 0 and "complete already" in printed
    status, _, errors = call("train", run, **horizon, **{"training.steps": 8})
    assert status == 2 and "a run of 9 steps" in errors
    status, _, errors = call("train", run, **horizon, **{"training.steps": 11})
    assert status == 2 and "beyond the horizon" in errors and "10 steps" in errors


def test_a_longer_run_that_was_interrupted_does_not_end_where_it_ended_before(tmp_path, call):
    horizon = {"training.horizon_tokens": 8 * 32 * 10, "training.checkpoint_every": 2}
    assert call("train", tmp_path, **horizon, **{"training.steps": 3})[0] == 0
    manifest = (tmp_path / "train/manifest.json").read_bytes()
    assert call("train", tmp_path, **horizon, **{"training.steps": 6})[0] == 0
    (tmp_path / "train/manifest.json").write_bytes(manifest)  # as an interruption after step 6 leaves it
    status, _, errors = call("train", tmp_path, **horizon, **{"training.steps": 3})
    assert status == 2 and "a run of 6 steps" in errors
    assert (tmp_path / "train/manifest.json").read_bytes() == manifest
    assert call("train", tmp_path, **horizon, **{"training.steps": 7})[0] == 0
    assert steps(tmp_path) == 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training.horizon_tokens": 8 * 32 * 50}, "training.horizon_tokens"),
        (
            {"training.batch_size": 4, "training.horizon_tokens": 8 * 32 * 5, "training.steps": 10},
            "training.batch_size",
        ),
        ({"training.moments_dtype": "bfloat16"}, "training.moments_dtype"),
        ({"model.rope_theta": 5e4}, "model.rope_theta"),
        ({"feed.cross_document_attention": True}, "feed.cross_document_attention"),
    ],
)
def test_what_changes_the_mathematics_is_refused_by_its_name(tmp_path, call, change, named):
    base = {"training.horizon_tokens": 8 * 32 * 5}
    assert call("train", tmp_path, **base)[0] == 0
    status, _, errors = call("train", tmp_path, **base | change)
    assert status == 2
    assert f"another {named};" in errors


def test_a_complete_run_that_goes_on_and_is_interrupted_is_to_be_trained_to_its_end(tmp_path, call):
    """As if it had been killed after the checkpoint of step 8: its log has lines that the manifest knows nothing of."""
    horizon = {"training.horizon_tokens": 8 * 32 * 10}
    assert call("train", tmp_path, **horizon, **{"training.steps": 5})[0] == 0
    for verb in ("evaluate", "complete"):
        assert call(verb, tmp_path)[0] == 0
    committed = {name: (tmp_path / "train" / name).read_bytes() for name in ("manifest.json", "parameters.json")}
    assert call("train", tmp_path, **horizon, **{"training.steps": 8})[0] == 0
    for name, content in committed.items():
        (tmp_path / "train" / name).write_bytes(content)
    for verb in ("report", "check"):
        status, printed, errors = call(verb, tmp_path)
        assert status == 2
        assert "was complete at step 5, and has gone on to step 8" in printed + errors
        assert "delete" not in printed + errors
    assert call("train", tmp_path, **horizon, **{"training.steps": 8})[0] == 0
    assert "gone on" not in call("check", tmp_path)[1]


def test_operation_may_change_at_any_restart(tmp_path, call):
    horizon = {"training.horizon_tokens": 8 * 32 * 10, "training.steps": 2}
    assert call("train", tmp_path, **horizon)[0] == 0
    changes = {
        "mesh.fsdp": 2, "mesh.tensor": 2, "mesh.data": 2, "model.attention": "blocked", "training.loss_chunk": 16,
        "model.rematerialization": "full", "training.accumulation": 2, "training.log_every": 1, "feed.prefetch": 1,
        "training.checkpoint_every": 1, "training.evaluate_every": 2, "training.evaluation_tokens": 320,
        "training.keep_every": 2, "training.keep_best": 1, "feed.damaged": "skip", "training.watchdog_minutes": 1.0,
        "training.profile_from": 4, "training.profile_steps": 1,
    }  # fmt: skip
    status, _, errors = call("train", tmp_path, **horizon | changes | {"training.steps": 4})
    assert status == 0, errors
    assert steps(tmp_path) == 4
    last = json.loads(log(tmp_path).splitlines()[-1])
    assert last["evaluation"]["by_language"].keys() == {"Python"}
    assert last["bits_per_byte"] > 0
    assert list((tmp_path / "train/profile").rglob("*.xplane.pb"))
    timing = json.loads((tmp_path / "train/timing.jsonl").read_text().splitlines()[-1])
    assert sum(timing["goodput"].values()) == pytest.approx(1, abs=1e-3)
    assert len(list((tmp_path / "train/tensorboard").iterdir())) == 1


def test_another_corpus_is_named_though_the_run_is_not_complete(tmp_path, call, small_source, start):
    """What is not complete has no manifest to say it."""
    run = tmp_path / "run"
    status, _, errors = call("train", run, **{"training.checkpoint_every": 2, "training.steps": 2})
    assert status == 0, errors
    (run / "train/manifest.json").unlink()
    shutil.copytree(small_source, tmp_path / "source")
    (tmp_path / "source/package_0/more.py").write_text("class More:\n    pass\n" * 9)
    assert start("curate", tmp_path / "other", **{"paths.source": tmp_path / "source"}) == 0
    other = {"paths.corpus": tmp_path / "other/corpus", "paths.tokenize": ""}
    shutil.rmtree(run / "tokenize")
    status, _, errors = call("train", run, **{"training.checkpoint_every": 2, "training.steps": 2}, **other)
    assert status == 2
    assert "another corpus, tokenize;" in errors
