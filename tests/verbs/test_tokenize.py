"""Tokens as a stage: made once, gone on with after an interruption, and refused when they are not the run's."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sc2jax.feed import tokenizing
from sc2jax.records.manifest import commit, read_manifest
from sc2jax.records.stage_folder import read_mark

FEW: dict[str, Any] = {"training.steps": 2, "training.checkpoint_every": 2}


@pytest.fixture(scope="session")
def encoded(inputs, tmp_path_factory, start) -> Path:
    """A working folder with tokens; not to be changed."""
    folder = tmp_path_factory.mktemp("encoded")
    assert start("tokenize", folder, **inputs) == 0
    return folder


@pytest.fixture
def run(encoded: Path, tmp_path: Path) -> Path:
    shutil.copytree(encoded, tmp_path / "run")
    return tmp_path / "run"


def mixture(path: Path, *sources: dict) -> dict[str, Any]:
    """A mixture of the corpus itself, several times under different names."""
    given = [{"name": "source_code", "format": "repository", "share": 1, "max_epochs": 0} | each for each in sources]
    path.write_text(json.dumps({"sources": given}))
    return {"feed.mixture": path}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(call, run: Path, verb: str = "train", **config: Any) -> str:
    """The one line in which a verb ends; it has changed nothing of the tokens."""
    before = files(run)
    status, _, errors = call(verb, run, **((FEW if verb == "train" else {}) | config))
    assert status == 2
    assert len(errors.strip().splitlines()) == 1, errors
    after = files(run)
    assert {name: content for name, content in after.items() if name.startswith("tokenize/")} == {
        name: content for name, content in before.items() if name.startswith("tokenize/")
    }
    return errors


def test_tokens_are_made_once(call, tmp_path: Path) -> None:
    status, printed, _ = call("tokenize", tmp_path, **{"tokenize.renderings": 2})
    assert status == 0
    manifest = read_manifest(f"{tmp_path}/tokenize")
    tokens = manifest.statistics["sources"]["source_code"]["tokens"]
    assert len(tokens) == 2
    assert f"{sum(tokens):,} tokens of 1 source in 2 renderings -> {tmp_path}/tokenize" in printed
    assert sum(output.rows for output in manifest.outputs) == sum(tokens)
    again = call("tokenize", tmp_path, **{"tokenize.renderings": 2})[1]
    assert "complete already" in again
    assert f"{sum(tokens):,} tokens" in again
    # What changes nothing about the tokens makes no others.
    for same in ({"fim.rate": 0.1}, {"model.context_length": 16}, {"feed.prefetch": 9}, {"training.batch_size": 4}):
        assert "complete already" in call("tokenize", tmp_path, **{"tokenize.renderings": 2}, **same)[1]
    assert "complete already" not in call("tokenize", tmp_path)[1]
    assert not list(tmp_path.glob("tokenize/source_code/rendering-00001/**/0"))


def test_training_makes_them_where_they_are_missing_and_says_what_it_will_read(call, tmp_path: Path) -> None:
    status, printed, errors = call("train", tmp_path, **FEW)
    assert status == 0, errors
    assert read_manifest(f"{tmp_path}/tokenize").stage == "tokenize"
    assert re.search(r"source_code: 16 rows in 2 steps, \d\.\d\d epochs of \d+", printed)
    lines = (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()
    told = json.loads(lines[-1])["feed"]["sources"]["source_code"]
    assert (told["rows"], told["tokens"], told["distinct_tokens"], told["share"]) == (16, 512, 512, 1.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 9}, "seed"),
        ({"format.metadata_rate": 0.1}, "format"),
        ({"fim.level": "document"}, "fim"),
        ({"tokenize.renderings": 2}, "tokenize.renderings"),
    ],
    ids=str,
)
def test_tokens_of_other_settings_are_named_and_making_them_anew_is_enough(call, run: Path, changed, said: str) -> None:
    errors = refused(call, run, **changed)
    assert re.search(rf"the tokens in {run}/tokenize were made with another .*{said}.*; run `sc2jax tokenize`", errors)
    assert call("tokenize", run, **changed)[0] == 0
    status, _, errors = call("train", run, **FEW, **changed)
    assert status == 0, errors


def test_tokens_of_another_tokenizer_or_corpus_are_named(call, run: Path, inputs, start, small_source: Path) -> None:
    elsewhere = run.parent / "elsewhere"
    shutil.copytree(small_source, run.parent / "source")
    (run.parent / "source" / "package_0" / "more.py").write_text("def more(x):\n    return 4 * x\n")
    other = {"paths.source": run.parent / "source", "tokenizer.vocab_size": 341, "corpus.heldout_fraction": 0.0}
    for verb in ("curate", "tokenizer"):
        assert start(verb, elsewhere, **other) == 0
    tokenizer = {"paths.tokenizer": f"{elsewhere}/tokenizer"}
    assert "were made with another tokenizer; run" in refused(call, run, **tokenizer)
    corpus = {"paths.corpus": f"{elsewhere}/corpus"}
    assert "were made with another corpus; run" in refused(call, run, **corpus)
    assert call("tokenize", run, **corpus)[0] == 0
    status, _, errors = call("train", run, **FEW, **corpus)
    assert status == 0, errors


def test_tokens_of_another_mixture_s_sources_are_named_and_of_other_shares_are_not(call, run: Path) -> None:
    other = mixture(run / "other.json", {"name": "b"})
    assert re.search("were made with another source b; ", refused(call, run, **other))
    shares = mixture(run / "shares.json", {"share": 3, "max_epochs": 4})
    status, _, errors = call("train", run, **FEW, **shares)
    assert status == 0, errors


def interrupted(call, run: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Encodes so many parts and is then stopped; counts what is encoded from then on."""
    done: list[int] = []
    encode = tokenizing._EncodePart.__call__

    def stopping(self, work):
        done.append(len(done))
        if len(done) == after + 1:
            raise MemoryError("stopped")
        return encode(self, work)

    monkeypatch.setattr(tokenizing._EncodePart, "__call__", stopping)
    assert call("tokenize", run)[0] != 0
    done.clear()
    monkeypatch.setattr(tokenizing._EncodePart, "__call__", lambda self, work: done.append(0) or encode(self, work))
    return done


def small_parts(call, source: Path, where: Path) -> dict[str, Any]:
    """A corpus of many row groups."""
    many = {"paths.source": source, "corpus.row_group_bytes": 1, "paths.corpus": ""}
    assert call("curate", where, **many)[0] == 0
    return {"paths.corpus": f"{where}/corpus"}


@pytest.mark.parametrize("verb", ["tokenize", "train"])
def test_half_written_tokens_are_gone_on_with(
    call, tmp_path: Path, small_source: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    corpus = small_parts(call, small_source, tmp_path / "many")
    assert call("tokenize", tmp_path / "whole", **corpus)[0] == 0
    parts = len(list((tmp_path / "whole").rglob("c/0")))
    assert parts > 4
    run = tmp_path / "run"
    done = interrupted(lambda verb, run: call(verb, run, **corpus), run, monkeypatch, 3)
    assert not (run / "tokenize/manifest.json").exists()
    status, _, errors = call(verb, run, **corpus, **(FEW if verb == "train" else {}))
    assert status == 0, errors
    assert len(done) == parts - 3
    written = {name: content for name, content in files(run / "tokenize").items() if name.startswith("source_code/")}
    assert written == {
        name: content for name, content in files(tmp_path / "whole/tokenize").items() if name.startswith("source_code/")
    }
    assert read_manifest(f"{run}/tokenize").digest == read_manifest(f"{tmp_path}/whole/tokenize").digest
    mark = read_mark(f"{run}/tokenize")
    assert mark
    assert not (run / "tokenize/.sc2jax" / mark.id).exists()


def test_half_written_tokens_of_other_settings_are_begun_anew(
    call, tmp_path: Path, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = small_parts(call, small_source, tmp_path / "many")
    other = corpus | {"seed": 5}
    assert call("tokenize", tmp_path / "whole", **other)[0] == 0
    parts = len(list((tmp_path / "whole").rglob("c/0")))
    done = interrupted(lambda verb, run: call(verb, run, **corpus), tmp_path / "run", monkeypatch, 3)
    assert call("tokenize", tmp_path / "run", **other)[0] == 0
    assert len(done) == parts
    found = files(tmp_path / "run/tokenize")
    expected = files(tmp_path / "whole/tokenize")
    assert {name for name in found if "rendering" in name} == {name for name in expected if "rendering" in name}


@pytest.mark.parametrize("how", ["gone", "short", "empty", "a folder"])
def test_tokens_of_which_a_part_is_gone_are_named_and_made_again(call, run: Path, how: str) -> None:
    shard = sorted((run / "tokenize").rglob("c/0"))[0]
    content = shard.read_bytes()
    shard.unlink()
    if how in ("short", "empty"):
        shard.write_bytes(content[: len(content) // 2 if how == "short" else 0])
    elif how == "a folder":
        shard.mkdir()
    errors = refused(call, run)
    assert re.search(rf"{shard}: the file is damaged or missing", errors)
    if how == "a folder":
        shard.rmdir()
    assert call("tokenize", run)[0] == 0
    assert shard.read_bytes() == content
    status, _, errors = call("train", run, **FEW)
    assert status == 0, errors


def test_a_damaged_manifest_of_tokens_is_named(call, run: Path) -> None:
    path = run / "tokenize" / "manifest.json"
    path.write_text(path.read_text().replace('"tokenize"', '"tokenise"'))
    for verb in ("train", "show"):
        assert f"{path} is not what its stage wrote" in refused(call, run, verb)


def test_damaged_tokens_stop_the_run_or_leave_rows_empty(call, run: Path, inputs, start) -> None:
    shards = sorted((run / "tokenize").rglob("c/0"))
    content = bytearray(shards[0].read_bytes())
    content[3] ^= 1
    shards[0].write_bytes(content)
    long = {"training.steps": 40, "training.checkpoint_every": 40, "training.log_every": 40}
    status, _, errors = call("train", run, **long)
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    assert f"{shards[0]}, tokens " in errors
    assert "--config.feed.damaged=skip" in errors
    skip = {"feed.damaged": "skip"}
    shutil.rmtree(run / "train")
    status, _, errors = call("train", run, **long, **skip)
    assert status == 0, errors
    last = json.loads((run / "train/metrics.jsonl").read_text().splitlines()[-1])
    assert last["feed"]["damaged_rows"] == 320  # all of the little that there is lies in one block
    assert last["tokens"] == 0


def test_whole_tokens_serve_whatever_was_to_become_of_damage(call, run: Path) -> None:
    skip = {"feed.damaged": "skip"}
    assert "complete already" in call("tokenize", run, **skip)[1]
    shutil.rmtree(run / "tokenize/source_code")  # what is made now need not be whole
    assert call("tokenize", run, **skip)[0] == 0
    assert read_manifest(f"{run}/tokenize").config["skip_damaged"] is True
    # Nothing was damaged, so they are whole.
    assert "complete already" in call("tokenize", run)[1]
    status, _, errors = call("train", run, **FEW)
    assert status == 0, errors


def test_what_stop_says_about_damaged_tokens_works(call, run: Path) -> None:
    """Deleted, the part is made again."""
    shard = sorted((run / "tokenize").rglob("c/0"))[0]
    content = shard.read_bytes()
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    shard.unlink()
    assert call("tokenize", run)[0] == 0
    assert shard.read_bytes() == content


def test_a_source_shorter_than_a_row_is_named(call, run: Path) -> None:
    errors = refused(call, run, "train", **{"model.context_length": 2**16})
    assert re.search(r"the source source_code has [\d,]+ tokens, fewer than a row of 65,536; use a smaller", errors)


def test_an_empty_source_is_named(call, inputs, tmp_path: Path) -> None:
    """A corpus without a file to train on, which `curate` leaves of nothing but an empty folder."""
    shutil.copytree(inputs["paths.corpus"], tmp_path / "corpus")
    manifest = read_manifest(f"{tmp_path}/corpus")
    outputs = tuple(output for output in manifest.outputs if not output.path.startswith("train/"))
    assert len(outputs) < len(manifest.outputs)
    commit(f"{tmp_path}/corpus", dataclasses.replace(manifest, outputs=outputs))
    for verb in ("tokenize", "train"):
        errors = refused(call, tmp_path, verb, **{"paths.corpus": f"{tmp_path}/corpus"})
        assert "has no files in its split 'train'; curate more source code" in errors
        assert not (tmp_path / "tokenize").exists()


def test_more_steps_than_the_caps_allow_are_named_before_the_first_and_fewer_work(call, run: Path) -> None:
    once = mixture(run / "once.json", {"max_epochs": 1})
    status, _, errors = call("train", run, **once, **{"training.steps": 10_000, "training.checkpoint_every": 10_000})
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    found = re.search(r"training\.steps 10,000 of 8 rows are 80,000 rows; .* ([\d,]+) steps are possible", errors)
    assert found
    assert not (run / "train" / "metrics.jsonl").exists()
    steps = int(found[1].replace(",", ""))
    some = {"training.steps": steps, "training.checkpoint_every": steps, "training.log_every": steps}
    status, _, errors = call("train", run, **once, **some)
    assert status == 0, errors
    told = json.loads((run / "train/metrics.jsonl").read_text().splitlines()[-1])["feed"]["sources"]["source_code"]
    assert 0.9 < told["epochs"] <= 1


def test_a_share_without_a_whole_row_is_named_and_leaving_it_out_works(call, tmp_path: Path) -> None:
    lopsided = mixture(tmp_path / "lopsided.json", {"share": 1000}, {"name": "few"})
    status, _, errors = call("train", tmp_path / "run", **lopsided, **FEW)
    assert status == 2
    assert "the shares of few in the mixture come to no whole row of the run's 16; train for more steps, or" in errors
    alone = mixture(tmp_path / "alone.json", {"share": 1000})
    assert call("tokenize", tmp_path / "run", **alone)[0] == 0
    status, _, errors = call("train", tmp_path / "run", **alone, **FEW)
    assert status == 0, errors


def test_tokens_that_another_run_made_are_read_and_never_written(call, encoded: Path, tmp_path: Path) -> None:
    there = {"paths.tokenize": f"{encoded}/tokenize"}
    before = files(encoded)
    status, _, errors = call("train", tmp_path, **FEW, **there)
    assert status == 0, errors
    assert not (tmp_path / "tokenize").exists()
    assert files(encoded) == before
    nowhere = {"paths.tokenize": f"{tmp_path}/nowhere"}
    status, _, errors = call("train", tmp_path / "other", **FEW, **nowhere)
    assert status == 2
    assert f"paths.tokenize names {tmp_path}/nowhere, which holds no finished tokens; run" in errors
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_something_else_is_not_taken_for_tokens(call, run: Path) -> None:
    shutil.rmtree(run / "tokenize")
    (run / "tokenize").mkdir()
    (run / "tokenize" / "mine.txt").write_text("mine")
    for verb in ("tokenize", "train"):
        assert "holds files that are not ours (mine.txt)" in refused(call, run, verb)


def test_a_row_of_tokens_is_printed_or_written_as_a_page(call, run: Path) -> None:
    status, printed, _ = call("show", run, **{"show.source": "source_code", "show.row": 3})
    assert status == 0
    assert printed.startswith("batch 0, row 3, source_code alone")
    page = run / "row.html"
    status, printed, _ = call("show", run, **{"show.html": page})
    assert status == 0
    assert str(page) in printed
    assert page.read_text().startswith("<!doctype html>")
    assert call("show", run, **{"show.html": page, "show.step": 1})[0] == 0
    page.write_text("<!doctype html>\nmine")
    assert "exists and is no page of `show`" in refused(call, run, "show", **{"show.html": page})
    assert page.read_text() == "<!doctype html>\nmine"
    refused(call, run, "show", **{"show.source": "issues"})
    assert "were made with another seed" in refused(call, run, "show", seed=4)
