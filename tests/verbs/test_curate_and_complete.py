"""`curate` and `complete` as they are called."""

import json
import shutil
from pathlib import Path

from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import read_manifest


def test_a_complete_corpus_says_so_and_keeps_its_config(call, small_source, tmp_path):
    source = {"paths.source": small_source, "paths.corpus": ""}
    assert call("curate", tmp_path, **source)[0] == 0
    before = (tmp_path / "corpus/config.json").read_bytes()
    status, printed, _ = call("curate", tmp_path, **source, **{"training.steps": 7})
    assert status == 0
    assert "complete already" in printed
    assert (tmp_path / "corpus/config.json").read_bytes() == before
    assert json.loads(before)["training"]["steps"] == 5


def test_repositories_that_were_cut_are_counted_and_said(call, tmp_path):
    for number, words in enumerate(("red green blue", "one two three", "left right up")):
        (tmp_path / "source/large").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"source/large/{number}.py").write_text(f"print('{words} {words[::-1]}')\n" * 9)
    keys = {"paths.source": tmp_path / "source", "paths.corpus": "", "corpus.max_document_bytes": 300}
    status, printed, _ = call("curate", tmp_path / "run", **keys)
    assert status == 0
    assert "repositories above 300 bytes: 1, which became 3 documents" in printed
    status, printed, _ = call("curate", tmp_path / "whole", **keys | {"corpus.max_document_bytes": 3000})
    assert status == 0
    assert "became" not in printed


def test_a_corpus_without_what_another_holds_out(call, inputs, tmp_path):
    """Its source is the other corpus's held-out files alone, under another name, and one file more."""
    base = Path(inputs["paths.corpus"])
    for name in ("first", "second"):
        (tmp_path / "source" / name).mkdir(parents=True)
    for number, row in enumerate(read_tables(str(base), read_manifest(str(base)), "heldout")):
        for text in row["content"].to_pylist():
            (tmp_path / "source/first" / f"copy{number}.py").write_text(text)
    for name in ("first", "second"):
        (tmp_path / "source" / name / "own.py").write_text(f"import {name}\nprint({name}.value, end={name}.end)\n" * 9)
    keys = {"paths.source": tmp_path / "source", "paths.corpus": "", "paths.heldout": base}
    assert call("curate", tmp_path / "run", **keys)[0] == 0
    manifest = read_manifest(str(tmp_path / "run/corpus"))
    assert manifest.inputs["heldout"] == read_manifest(str(base)).digest
    (train,) = read_tables(str(tmp_path / "run/corpus"), manifest, "train")
    assert train["path"].to_pylist() == ["own.py"]
    assert call("check", tmp_path / "run")[0] == 0
    keys["paths.heldout"] = tmp_path / "none"
    status, _, errors = call("curate", tmp_path / "run", **keys)
    assert status == 2
    assert f"paths.heldout is {tmp_path}/none, which holds no finished corpus" in errors


def test_a_completion_stands_between_marks_after_its_prompt(call, trained):
    status, printed, _ = call("complete", trained, **{"completion.prompt": "def value("})
    assert status == 0
    opening, _, rest = printed.partition("\u27e6")
    assert opening == "--- left to right\ndef value("
    assert rest.partition("\u27e7")[2].startswith("\n--- ")
    _, printed, _ = call("complete", trained, **{"completion.prompt": "def value(", "completion.suffix": "x"})
    assert printed.startswith("--- fill in the middle\ndef value(\u27e6")
    assert printed.partition("\u27e7")[2].startswith("x\n--- ")


HOSTILE = "\x1b]0;owned\x07\x9b2J\u202e"
HARMLESS = "␛]0;owned␇\ufffd2J<U+202E>"


def test_hostile_text_reaches_the_terminal_as_text_and_the_samples_raw(call, trained, tmp_path, monkeypatch):
    prompt = {"completion.prompt": f"a{HOSTILE}", "completion.suffix": f"{HOSTILE}z"}
    _, printed, _ = call("complete", trained, **prompt)
    assert f"a{HARMLESS}\u27e6" in printed
    assert f"\u27e7{HARMLESS}z" in printed
    assert not set(HOSTILE) & {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed)

    shutil.copytree(trained, tmp_path / "run")
    sample = {"kind": "left_to_right", "prompt": f"p{HOSTILE}", "completion": f"c{HOSTILE}", "finish": "stop"}
    monkeypatch.setattr("sc2jax.verbs.complete.samples_from_files", lambda *_: [sample])
    status, printed, _ = call("complete", tmp_path / "run")
    assert status == 0
    assert f"p{HARMLESS}\u27e6c{HARMLESS}\u27e7" in printed
    assert json.loads((tmp_path / "run/complete/samples.json").read_text()) == [sample]


def test_nothing_is_shown_of_a_prompt_that_is_refused(call, trained, monkeypatch):
    def refuse(*_: object, **__: object):
        from sc2jax.errors import UserError

        raise UserError("no such prompt")

    monkeypatch.setattr("sc2jax.inference.loaded_model.stream", refuse)
    status, printed, errors = call("complete", trained, **{"completion.prompt": "x"})
    assert status == 2
    assert "no such prompt" in errors
    assert not printed
