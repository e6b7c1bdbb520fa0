"""Something else where a folder is expected: one message names the path, what it is, and what to do."""

import os
from pathlib import Path

import pytest

from sc2jax.verbs import VERBS

FOLDERS = ("--workdir", "paths.corpus", "paths.tokenizer", "paths.tokenize", "paths.train")


def file(at: Path) -> str:
    at.write_text("mine")
    return f"{at} is a file;"


def pipe(at: Path) -> str:
    os.mkfifo(at)
    return f"{at} is a pipe;"


def link_to_nothing(at: Path) -> str:
    at.symlink_to(at.with_name("gone"))
    return f"{at} is a link to what does not exist;"


def link_to_itself(at: Path) -> str:
    at.symlink_to(at)
    return f"{at} is no path that can be followed"


def link_to_a_pipe(at: Path) -> str:
    pipe(at.with_name("pipe"))
    at.symlink_to(at.with_name("pipe"))
    return f"{at} is a pipe;"


def below_a_file(at: Path) -> str:
    at.parent.rmdir()
    at.parent.write_text("mine")
    return f"{at.parent} is a file and cannot hold {at};"


def unreadable(at: Path) -> str:
    at.mkdir(mode=0o000)
    return f"{at} is a folder that this user may not read;"


KINDS = (file, pipe, link_to_nothing, link_to_itself, link_to_a_pipe, below_a_file, unreadable)


def state(path: Path) -> tuple[int, ...]:
    found = (path if path.parent.is_dir() else path.parent).lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes something of a kind in a folder of its own; its path, and what is said of it."""
    may = os.access
    # Root, who may run the tests, may read everything.
    monkeypatch.setattr(os, "access", lambda path, how: may(path, how) and Path(path).stat().st_mode & 0o777 != 0)

    def make(kind) -> tuple[Path, str]:
        parent = tmp_path / str(len(list(tmp_path.iterdir())))
        parent.mkdir()
        return parent / "odd", kind(parent / "odd")

    return make


@pytest.fixture
def refused(start, capsys, tmp_path):
    """The message in which a verb ends."""

    def refused(verb: str, workdir: Path = tmp_path / "run", **config) -> str:
        assert start(verb, workdir, **config) == 2
        (message,) = capsys.readouterr().err.splitlines()
        return message

    return refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_it_for_a_folder(make, refused, verb, kind):
    for key in FOLDERS:
        path, what = make(kind)
        before = state(path)
        message = refused(verb, path) if key == "--workdir" else refused(verb, **{key: path})
        assert f"{key}: {what}" in message
        assert "name a folder" in message
        assert state(path) == before


@pytest.mark.parametrize("kind", KINDS)
def test_convert_takes_it_for_no_model_and_no_place_for_one(make, refused, trained, inputs, kind):
    path, what = make(kind)
    assert f"convert.from_huggingface: {what}" in refused("convert", **{"convert.from_huggingface": path})
    if kind not in (link_to_nothing, link_to_itself):  # a link says where to put it
        assert what in refused("convert", trained, **{"convert.to_huggingface": path, **inputs})


@pytest.mark.parametrize("kind", KINDS)
def test_curate_takes_it_for_no_source(make, refused, kind):
    path, _ = make(kind)
    message = refused("curate", **{"paths.source": path})
    assert str(path) in message
    assert "name a folder" in message


@pytest.mark.parametrize("kind", [file, pipe, link_to_nothing, link_to_itself, unreadable])
def test_a_stage_of_the_workdir_is_named_too(make, refused, tmp_path, kind, measured, inputs):
    for verb, name in (("complete", "complete"), ("evaluate", "evaluate/infilling"), ("report", "evaluate/infilling")):
        run = tmp_path / verb
        (run / name).parent.mkdir(parents=True)
        (run / "train").symlink_to(measured / "train")
        if verb != "complete":
            (run / "evaluate/bits_per_byte").symlink_to(measured / "evaluate/bits_per_byte")
        assert kind(run / name) in refused(verb, run, **inputs)


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize(
    ("verb", "key"),
    [
        ("tokenizer", "paths.corpus"),
        ("tokenize", "paths.corpus"),
        ("show", "paths.corpus"),
        ("train", "paths.tokenizer"),
        ("evaluate", "paths.train"),
        ("complete", "paths.train"),
        ("convert", "paths.train"),
        ("report", "paths.train"),
    ],
)
def test_an_empty_or_a_missing_folder_holds_no_stage(refused, inputs, tmp_path, verb, key, empty):
    path = tmp_path / "odd"
    if empty:
        path.mkdir()
    config = {**inputs, key: path} | ({"convert.to_huggingface": tmp_path / "out"} if verb == "convert" else {})
    message = refused(verb, **config)
    assert f"{path} holds no manifest.json: " in message
    if verb not in ("show", "tokenize"):  # these ask the feed, which knows no verbs
        made_by = "curate" if key == "paths.corpus" else key.removeprefix("paths.")
        assert f": `sc2jax {made_by}` was not run or did not finish; run it, or name a folder that it" in message
        assert f"with --config.{key}=DIR" in message
    assert not path.exists() or not list(path.iterdir())
