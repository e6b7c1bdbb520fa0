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


def test_a_folder_without_stages_is_no_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no stage of a run"):
        run(Settings(), str(tmp_path))
