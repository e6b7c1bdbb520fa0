"""Whatever lies around or in the folders that verbs write to is afterwards as it was, byte for byte."""

import random
import shutil
from pathlib import Path

import pytest

VERBS = ("curate", "tokenizer", "tokenize", "train", "evaluate", "complete", "report")
FOLDERS = {
    "curate": "corpus",
    "tokenizer": "tokenizer",
    "tokenize": "tokenize",
    "train": "train",
    "evaluate": "evaluate/infilling",
    "complete": "complete",
    "report": "report",
}
NAMES = (
    "part-notes.txt",
    "part-00000.snappy.parquet",
    "train/part-00000-0123456789abcdef.parquet",
    "train/.part.7.unfinished",
    "heldout/mine.txt",
    "stages/files/.0123456789abcdef.unfinished/x",
    "notes.unfinished/x",
    "checkpoints.bak/5/params/x",
    ".hidden",
    "mine/manifest.json",
)


def plant(folder: Path, chance: random.Random, count: int) -> dict[Path, bytes]:
    planted = {}
    for name in chance.sample(NAMES, count):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        planted[path] = name.encode()
    return planted


@pytest.mark.parametrize("seed", range(2))
def test_foreign_files_around_and_inside_stay(tmp_path, small_source, start, seed):
    chance, run = random.Random(seed), tmp_path / "run"
    planted = plant(run / "mine", chance, 5)
    for verb, folder in FOLDERS.items():
        planted |= plant(run / f"{folder}.unfinished", chance, 2)
        assert start(verb, run, **{"paths.source": small_source}) == 0, verb
        planted |= plant(run / folder, chance, 4)
    other = {
        "corpus.heldout_fraction": 0.0,
        "corpus.part_bytes": 900,
        "tokenizer.vocab_size": 341,
        "tokenize.renderings": 2,
    }
    for verb in ("curate", "tokenizer", "tokenize"):
        assert start(verb, run, **{"paths.source": small_source, **other}) == 0
    assert not list((run / "corpus/heldout").glob("part-?????-*.parquet"))
    shutil.rmtree(run / "train")  # another run in its place would be refused
    planted = {path: content for path, content in planted.items() if not path.is_relative_to(run / "train")}
    for verb in ("train", "evaluate", "complete", "report"):
        start(verb, run, **{"paths.source": small_source, **other})
    assert {path: path.read_bytes() for path in planted} == planted


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_with_foreign_files_alone_is_refused_untouched(tmp_path, small_source, start, verb, capsys):
    run = tmp_path / "run"
    for before in VERBS[: VERBS.index(verb)]:
        assert start(before, run, **{"paths.source": small_source}) == 0
    folders = ("evaluate/bits_per_byte",) if verb == "evaluate" else (FOLDERS[verb],)
    planted = {}
    for folder in folders:
        planted |= plant(run / folder, random.Random(1), len(NAMES) - 1)
    capsys.readouterr()
    assert start(verb, run, **{"paths.source": small_source}) == 2
    assert "holds files that are not ours" in capsys.readouterr().err
    found = {path for folder in folders for path in (run / folder).rglob("*") if path.is_file()}
    assert found == planted.keys()
    assert {path: path.read_bytes() for path in planted} == planted


def test_convert_touches_nothing_of_what_is_there(tmp_path, trained, inputs, start, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for name in ("export.unfinished/theirs", "export.x/theirs"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    out = {"convert.to_huggingface": tmp_path / "export", **inputs}
    assert start("convert", run, **out) == 0
    exported = sorted(path.name for path in (tmp_path / "export").iterdir())
    assert start("convert", run, **out) == 2
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == exported
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "export.unfinished", "export.x", "run"]
    planted = plant(tmp_path / "again/train", random.Random(3), 4)
    assert start("convert", tmp_path / "again", **{"convert.from_huggingface": tmp_path / "export"}) == 2
    assert {path: path.read_bytes() for path in planted} == planted
