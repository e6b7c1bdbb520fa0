"""Ablations from the command line: the page and the table that they leave, and how they go on."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sc2jax.cli import main
from sc2jax.config import load_config, to_settings
from sc2jax.locks import holder, locked
from sc2jax.records.manifest import read_manifest
from sc2jax.runs.sharing import SHARED, stage_sections

VARIANTS = '["gqa:", "bad: mesh.data=3", "mqa: model.num_kv_heads=1 corpus.heldout_fraction=0.0"]'
"""The last one holds nothing out by itself: all that the base does would be trained on."""


@pytest.fixture(scope="session")
def arguments(small, small_source) -> Callable[..., list[str]]:
    """The command line of an ablation at the smallest scale."""

    def arguments(workdir: Path | str, **config: str) -> list[str]:
        given = small | {"paths.source": small_source, "ablation.variants": VARIANTS} | config
        return ["ablate", *(f"--config.{key}={value}" for key, value in given.items()), f"--workdir={workdir}"]

    return arguments


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    printed, errors = capsys.readouterr()
    return int(exit_info.value.code or 0), printed, errors


def test_printed_commands_leave_nothing_but_the_base_config(arguments, tmp_path, capsys):
    status, printed, _ = run(arguments(tmp_path / "w", **{"ablation.print_commands": "true"}), capsys)
    assert status == 0
    verbs = [line.split()[1] for line in printed.splitlines()]
    assert verbs == [*2 * ["curate"], *2 * ["tokenizer"], *2 * ["tokenize"], *3 * ["train"]]
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["base.json"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ablation.variants": "()"}, "names no runs"),
        ({"ablation.variants": '["a: model.heads=1"]'}, "there is no config key 'model.heads'; did you mean"),
        ({"ablation.variants": '["a:", "b: model.num_kv_heads=2"]'}, "a and b come to the same settings"),
        ({"ablation.seeds": "1,1"}, "ablation.seeds names 1 twice"),
    ],
)
def test_what_cannot_be_run_is_one_message_and_nothing_is_written(arguments, tmp_path, capsys, config, message):
    status, printed, errors = run(arguments(tmp_path / "w", **config), capsys)
    assert (status, printed) == (2, "")
    assert errors.startswith("sc2jax ablate: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_runs_are_not_done_in_an_object_store(arguments, capsys, tmp_path):
    status, _, errors = run(arguments(f"file://{tmp_path}/w"), capsys)
    assert status == 2
    assert "is no folder of this machine" in errors


def test_who_finds_the_folder_at_work_changes_nothing_in_it(arguments, capsys, tmp_path):
    """Otherwise the ablation that is at work would be another one's from then on."""
    run(arguments(tmp_path, **{"ablation.print_commands": "true"}), capsys)
    before = (tmp_path / "base.json").read_bytes()
    more = VARIANTS.replace("]", ', "more: model.num_layers=2"]')
    with locked(str(tmp_path / "lock"), "it"):
        status, _, errors = run(arguments(tmp_path, **{"ablation.variants": more}), capsys)
    assert status == 2
    assert "is being written by process" in errors
    assert (tmp_path / "base.json").read_bytes() == before


@pytest.mark.parametrize(
    ("workdir", "message"), [("frob://x/y", "frob keeps no files"), ("{file}/w", "{file} is a file and cannot hold")]
)
def test_where_no_folder_can_be_is_one_message(arguments, capsys, tmp_path, workdir, message):
    (tmp_path / "file").touch()
    status, _, errors = run(arguments(workdir.format(file=tmp_path / "file")), capsys)
    assert status == 2
    assert message.format(file=tmp_path / "file") in errors


@pytest.mark.parametrize("name", ["logs", "runs", "shared"])
def test_a_file_in_the_place_of_a_folder_is_one_message(arguments, capsys, tmp_path, name):
    (tmp_path / name).write_text("x")
    status, _, errors = run(arguments(tmp_path), capsys)
    assert status == 2
    assert f"{tmp_path / name} is a file" in errors
    assert (tmp_path / name).read_text() == "x"
    assert not (tmp_path / "base.json").exists()


def test_the_settings_that_stages_were_made_with_are_those_that_runs_are_compared_by(trained, inputs):
    """Otherwise two runs might share what is not the same."""
    settings = to_settings(load_config(f"{trained}/train/config.json"))
    folders = {"tokenize": f"{trained}/tokenize"} | {stage: inputs[f"paths.{stage}"] for stage in SHARED[:2]}
    for stage in SHARED:
        made_of = read_manifest(folders[stage]).config
        compared = json.loads(json.dumps(stage_sections(settings, stage)))
        for name, part in json.loads(json.dumps(made_of)).items():
            if isinstance(part, dict) and name not in ("fim", "sources"):
                assert part.items() <= compared[name].items(), (stage, name)
            else:
                assert part == compared[name], (stage, name)


@pytest.mark.slow
def test_an_ablation_is_interrupted_and_goes_on_past_a_run_that_fails(arguments, tmp_path, capsys):
    workdir = tmp_path / "w"
    given = arguments(workdir, **{"ablation.seeds": "0,1"})
    _interrupt_in_training(given, workdir)
    assert not (workdir / "report").exists()

    status, printed, errors = run(given, capsys)
    assert status == 2
    assert "[1/" not in printed  # what was done stays done
    assert "2 of 6 runs have no results" in errors
    assert "bad-seed0: sc2jax train: mesh " in errors
    assert f"{workdir}/logs/bad-seed0-train.log" in errors
    rows = list(csv.DictReader((workdir / "report" / "results.csv").open()))
    assert [(row["label"], row["seed"]) for row in rows] == [("gqa", "0"), ("gqa", "1"), ("mqa", "0"), ("mqa", "1")]
    for row in rows:
        assert 0 < float(row["bits_per_byte"]) < 20
        assert float(row["peak_bytes"]) > 50e6
        assert int(float(row["tokens"])) <= 5 * 8 * 32
    assert float(rows[2]["cache_bytes"]) < float(rows[0]["cache_bytes"])
    assert rows[0]["bits_per_byte"] != rows[1]["bits_per_byte"]
    page = (workdir / "report" / "index.html").read_text()
    assert "Difference to gqa" in page
    assert "bad-seed1" in page
    _were_scored_on_the_same(workdir)

    before = (workdir / "report" / "results.csv").read_bytes()
    status, printed, _ = run(given, capsys)
    assert status == 2
    assert "gqa-seed0" not in printed.replace("gqa:", "")
    assert "bad-seed0-train" in printed  # which is tried again
    assert (workdir / "report" / "results.csv").read_bytes() == before


def _interrupt_in_training(given: list[str], workdir: Path) -> None:
    """Sends SIGINT to the ablation alone while its first run trains, whose process has to end with it."""
    process = subprocess.Popen([sys.executable, "-m", "sc2jax.cli", *given], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "gqa-seed0-train" in line:
            break
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait() == 130
    assert holder(f"{workdir}/runs/gqa-seed0/train/.sc2jax/lock") is None


def _were_scored_on_the_same(workdir: Path) -> None:
    scores = [
        json.loads((workdir / f"runs/{name}/evaluate/bits_per_byte/scores.json").read_text())
        for name in ("gqa-seed0", "gqa-seed1", "mqa-seed0", "mqa-seed1")
    ]
    assert len({(score["total"]["files"], score["total"]["bytes"]) for score in scores}) == 1
    assert [score.get("corpus", {}).get("left_out") for score in scores] == [None, None, 0, 0]
