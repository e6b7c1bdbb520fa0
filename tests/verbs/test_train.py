"""Training as a stage: complete only with its last checkpoint, and another run only for settings that decide."""

import json
import os
import shutil
from pathlib import Path

import pytest

STEPS = 5


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]


def checkpoints(run: Path) -> set[str]:
    return {path.name for path in (run / "train" / "checkpoints").iterdir()}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_the_last_step_has_a_line_and_a_checkpoint_though_it_is_the_turn_of_neither(trained):
    assert [row["step"] for row in log(trained)] == [2, 4, STEPS]
    assert checkpoints(trained) == {"4", str(STEPS)}


def test_a_run_whose_last_checkpoint_is_gone_is_not_complete(call, run):
    before = log(run)
    shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    status, printed, _ = call("train", run)
    assert status == 0
    assert "complete already" not in printed
    assert str(STEPS) in checkpoints(run)
    assert log(run) == before


@pytest.mark.parametrize(
    "how",
    [
        {"training.checkpoint_every": 2},
        {"training.checkpoints_kept": 1},
        {"training.loss_chunk": 0},
        {"model.attention": "reference"},
        {"model.rematerialization": "full"},
        {"feed.prefetch": 1},
        {"mesh.data": 2},
    ],
    ids=str,
)
def test_how_it_is_computed_makes_no_other_run(call, run, how):
    status, printed, _ = call("train", run, **how)
    assert status == 0
    assert "complete already" in printed


@pytest.mark.parametrize(
    "change",
    [{"training.beta2": 0.9}, {"model.window": 8}, {"feed.cross_document_attention": True}, {"fim.rate": 0.1}],
    ids=str,
)
def test_another_run_in_the_same_folder_is_refused_by_the_key_that_differs(call, run, change):
    status, _, errors = call("train", run, **change)
    assert status == 2
    assert f"holds a run with another {next(iter(change))}; give another --workdir" in errors


@pytest.mark.parametrize(
    "change", [{"training.accumulation": 2}, {"mesh.sequence": 2}, {"model.attention": "reference"}], ids=str
)
def test_with_dropout_what_is_dropped_belongs_to_the_run_and_is_named(call, run, change):
    shutil.rmtree(run / "train")
    assert call("train", run, **{"model.attention_dropout": 0.1, "mesh.fsdp": 1, "mesh.data": 0})[0] == 0
    as_many = {"model.attention_dropout": 0.1, "mesh.fsdp": 1, "mesh.data": 8, "model.attention": "blocked"}
    status, printed, _ = call("train", run, **as_many)
    assert (status, "complete already" in printed) == (0, True)
    status, _, errors = call("train", run, **{"model.attention_dropout": 0.1, "mesh.fsdp": 1, "mesh.data": 0} | change)
    assert status == 2
    named = "mesh.data, mesh.sequence" if "mesh.sequence" in change else next(iter(change))
    assert f"holds a run with another {named}; give another --workdir" in errors


def test_a_run_goes_on_with_another_way_to_compute(call, run):
    (run / "train" / "manifest.json").unlink()
    shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    before = log(run)
    status, _, errors = call("train", run, **{"training.loss_chunk": 0, "model.attention": "reference"})
    assert status == 0, errors
    assert [row["step"] for row in log(run)] == [2, 4, STEPS]
    assert log(run)[-1]["loss"] == pytest.approx(before[-1]["loss"], rel=1e-5)
    manifest = json.loads((run / "train" / "manifest.json").read_text())
    assert manifest["operation"]["model"]["attention"] == "reference"
    assert manifest["operation"]["training"]["loss_chunk"] == 0
    assert "attention" not in manifest["config"]["model"]
    assert manifest["config"]["model"]["compute_dtype"] == "float32"


def test_a_refused_run_leaves_the_config_of_the_one_that_is_there(call, run):
    (run / "train" / "manifest.json").unlink()
    config = run / "train" / "config.json"
    before = config.read_bytes()
    assert call("train", run, **{"training.beta2": 0.9})[0] == 2
    assert config.read_bytes() == before
    config.unlink()
    status, _, errors = call("train", run, **{"training.beta2": 0.9})
    assert status == 2
    assert "holds a run with other inputs" in errors
    assert call("train", run)[0] == 0


def test_a_run_on_tokens_is_done_again_when_they_are_and_runs_elsewhere_by_its_config(call, tmp_path):
    from sc2jax.cli import main

    few = {"training.steps": 2, "training.checkpoint_every": 2}
    assert call("train", tmp_path, **few)[0] == 0
    with pytest.raises(SystemExit) as exit_info:
        main(["train", f"--config={tmp_path}/train/config.json", f"--workdir={tmp_path}/elsewhere"])
    assert not exit_info.value.code
    log_path = Path("train", "metrics.jsonl")
    assert (tmp_path / "elsewhere" / log_path).read_bytes() == (tmp_path / log_path).read_bytes()
    twice = {"tokenize.renderings": 2}
    assert call("tokenize", tmp_path, **twice)[0] == 0
    status, _, errors = call("train", tmp_path, **few, **twice)
    assert status == 2
    assert "holds a run with another tokenize;" in errors


def test_interrupted_twice_it_goes_on_to_the_same_log_and_parameters(call, trained, tmp_path, monkeypatch):
    """Before the first checkpoint, that of step 4, from which it begins anew, and after it."""
    from sc2jax.feed.batches import Batches

    read, left = Batches.__next__, 0

    def stopping(feed):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return read(feed)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__next__", stopping)
        for left in (3, 4):  # noqa: B007 (read by `stopping`)
            assert call("train", tmp_path)[0] == 130
    assert checkpoints(tmp_path) == {"4"}
    assert call("train", tmp_path)[0] == 0
    for name in ("metrics.jsonl", "parameters.json"):
        assert (tmp_path / "train" / name).read_bytes() == (trained / "train" / name).read_bytes()


def test_foreign_files_among_checkpoints_stay_and_those_in_the_way_are_named_before_any_step(call, run):
    (run / "train" / "manifest.json").unlink()
    shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    foreign = {
        run / "train" / "checkpoints" / name: name
        for name in ("4/notes.txt", "9/x", "3/x", f"{STEPS}/params/x", "mine")
    }
    for path, content in foreign.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    timing = run / "train" / "timing.jsonl"
    before = timing.read_bytes()
    status, _, errors = call("train", run)
    assert status == 2
    assert f"checkpoints/{STEPS} is not ours and lies where the checkpoint of step {STEPS} has to go" in errors
    assert timing.read_bytes() == before, "a step was done"
    shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    del foreign[run / "train" / "checkpoints" / f"{STEPS}/params/x"]
    status, _, errors = call("train", run, **{"training.checkpoints_kept": 1})
    assert status == 0, errors
    assert {path: path.read_text() for path in foreign} == foreign
    assert checkpoints(run) == {"3", "4", "9", "mine", str(STEPS)}
    assert [path.name for path in (run / "train" / "checkpoints" / "4").iterdir()] == ["notes.txt"]


@pytest.fixture
def copied(run) -> Path:
    """An interrupted run in a copy that has no hidden files."""
    (run / "train" / "manifest.json").unlink()
    shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    shutil.rmtree(run / "train" / ".sc2jax")
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_interrupted_run_goes_on_in_a_copy_without_hidden_files(call, trained, copied):
    (copied / "train" / "notes.txt").write_text("mine")
    status, _, errors = call("train", copied)
    assert status == 0, errors
    for name in ("metrics.jsonl", "parameters.json"):
        assert (copied / "train" / name).read_bytes() == (trained / "train" / name).read_bytes()
    assert json.loads((copied / "train/.sc2jax/mark.json").read_text())["stage"] == "train"
    assert (copied / "train" / "notes.txt").read_text() == "mine"
    assert "complete already" in call("train", copied)[1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("another training", "holds a run with another training.beta2;"),
        (
            "no checkpoint",
            "no mark of a stage; name an empty or a new folder, or if it is a copy of an unfinished stage",
        ),
        ("a flipped key", "is not what was saved with the checkpoint"),
        ("a number alone", "no mark of a stage"),
        ("a foreign file in the hidden folder", "no mark of a stage"),
        ("another log", "does not hold the lines that were written"),
    ],
)
def test_nothing_else_without_a_mark_is_taken_over(call, copied, spoil, said):
    checkpoint = copied / "train" / "checkpoints" / "4"
    if spoil in ("no checkpoint", "a number alone"):
        shutil.rmtree(checkpoint)
    if spoil == "a number alone":
        checkpoint.mkdir()
        (checkpoint / "x").write_text("mine")
    if spoil == "a flipped key":
        said_of_itself = checkpoint / "progress" / "metadata"
        said_of_itself.write_text(said_of_itself.read_text().replace('"step": 4', '"step": 5'))
    if spoil == "a foreign file in the hidden folder":
        (copied / "train" / ".sc2jax").mkdir()
        (copied / "train" / ".sc2jax" / "notes.txt").write_text("mine")
    if spoil == "another log":
        (copied / "train" / "metrics.jsonl").write_text("")
    before = files(copied)
    status, _, errors = call("train", copied, **({"training.beta2": 0.9} if spoil == "another training" else {}))
    assert status == 2
    assert said in errors
    after = files(copied)
    assert {name: after[name] for name in before if name != "train/config.json"} == {
        name: content for name, content in before.items() if name != "train/config.json"
    }


@pytest.mark.parametrize("name", ["run[1]", "logs:", "back\\slash"])
def test_a_path_that_orbax_misreads_is_refused_before_any_work(call, trained, tmp_path, name):
    before = sorted(tmp_path.iterdir())
    status, printed, errors = call("train", tmp_path / name / "run")
    assert (status, printed) == (2, "")
    assert "train/checkpoints cannot hold checkpoints: " in errors
    assert sorted(tmp_path.iterdir()) == before
    shutil.copytree(trained, tmp_path / name / "run")
    for verb in ("complete", "check"):
        status, _, errors = call(verb, tmp_path / name / "run")
        assert status == (0 if name == "run[1]" else 2), errors


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "config.json", "parameters.json"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(call, run, name, finished):
    if not finished:
        (run / "train" / "manifest.json").unlink()
        shutil.rmtree(run / "train" / "checkpoints" / str(STEPS))
    (run / "train" / name).unlink()
    os.mkfifo(run / "train" / name)
    status, _, errors = call("train", run)
    assert status == 2
    assert f"{name} is n" in errors
    assert (run / "train" / name).is_fifo()


def test_a_run_of_another_version_says_so(call, run, monkeypatch):
    monkeypatch.setattr("sc2jax.verbs.train.VERSION", 0)
    status, _, errors = call("train", run)
    assert status == 2
    assert "holds a run with another version of sc2jax;" in errors


def test_an_exchanged_checkpoint_is_not_complete_already(call, run):
    steps = run / "train" / "checkpoints"
    shutil.rmtree(steps / str(STEPS) / "progress")
    shutil.copytree(steps / "4" / "progress", steps / str(STEPS) / "progress")
    status, printed, errors = call("train", run)
    assert status == 2
    assert "complete already" not in printed
    assert f"checkpoints/{STEPS}/progress/metadata is not what was saved with the checkpoint" in errors
