"""What the verb does around a plan, without a compiler."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from plan_by_hand import plan_by_hand, planned_step

from sc2jax.cli import main, parse
from sc2jax.config import to_settings
from sc2jax.plan import search as search_module
from sc2jax.plan.compilation import TooLarge
from sc2jax.plan.planning import make_plan
from sc2jax.plan.slices import find_slice
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


def test_each_way_that_a_search_finds_has_the_command_that_trains_so(tmp_path, capsys, monkeypatch):
    found = []

    def plan_of(step, _slice, **_):
        plan = plan_by_hand(step=dataclasses.replace(planned_step(mesh={"data": 2}), seed=step.seed))
        memory = dataclasses.replace(plan.figures.memory, beside=2**30 - len(found))  # so that no other is as good
        time = dataclasses.replace(plan.figures.time, exposed=plan.figures.time.exposed * (1 + len(found) / 100))
        found.append(step)
        return dataclasses.replace(plan, figures=dataclasses.replace(plan.figures, memory=memory, time=time))

    monkeypatch.setattr(search_module, "make_plan", plan_of)
    status, printed, errors = run(tmp_path, capsys, "--search", "--config.model.num_layers=4")
    assert (status, errors) == (0, "")
    commands = re.findall(r"sc2jax (train .*)", printed.replace("\N{NO-BREAK SPACE}", " "))
    assert len(commands) == len(found) == 6
    for command, step in zip(commands, found, strict=True):
        verb_name, *arguments = shlex.split(command)
        _, config, _ = parse(verb_name, arguments)
        assert verb.planned_step(to_settings(config)) == step


@pytest.mark.parametrize(("unroll", "layers"), [(1, 4), (2, 40)])
def test_layers_that_share_a_turn_of_their_loop_are_compiled_whole(monkeypatch, unroll, layers):
    asked = []

    def compiled_by(step, _slice):
        asked.append(step.model.num_layers)
        return TooLarge(2, 1, "hbm", step.model.num_layers)

    step = planned_step(scan_unroll=unroll)
    make_plan(step, find_slice("v5p-512"), price=0, whole=False, cache="", tell=lambda _: None, compiled_by=compiled_by)
    assert asked == [layers]
