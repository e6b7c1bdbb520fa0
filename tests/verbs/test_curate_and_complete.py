"""`curate` and `complete` as they are called."""

import json

from sc2jax.verbs.complete import show_text


def test_a_complete_corpus_says_so_and_keeps_its_config(call, small_source, tmp_path):
    source = {"paths.source": small_source, "paths.corpus": ""}
    assert call("curate", tmp_path, **source)[0] == 0
    before = (tmp_path / "corpus/config.json").read_bytes()
    status, printed, _ = call("curate", tmp_path, **source, **{"training.steps": 7})
    assert status == 0
    assert "complete already" in printed
    assert (tmp_path / "corpus/config.json").read_bytes() == before
    assert json.loads(before)["training"]["steps"] == 5


def test_a_completion_stands_between_marks_after_its_prompt(call, trained):
    status, printed, _ = call("complete", trained, **{"completion.prompt": "def value("})
    assert status == 0
    opening, _, rest = printed.partition("\u27e6")
    assert opening == "--- left to right\ndef value("
    assert rest.partition("\u27e7")[2].startswith("\n--- ")
    _, printed, _ = call("complete", trained, **{"completion.prompt": "def value(", "completion.suffix": "x"})
    assert printed.startswith("--- fill in the middle\ndef value(\u27e6")
    assert printed.partition("\u27e7")[2].startswith("x\n--- ")


def test_nothing_is_shown_of_a_prompt_that_is_refused(call, trained, monkeypatch):
    def refuse(*_: object, **__: object):
        from sc2jax.errors import UserError

        raise UserError("no such prompt")

    monkeypatch.setattr("sc2jax.inference.loaded_model.stream", refuse)
    status, printed, errors = call("complete", trained, **{"completion.prompt": "x"})
    assert status == 2
    assert "no such prompt" in errors
    assert not printed


def test_text_is_shown_at_once(capsys):
    show_text("a")
    show_text("b\n")
    assert capsys.readouterr().out == "ab\n"
