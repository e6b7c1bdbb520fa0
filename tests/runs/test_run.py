"""Where a run's stages lie, the config beside each, and what each stage reads."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sc2jax.checkpoint.progress import Progress, describe
from sc2jax.config import PathsConfig, Settings, load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.feed.config import FeedConfig
from sc2jax.model.config import ModelConfig
from sc2jax.records.manifest import Manifest, commit, read_manifest, write_output
from sc2jax.records.stage import Stage
from sc2jax.runs.inputs import FOLLOWS, input_digests, stage_digest
from sc2jax.runs.model_checkpoint import PARAMETERS
from sc2jax.runs.results import read_samples
from sc2jax.runs.run import Run, absolute_sources, open_run, say, source_folders
from sc2jax.runs.tokenizer_file import tokenizer_path
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.train_tokenizer import train_tokenizer


def settings(**paths: str) -> Settings:
    return dataclasses.replace(Settings(), paths=PathsConfig(**paths))


def stage(run: Run, name: str, content: bytes = b"x", inputs: dict[str, str] | None = None):
    def write(folder: str):
        return [write_output(folder, "file", content)], {}

    return run.do(Stage(name, 1, {"seed": 0}, inputs or {}, write))


def test_stages_lie_in_the_working_folder_unless_paths_name_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = open_run(settings(corpus="elsewhere/corpus", train="file:///bucket/train"), "work")
    assert run.folder("corpus") == f"{tmp_path}/elsewhere/corpus"
    assert run.folder("train") == "file:///bucket/train"
    assert run.folder("tokenizer") == f"{tmp_path}/work/tokenizer"
    assert run.folder("evaluate/infilling") == f"{tmp_path}/work/evaluate/infilling"


@pytest.mark.parametrize(
    "paths",
    [
        {"corpus": "foo://x"},
        {"tokenizer": "foo://x"},
        {"tokenize": "foo://x"},
        {"train": "foo://x"},
        {"start": "foo://x"},
        {"heldout": "foo://x"},
    ],
)
def test_a_folder_of_an_unknown_kind_is_refused(paths, tmp_path):
    with pytest.raises(UserError, match="foo://x cannot be opened"):
        open_run(settings(**paths), str(tmp_path))


def test_a_stage_is_done_once_and_its_config_stands_beside_it(tmp_path, capsys):
    run = open_run(settings(source=" a , b ,"), str(tmp_path / "run"))
    stage(run, "corpus")
    assert "complete already" not in capsys.readouterr().out
    stage(run, "corpus")
    assert "complete already" in capsys.readouterr().out
    config = json.loads((tmp_path / "run/corpus/config.json").read_text())
    assert [part.rpartition("/")[2] for part in config["paths"]["source"].split(",")] == ["a", "b"]
    assert all(part.startswith("/") for part in config["paths"]["source"].split(","))
    assert config["paths"]["corpus"] == ""


@pytest.mark.parametrize("name", ["start", "heldout"])
def test_what_other_runs_wrote_is_named_by_its_whole_path(tmp_path, monkeypatch, name):
    """So that the config can be run again from another folder."""
    monkeypatch.chdir(tmp_path)
    stage(open_run(settings(**{name: "base/corpus"}), str(tmp_path / "run")), "corpus")
    assert json.loads((tmp_path / "run/corpus/config.json").read_text())["paths"][name] == f"{tmp_path}/base/corpus"


def test_a_stage_that_is_complete_keeps_the_config_that_made_it(tmp_path):
    stage(open_run(settings(source="a"), str(tmp_path)), "corpus")
    before = (tmp_path / "corpus/config.json").read_bytes()
    stage(open_run(settings(source="b"), str(tmp_path)), "corpus")
    assert (tmp_path / "corpus/config.json").read_bytes() == before


def test_a_saved_config_names_the_folders_that_were_read_and_no_others(tmp_path):
    run = open_run(Settings(), str(tmp_path))
    stage(run, "complete", inputs={"corpus/issues": "1", "train": "2"})
    saved = to_settings(load_config(str(tmp_path / "complete/config.json")))
    assert saved.paths == PathsConfig(corpus=f"{tmp_path}/corpus", train=f"{tmp_path}/train")


def test_a_line_about_a_stage_names_the_folder_that_it_filled(capsys):
    say("3 files", "run/corpus")
    say("done")
    assert capsys.readouterr().out == "      3 files -> run/corpus\n      done\n"


def test_sources_are_parted_by_commas():
    assert source_folders(settings(source=" one, two ,,three")) == ["one", "two", "three"]
    assert source_folders(settings(source=" , ")) == []


def test_a_file_names_sources_whatever_their_paths(tmp_path):
    listed = tmp_path / "lists/sources.txt"
    listed.parent.mkdir()
    listed.write_bytes(b"# comment\n/abs/a,b\n\nrelative c\r\n\xff\n")
    given = settings(source=f"one,@{listed},two")
    folder = f"{tmp_path}/lists"
    assert source_folders(given) == ["one", "/abs/a,b", f"{folder}/relative c", f"{folder}/\udcff", "two"]
    here = Path.cwd()
    assert absolute_sources(given) == f"{here}/one,@{listed},{here}/two"
    with pytest.raises(UserError, match=r"paths\.source names @.*none\.txt, which cannot be read: No such file"):
        source_folders(settings(source=f"@{tmp_path}/none.txt"))


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    text = "def f(x):\n    return x + 1\n" * 20
    return train_tokenizer([text, text.replace("f", "gh")], TokenizerConfig(vocab_size=320), 0)


def train(run: Run):
    """A model's folder: its manifest, and a checkpoint that says the same of the parameters."""
    described = describe(Progress(7, "key"), {"params": {"a": 1}})
    write_output(run.folder("train"), "checkpoints/7/progress/metadata", json.dumps(described).encode())
    statistics = {"parameters": 1, "steps": 7, "tokens": 1}
    parameters = write_output(run.folder("train"), PARAMETERS, b'{"a": 1}')
    return commit(run.folder("train"), Manifest("convert", {}, {"model": {}}, (parameters,), statistics))


def test_a_stage_depends_on_the_stages_before_it(tmp_path, tokenizer):
    run = open_run(Settings(), str(tmp_path))
    with pytest.raises(UserError, match=r"corpus holds no manifest\.json"):
        input_digests(run, "tokenizer")
    corpus = stage(run, "corpus")
    assert input_digests(run, "tokenizer") == {"corpus": corpus.digest}
    assert stage(run, "corpus").digest == corpus.digest

    run.do(Stage("tokenizer", 1, {}, {}, lambda folder: ([write_output(folder, "tokenizer.model", tokenizer)], {})))
    assert tokenizer_path(run) == f"{tmp_path}/tokenizer/tokenizer.model"
    written = hashlib.sha256(tokenizer).hexdigest()
    assert input_digests(run, "tokenize") == {"corpus": corpus.digest, "tokenizer": written}
    tokens = stage(run, "tokenize")
    mixture = input_digests(run, "train").pop("mixture")
    assert input_digests(run, "train") == {
        "mixture": mixture,
        "corpus": corpus.digest,
        "tokenizer": written,
        "tokenize": tokens.digest,
    }
    trained = train(run)
    assert input_digests(run, "evaluate/decoding") == {"tokenizer": written, "train": trained.digest}
    for name in ("evaluate/bits_per_byte", "evaluate/infilling", "complete"):
        assert input_digests(run, name) == {
            "corpus": corpus.digest,
            "tokenizer": written,
            "train": stage_digest(trained),
        }


def test_training_depends_on_what_the_mixture_says_and_its_tokens_do_not(tmp_path, tokenizer):
    mixture = tmp_path / "mine.json"
    feed = FeedConfig(mixture=str(mixture))
    run = open_run(dataclasses.replace(Settings(), feed=feed), str(tmp_path))
    stage(run, "corpus")
    run.do(Stage("tokenizer", 1, {}, {}, lambda folder: ([write_output(folder, "tokenizer.model", tokenizer)], {})))
    tokens = stage(run, "tokenize")
    found, before = [], []
    for epochs in (1, 2):
        mixture.write_text(json.dumps({"sources": [{"name": "a", "format": "file", "share": 1, "max_epochs": epochs}]}))
        found.append(input_digests(run, "train"))
        before.append(input_digests(run, "tokenize"))
        assert found[-1]["tokenize"] == tokens.digest
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"mixture"}
    assert before[0] == before[1]
    assert set(before[0]) == {"corpus", "tokenizer"}


def test_where_the_corpus_is_gone_its_tokens_say_what_they_were_made_of(tmp_path, tokenizer):
    run = open_run(Settings(), str(tmp_path))
    corpus = stage(run, "corpus")
    run.do(Stage("tokenizer", 1, {}, {}, lambda folder: ([write_output(folder, "tokenizer.model", tokenizer)], {})))
    expected = input_digests(run, "tokenize")
    made = Stage("tokenize", 1, {}, expected, lambda folder: ([write_output(folder, "tokens", b"x")], {}))
    shutil.rmtree(tmp_path / "corpus")
    with pytest.raises(UserError, match=r"corpus holds no manifest\.json"):
        input_digests(run, "tokenize")
    run.do(made)
    assert input_digests(run, "tokenize") == expected
    assert input_digests(run, "train")["corpus"] == corpus.digest
    # Of another mixture's datasets they say nothing.
    (tmp_path / "mine.json").write_text(
        json.dumps({"sources": [{"name": "a", "folder": "elsewhere", "format": "file", "share": 1}]})
    )
    other = open_run(
        dataclasses.replace(Settings(), feed=FeedConfig(mixture=str(tmp_path / "mine.json"))), str(tmp_path)
    )
    with pytest.raises(UserError, match="the corpus lacks 1"):
        input_digests(other, "tokenize")


def test_what_a_model_does_depends_on_its_shape_too(tmp_path):
    digests = set()
    for number, window in enumerate((0, 64)):
        run = open_run(Settings(), str(tmp_path / str(number)))
        stage(run, "corpus")
        model = ModelConfig(vocab_size=8, context_length=64, window=window)
        run.do(Stage("train", 1, {"model": model}, {}, lambda folder: ([write_output(folder, "weights", b"same")], {})))
        digests.add(stage_digest(read_manifest(run.folder("train"))))
    assert len(digests) == 2


@pytest.mark.parametrize("damage", [None, b"", b"[1]"])
def test_a_stage_whose_config_is_gone_or_changed_is_done_again(tmp_path, damage):
    run = open_run(Settings(), str(tmp_path))
    stage(run, "corpus")
    path = tmp_path / "corpus/config.json"
    before = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage)
    stage(run, "corpus")
    assert path.read_bytes() == before


def test_the_report_reads_every_stage(tmp_path):
    assert set(FOLLOWS["report"]) == {
        "corpus", "tokenizer", "train", "evaluate/bits_per_byte", "evaluate/infilling", "evaluate/decoding", "complete"
    }  # fmt: skip


def test_a_tokenizer_may_be_a_file(tmp_path):
    run = open_run(settings(tokenizer=str(tmp_path / "mine.json")), str(tmp_path))
    assert tokenizer_path(run) == str(tmp_path / "mine.json")


def test_a_tokenizer_stage_without_a_tokenizer_is_named(tmp_path):
    run = open_run(Settings(), str(tmp_path))
    run.do(Stage("tokenizer", 1, {}, {}, lambda _: ([], {})))
    with pytest.raises(UserError, match="names no tokenizer"):
        tokenizer_path(run)


@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_a_damaged_result_is_named(tmp_path, content):
    run = open_run(Settings(), str(tmp_path))
    run.do(Stage("complete", 1, {}, {}, lambda at: ([write_output(at, "samples.json", b"[]")], {})))
    assert read_samples(run) == []
    if content is None:
        (tmp_path / "complete/samples.json").unlink()
    else:
        (tmp_path / "complete/samples.json").write_bytes(content)
    with pytest.raises(UserError, match=r"samples\.json is (missing|not what its stage wrote)"):
        read_samples(run)


def test_whatever_an_object_stores_package_raises_is_one_message(monkeypatch):
    def fail(path: str) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(UserError, match="gs://bucket cannot be opened: no credentials"):
        open_run(Settings(), "gs://bucket")
