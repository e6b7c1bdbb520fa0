"""A bit flipped anywhere in a run: an error in one message, or the very result of the whole run; never another one."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

RESULTS = ("evaluate/bits_per_byte/scores.json", "evaluate/infilling/scores.json", "complete/samples.json")
FLIPS = int(os.environ.get("SC2JAX_FLIPS", "8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_source, start) -> Path:
    run = tmp_path_factory.mktemp("flipped") / "run"
    for verb in ("curate", "tokenizer", "train", "evaluate", "complete", "report"):
        assert start(verb, run, **{"paths.source": small_source}) == 0
    return run


def results(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in RESULTS}


def flip(run: Path, chance: random.Random) -> Path:
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return file


def try_flips(count: int, seed: int, whole: Path, folder: Path, start: Callable[..., int]) -> None:
    """Each flip is followed by the verbs that read what was flipped, all with their work to be done again."""
    chance, expected = random.Random(seed), results(whole)
    for number in range(count):
        run = folder / str(number)
        shutil.copytree(whole, run)
        if number % 2:
            shutil.rmtree(run / "evaluate")
            shutil.rmtree(run / "complete")
        flipped = flip(run, chance).relative_to(run)
        statuses = [start(verb, run) for verb in ("train", "evaluate", "complete", "report")]
        assert set(statuses) <= {0, 2}, flipped
        if statuses[1:3] == [0, 0]:
            assert results(run) == expected, flipped
        shutil.rmtree(run)


def test_no_flip_is_silent(whole, tmp_path, start):
    try_flips(FLIPS, 0, whole, tmp_path, start)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_none_of_many_flips_is_silent(whole, tmp_path, start):
    try_flips(10 * FLIPS, 1, whole, tmp_path, start)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_check_finds_what_decides(whole, tmp_path, start, capsys, every):
    """Of files that a manifest lists, of manifests, and of what a checkpoint says: of each, or each eighth."""
    shutil.copytree(whole, tmp_path / "run")
    run = tmp_path / "run"
    assert start("check", run) == 0
    chance = random.Random(2)
    files = [
        path for path in run.rglob("*") if path.is_file() and not {".sc2jax", "tensorboard"}.intersection(path.parts)
    ]
    files = [path for path in files if "checkpoints" not in path.parts or path.parts[-2:] == ("progress", "metadata")]
    files = [path for path in files if path.stat().st_size and not path.name.startswith("_")]
    assert len(files) > 30
    for file in sorted(files)[::every]:
        content = file.read_bytes()
        changed = bytearray(content)
        place = chance.randrange(len(content))
        changed[place] = (
            changed[place] ^ 1 if file.suffix != ".json" else ord("7" if changed[place] != ord("7") else "8")
        )
        file.write_bytes(changed)
        capsys.readouterr()
        assert start("check", run) == 2, (file, place)
        assert "FAULTY" in capsys.readouterr().out
        file.write_bytes(content)
    assert start("check", run) == 0
