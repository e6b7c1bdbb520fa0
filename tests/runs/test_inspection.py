"""What `check` finds in folders that are not as a run of ours leaves them."""

import json
from pathlib import Path

import pytest

from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.records.manifest import write_output
from sc2jax.records.stage import Stage
from sc2jax.records.stage_folder import claimed
from sc2jax.runs.inspection import Found, inspect
from sc2jax.verbs.check import run


def stage(folder: Path, name: str, **inputs: str):
    content = f"{name} of {folder}".encode()
    return Stage(name, 1, {}, inputs, lambda at: ([write_output(at, "file.model", content)], {})).run(str(folder))


def found(root: Path) -> dict[str, Found]:
    return {found.folder.removeprefix(f"{root}").lstrip("/"): found for found in inspect(str(root))}


def test_a_run_that_holds(tmp_path, capsys):
    corpus = stage(tmp_path / "corpus", "curate")
    stage(tmp_path / "tokenizer", "tokenizer", corpus=corpus.digest)
    run(Settings(), str(tmp_path))
    assert capsys.readouterr().out.endswith("all 2 stages hold\n")


def test_what_does_not_hold_is_named(tmp_path, capsys):
    corpus = stage(tmp_path / "corpus", "curate")
    stage(tmp_path / "tokenizer", "tokenizer", corpus="another")
    stage(tmp_path / "changed", "toy")
    (tmp_path / "changed/file.model").write_text("x")
    (tmp_path / "unfinished/.sc2jax").mkdir(parents=True)
    (tmp_path / "unfinished/.sc2jax/mark.json").write_text('{"stage": "toy", "id": "0123456789abcdef"}')
    (tmp_path / "app").mkdir()
    (tmp_path / "app/manifest.json").write_text('{"name": "my web app"}')
    (tmp_path / "corpus/notes.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    faults = {name: item.faults for name, item in found(tmp_path).items() if item.faults}
    assert corpus.outputs
    assert faults == {
        "tokenizer": ["it was made with another corpus than lies beside it"],
        "changed": ["file.model is not what its stage wrote"],
        "unfinished": ["it is unfinished: run its stage again"],
    }
    foreign = {name: item.foreign for name, item in found(tmp_path).items() if item.foreign}
    assert foreign == {"corpus": ["notes.txt"], "app": ["manifest.json"], "": ["notes.txt"]}
    with pytest.raises(UserError, match=r"3 of 4 stages below .* do not hold"):
        run(Settings(), str(tmp_path))
    assert "not ours: notes.txt" in capsys.readouterr().out


def test_a_stage_that_is_being_written_does_not_hold(tmp_path):
    stage(tmp_path / "corpus", "curate")
    with claimed(str(tmp_path / "corpus"), "curate"):
        (fault,) = found(tmp_path)["corpus"].faults
    assert fault.startswith("it is being written by process ")


def test_an_input_that_was_named_elsewhere_is_looked_for_there(tmp_path):
    """Unless all inputs lay in one run: of that it may be a copy."""
    corpus = stage(tmp_path / "run/corpus", "curate")
    stage(tmp_path / "run/tokenizer", "tokenizer")
    other = stage(tmp_path / "other/tokenizer", "tokenizer")
    paths = {"corpus": f"{tmp_path}/run/corpus", "tokenizer": f"{tmp_path}/other/tokenizer"}
    made = Stage(
        "complete",
        1,
        {},
        {"corpus": corpus.digest, "tokenizer": other.outputs[0].sha256},
        lambda _: ([], {}),
        notes={"config.json": json.dumps({"paths": paths}).encode()},
    )
    made.run(str(tmp_path / "run/complete"))
    assert found(tmp_path / "run")["complete"].faults == []
    stage(tmp_path / "third/tokenizer", "tokenizer")
    (tmp_path / "other").rename(tmp_path / "gone")
    assert found(tmp_path / "run")["complete"].faults == ["it was made with another tokenizer than lies beside it"]


def test_a_corpus_whose_other_held_out_files_have_changed(tmp_path):
    """It left out copies of what that corpus held out then; a corpus that is gone cannot be mistaken for it."""
    base = stage(tmp_path / "base", "curate")
    Stage(
        "curate",
        1,
        {},
        {"heldout": base.digest},
        lambda at: ([write_output(at, "part", b"x")], {}),
        notes={"config.json": json.dumps({"paths": {"heldout": f"{tmp_path}/base"}}).encode()},
    ).run(str(tmp_path / "run/corpus"))
    stage(tmp_path / "run/heldout", "toy")
    assert found(tmp_path / "run")["corpus"].faults == []
    (tmp_path / "base").rename(tmp_path / "moved")
    assert found(tmp_path / "run")["corpus"].faults == []
    (tmp_path / "base").mkdir()
    Stage("curate", 1, {}, {}, lambda at: ([write_output(at, "part", b"y")], {})).run(str(tmp_path / "base"))
    assert found(tmp_path / "run")["corpus"].faults == [
        f"what it may not train on was held out by another corpus than lies in {tmp_path}/base (paths.heldout) now"
    ]


@pytest.mark.parametrize("workdir", ["stages", "evaluate", "evaluate/infilling", "corpus/stages", "train", "plain"])
@pytest.mark.parametrize("exchanged", [False, True])
def test_a_working_folder_may_have_any_name(tmp_path, workdir, exchanged):
    """What was made with another tokenizer than lies beside it is found, and nothing else is."""
    run = tmp_path / workdir
    if workdir == "corpus/stages":
        stage(tmp_path / "corpus", "curate")
    corpus = stage(run / "corpus", "curate")
    files = stage(run / "corpus/stages/files", "files")
    stage(run / "corpus/stages/exact", "exact", files="0" * 64 if exchanged else files.digest)
    tokenizer = stage(run / "tokenizer", "tokenizer", corpus=corpus.digest).outputs[0].sha256
    trained = stage(run / "train", "train", corpus=corpus.digest, tokenizer="0" * 64 if exchanged else tokenizer)
    inputs = {"corpus": corpus.digest, "tokenizer": tokenizer, "train": "0" * 64 if exchanged else trained.digest}
    stage(run / "evaluate/infilling", "infilling", **inputs)
    stage(run / "evaluate/bits_per_byte", "bits_per_byte", **inputs)
    faults = {name.removeprefix(f"{workdir}/"): item.faults for name, item in found(tmp_path).items() if item.faults}
    assert faults == (
        {
            "corpus/stages/exact": ["it was made with another files than lies beside it"],
            "train": ["it was made with another tokenizer than lies beside it"],
            "evaluate/infilling": ["it was made with another train than lies beside it"],
            "evaluate/bits_per_byte": ["it was made with another train than lies beside it"],
        }
        if exchanged
        else {}
    )


def linked(folder: Path, away: Path) -> None:
    away.parent.mkdir(exist_ok=True)
    folder.rename(away)
    folder.symlink_to(away)


@pytest.mark.parametrize("moved", ["corpus", "tokenizer", "evaluate", "corpus/stages", "corpus/issues"])
def test_a_stage_that_was_moved_and_linked_is_looked_at_in_its_place(tmp_path, moved):
    """As the verbs do, which follow the link; it may lead to a folder of stages, too."""
    run = tmp_path / "run"
    for name in ("corpus", "tokenizer", "evaluate/infilling", "corpus/stages/files", "corpus/issues"):
        stage(run / name, "toy")
    linked(run / moved, tmp_path / "big/moved")
    whole = found(run)
    assert len(whole) == 5
    assert not any(item.faults or item.foreign for item in whole.values())
    held = {"evaluate": "infilling/", "corpus/stages": "files/"}.get(moved, "")
    (tmp_path / "big/moved" / f"{held}file.model").write_text("x")
    faults = {name: item.faults for name, item in found(run).items() if item.faults}
    assert faults == {f"{moved}/{held}".rstrip("/"): ["file.model is not what its stage wrote"]}


def test_what_was_moved_is_compared_with_what_lies_around_the_link(tmp_path):
    stage(tmp_path / "run/tokenizer", "tokenizer", corpus="0" * 64)
    linked(tmp_path / "run/tokenizer", tmp_path / "big/tokenizer")
    stage(tmp_path / "run/corpus", "curate")
    (item,) = [item for name, item in found(tmp_path / "run").items() if name == "tokenizer"]
    assert item.faults == ["it was made with another corpus than lies beside it"]


def test_links_that_lead_round_or_to_no_stage_are_named_and_not_followed_for_ever(tmp_path):
    stage(tmp_path / "run/corpus", "curate")
    for name, target in {"self": ".", "up": "..", "nothing": "gone", "mine": "/proc"}.items():
        (tmp_path / "run/corpus" / name).symlink_to(target)
    (tmp_path / "run/corpus/notes").write_text("mine")
    inspected = found(tmp_path / "run")
    assert not any(item.faults for item in inspected.values())
    assert inspected.keys() == {"corpus", "corpus/self"}
    assert inspected["corpus"].foreign == ["mine", "notes", "nothing"]


def test_what_lies_in_the_hidden_folder_is_named(tmp_path, capsys):
    stage(tmp_path / "corpus", "curate")
    hidden = tmp_path / "corpus/.sc2jax"
    mark = json.loads((hidden / "mark.json").read_text())["id"]
    (hidden / mark).mkdir()
    (hidden / mark / "part").write_text("half")
    (hidden / "notes.txt").write_text("mine")
    item = found(tmp_path)["corpus"]
    assert (item.interrupted, item.foreign, item.faults) == (1, [".sc2jax/notes.txt"], [])
    run(Settings(), str(tmp_path))
    printed = capsys.readouterr().out
    assert "not ours: .sc2jax/notes.txt" in printed
    assert "and 1 files that an interrupted run left" in printed


def test_a_folder_without_stages_is_no_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no stage of a run"):
        run(Settings(), str(tmp_path))


def test_what_an_ablation_keeps_beside_its_runs_is_ours(tmp_path):
    stage(tmp_path / "a" / "report", "ablate")
    for name in ("base.json", "lock", "logs/x.log", "logs/x.json", "notes.txt", "runs/x/lock"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text("{}")
    (tmp_path / "lock").write_text("")
    assert found(tmp_path)[""].foreign == ["a/notes.txt", "a/runs/x/lock", "lock"]
    assert found(tmp_path / "a")[""].foreign == ["notes.txt", "runs/x/lock"]
