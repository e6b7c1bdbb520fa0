"""The stages of two runs exchanged, one at a time: every verb that reads one refuses, and says what differs."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from test_evaluate_benchmarks import TASKS, write_samples, write_tasks

from sc2jax.records import manifest
from sc2jax.records.manifest import read_manifest

READERS = ("evaluate", "complete", "report", "convert", "show")
STAGES = (
    "corpus",
    "tokenizer",
    "train",
    "evaluate/bits_per_byte",
    "evaluate/infilling",
    "evaluate/decoding",
    "complete",
)
MODEL = ("corpus", "tokenizer", "train")
"""What every verb reads, itself or because what it reads was made from it. The report reads the results too, which the
others do not: a result that is no longer the model's is what `evaluate` and `complete` make anew."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_source, start):
    """Two whole runs of equal shape, with sources and seeds that differ."""
    root = tmp_path_factory.mktemp("two")
    shutil.copytree(small_source, root / "other_source")
    for module in (root / "other_source").rglob("*.py"):
        module.write_text(module.read_text().replace("value", "worth"))
    for name, source, seed in (("one", small_source, 0), ("two", root / "other_source", 1)):
        for verb in ("curate", "tokenizer", "train", "evaluate", "complete", "report"):
            assert start(verb, root / name, **{"paths.source": source, "seed": seed}) == 0, (name, verb)
    return root


@pytest.fixture
def read(start, capsys, tmp_path):
    def read(verb: str, run: Path, **config) -> tuple[int, str]:
        if verb == "convert":
            config["convert.to_huggingface"] = tmp_path / f"export {len(list(tmp_path.iterdir()))}"
        status = start(verb, run, **config)
        said = capsys.readouterr()
        return status, said.out + said.err

    return read


def exchanged(runs: Path, tmp_path: Path, stage: str) -> Path:
    run = tmp_path / "run"
    shutil.copytree(runs / "one", run)
    shutil.rmtree(run / stage)
    shutil.copytree(runs / "two" / stage, run / stage)
    return run


def test_a_run_that_was_copied_opens_and_holds(runs, tmp_path, read):
    shutil.copytree(runs / "one", tmp_path / "run")
    for verb in READERS:
        assert read(verb, tmp_path / "run")[0] == 0, verb
    status, said = read("check", tmp_path / "run")
    assert status == 0, said
    assert "all 18 stages hold" in said
    (tmp_path / "run/train/checkpoints/notes.txt").write_text("mine")
    status, said = read("check", tmp_path / "run")
    assert status == 0
    assert "not ours: checkpoints/notes.txt" in said


@pytest.mark.parametrize("stage", STAGES)
def test_an_exchanged_stage_is_refused_by_whatever_reads_it(runs, tmp_path, read, stage):
    run = exchanged(runs, tmp_path, stage)
    for verb in READERS if stage in MODEL else ("report",):
        status, said = read(verb, run)
        assert status == 2, (verb, said)
        assert "was made with another" in said, (verb, said)
    status, said = read("check", run)
    assert status == 2
    assert "was made with another" in said


def test_scores_of_benchmarks_stand_on_the_page_of_the_run_that_they_belong_to(runs, tmp_path, read, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tasks(tmp_path / "benchmarks", TASKS)
    lines = [{"task_id": task["task_id"], "completion": task["canonical_solution"]} for task in TASKS]
    write_samples(tmp_path / "samples.jsonl", lines)
    run = tmp_path / "run"
    shutil.copytree(runs / "one", run)
    page = run / "report" / "index.html"
    assert "Benchmarks" not in page.read_text()
    about = {"benchmarks": "humaneval", "heldout": False, "samples_file": tmp_path / "samples.jsonl"}
    evaluated = {f"evaluation.{name}": value for name, value in about.items()}
    status, said = read("evaluate", run, **{"paths.benchmarks": tmp_path / "benchmarks"}, **evaluated)
    assert status == 0, said
    assert read("report", run)[0] == 0
    assert "<td>pass@1</td>" in page.read_text()

    verdicts = str(run / "evaluate/humaneval/verdicts")
    made = read_manifest(verdicts)
    manifest.commit(verdicts, dataclasses.replace(made, inputs={**made.inputs, "corpus": "0" * 64}))
    status, said = read("report", run)
    assert status == 2
    assert f"{verdicts} was made with another corpus" in said


@pytest.mark.parametrize("verb", [*READERS, "train"])
def test_the_checkpoints_of_another_run_are_refused(runs, tmp_path, read, verb):
    run = exchanged(runs, tmp_path, "train/checkpoints")
    status, said = read(verb, run)
    assert status == 2, said
    assert "is not the checkpoint that" in said
    assert "complete already" not in said
    assert read("check", run)[0] == 2


@pytest.mark.parametrize(("old", "new"), [('"window": 16', '"window": 8'), ('"steps": 5', '"steps": 4')])
def test_a_manifest_that_was_edited_is_refused(runs, tmp_path, read, old, new):
    shutil.copytree(runs / "one", tmp_path / "run")
    path = tmp_path / "run/train/manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for verb in (*READERS, "check"):
        status, said = read(verb, tmp_path / "run")
        assert status == 2
        assert "is not what its stage wrote" in said


FLIPPED = (
    "corpus/train/part-*.parquet",
    "corpus/heldout/part-*.parquet",
    "corpus/config.json",
    "tokenizer/tokenizer.model",
    "train/metrics.jsonl",
    "train/parameters.json",
    "train/config.json",
    "evaluate/bits_per_byte/scores.json",
    "evaluate/infilling/config.json",
    "complete/samples.json",
)


@pytest.mark.parametrize("pattern", FLIPPED)
def test_what_a_complete_stage_has_read_is_looked_at_before_it_is_called_complete(runs, tmp_path, read, pattern):
    run = tmp_path / "run"
    shutil.copytree(runs / "one", run)
    path = min(run.glob(pattern))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    stage = pattern.partition("/")[0]
    readers = {"corpus": ["train", "evaluate", "complete", "report"], "tokenizer": ["train", "evaluate", "complete"]}
    for verb in [*readers.get(stage, ["evaluate", "complete"] if stage == "train" else []), "report"]:
        status, said = read(verb, run)
        assert status == 2, (verb, said)
        assert str(path.relative_to(run)) in said
        assert "is not what its stage wrote" in said
        assert "complete already" not in said


def test_a_manifest_is_read_a_few_times_however_many_stages_were_made_from_it(runs, read, monkeypatch):
    """The manifest of a corpus with 100,000 parts takes more than a second."""
    times, decode_json = Counter(), manifest.decode_json

    def counted(content, kind, where, remedy):
        times[where] += 1
        return decode_json(content, kind, where, remedy)

    monkeypatch.setattr(manifest, "decode_json", counted)
    for verb, expected in (("show", 2), ("complete", 3), ("report", 4)):
        times.clear()
        assert read(verb, runs / "one")[0] == 0
        assert times[f"{runs}/one/corpus/manifest.json"] <= expected, (verb, times)


def test_another_corpus_may_be_named_and_what_was_trained_on_is_left_out(runs, tmp_path, read, start, small_source):
    """The other corpus is made of the same source with another split: part of its held-out files were trained on."""
    split = {"paths.source": small_source, "corpus.heldout_fraction": 0.9}
    assert start("curate", tmp_path, **split) == 0
    run = tmp_path / "run"
    shutil.copytree(runs / "one", run)
    status, said = read("evaluate", run, **{"paths.corpus": tmp_path / "corpus"})
    assert status == 0, said
    assert "measured on another corpus than the model was trained on" in said
    scores = json.loads((run / "evaluate/bits_per_byte/scores.json").read_text())
    heldout, trained = texts(tmp_path / "corpus", "heldout"), texts(run / "corpus", "train")
    assert scores["corpus"] == {"trained_on": False, "left_out": len(heldout & trained)}
    assert heldout & trained
    for verb in ("complete", "report"):
        status, said = read(verb, run, **{"paths.corpus": tmp_path / "corpus"})
        assert status == 0, said
    page = (run / "report/index.html").read_text()
    caveat = f"{len(heldout & trained)} of its held-out files, which the model was trained on, are left out."
    assert page.count(caveat) == len(("bits_per_byte", "infilling"))
    assert "of the code of another corpus than it was trained on" in page
    shutil.rmtree(run / "corpus")
    shutil.rmtree(run / "evaluate")
    (run / "train/config.json").write_text("{}")
    status, said = read("evaluate", run, **{"paths.corpus": tmp_path / "corpus"})
    assert "that corpus is gone" in said, said


def texts(corpus: Path, split: str) -> set[str]:
    import pyarrow.parquet as pq

    return {
        text
        for output in read_manifest(str(corpus)).under(split)
        for text in pq.read_table(corpus / output.path, columns=["content"]).column("content").to_pylist()
    }
