"""What the verb does around a plan, without a compiler."""

import dataclasses
from pathlib import Path

import pytest
from plan_by_hand import plan_by_hand, planned_step

from sc2jax.cli import main
from sc2jax.verbs import plan as verb


def run(tmp_path, capsys, *flags: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        main(["plan", "--config.plan.slice=v5e-4", *flags, f"--workdir={tmp_path / 'w'}"])
    printed, errors = capsys.readouterr()
    return int(exit_info.value.code or 0), printed, errors


@pytest.fixture
def planned(monkeypatch) -> list[dict]:
    """What was asked of `make_plan`, which compiles nothing and says one plan of all."""
    asked: list[dict] = []

    def make_plan(step, _slice, **others):
        asked.append(others)
        return plan_by_hand(step=dataclasses.replace(planned_step(mesh={"data": 2}), seed=step.seed))

    monkeypatch.setattr(verb, "make_plan", make_plan)
    return asked


def test_the_answer_is_told_again_and_planned_anew_for_another_compiler(tmp_path, capsys, planned, monkeypatch):
    status, printed, errors = run(tmp_path, capsys)
    assert (status, errors) == (0, "")
    answer = printed[: printed.index("a plan as numbers")]
    assert "fits" in answer

    _, again, _ = run(tmp_path, capsys)
    assert len(planned) == 1
    assert answer in again
    text = (tmp_path / "w/plan/plan.txt").read_text()
    assert text.split() == answer[answer.index(text.split()[0]) :].split()

    monkeypatch.setattr(verb, "_versions", lambda _: {"libtpu": "1.0"})
    run(tmp_path, capsys)
    assert len(planned) == 2


@pytest.mark.parametrize(("named", "folder"), [("", "cache/sc2jax/kernels"), ("named", "named/kernels"), ("off", "")])
def test_what_is_found_of_kernels_is_kept_where_programs_are(tmp_path, capsys, planned, monkeypatch, named, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = str(tmp_path / named) if named == "named" else named
    status, _, errors = run(tmp_path, capsys, f"--config.paths.compilation_cache={path}")
    assert (status, errors) == (0, "")
    if folder:
        assert planned[0]["cache"] == str(tmp_path / folder)
    else:
        assert not Path(planned[0]["cache"]).exists(), "nothing is kept"
