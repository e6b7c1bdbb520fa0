"""`tokenize` and `show` as they are called."""

from pathlib import Path

import pytest

from sc2jax.cli import main
from sc2jax.records.manifest import read_manifest

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(corpus: str, tokenizer_path: str, tmp_path: Path, capsys: Capture):
    """Runs a verb on the tiny corpus; its status, what it printed, and its errors."""

    def run(verb: str, **config: object) -> tuple[int, str, str]:
        places = {"paths.corpus": corpus, "paths.tokenizer": tokenizer_path, "feed.streams_per_row": 1}
        places |= {"model.context_length": 64}
        overrides = [f"--config.{key}={value}" for key, value in (places | config).items()]
        with pytest.raises(SystemExit) as exit_info:
            main([verb, *overrides, f"--workdir={tmp_path}"])
        printed, errors = capsys.readouterr()
        return int(exit_info.value.code or 0), printed, errors

    return run


def test_encode_once_then_read_from_there(run, tmp_path: Path) -> None:
    status, printed, _ = run("tokenize", **{"tokenize.epochs": 2})
    assert status == 0
    assert "tokens in 2 epochs of 1 sources" in printed
    manifest = read_manifest(str(tmp_path / "tokenize"))
    assert len(manifest.under("source_code/epoch-00001")) == 1
    assert manifest.statistics["tokens"]["source_code"] > 1000
    assert "complete already" in run("tokenize", **{"tokenize.epochs": 2})[1]
    place = {"show.row": 3, "show.step": 2}
    assert run("show", **place, **{"feed.tokenized": True}) == run("show", **place)
    status, printed, errors = run("show", **{"feed.tokenized": True, "seed": 4})
    assert status == 2
    assert not printed
    assert len(errors.splitlines()) == 1
    assert "were made of something else: seed differ; run `sc2jax tokenize` again" in errors


def test_a_row_is_printed_or_written_as_a_page(run, tmp_path: Path) -> None:
    _, printed, _ = run("show", **{"show.source": "source_code"})
    assert printed.startswith("batch 0, row 0, source_code alone\n64 tokens: ")
    page = tmp_path / "row.html"
    status, printed, _ = run("show", **{"show.html": page})
    assert status == 0
    assert str(page) in printed
    assert page.read_text().startswith("<!doctype html>")
    assert run("show", **{"show.html": page, "show.step": 1})[0] == 0
    page.write_text("<!doctype html>\nmine")
    status, _, errors = run("show", **{"show.html": page})
    assert status == 2
    assert "exists and is no page of `show`" in errors
    assert page.read_text() == "<!doctype html>\nmine"
    assert run("show", **{"show.source": "issues"})[0] == 2
