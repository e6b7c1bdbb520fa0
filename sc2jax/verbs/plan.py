"""Plans a training on a TPU slice without one: compiles its very step, and tells what it takes.

`sc2jax plan --config=starcoder2:15b,stage=base --config.plan.slice=v5p-512` says whether it fits, how long a step takes
and where the time goes, what share of the peak that is, and with `plan.price` what the training costs; it writes
`plan/`: plan.json, plan.txt with what it says, and a page with the timeline of one layer. With `mesh.slices` it plans
for several slices. `--search` looks for the fastest mesh, rematerialization and rows a device, each with the command
that trains so; `--measured FILE` compares with what perf/on_tpu.py measured. Needs libtpu: pip install "sc2jax[plan]",
on Linux and x86-64. What the estimate counts and what it leaves out stands in docs/planning.md.
"""

import dataclasses
import importlib.metadata
import json
import os
import shlex
import tempfile
from collections.abc import Sequence

import sc2jax
from sc2jax.config import CONFIG_FILE, Settings
from sc2jax.errors import UserError
from sc2jax.model.config import ModelConfig
from sc2jax.parallel.compilation_cache import OFF, default_folder
from sc2jax.plan.compilation import PlannedStep, TooLarge
from sc2jax.plan.environment import compute_on_cpu
from sc2jax.plan.measured import compared, read_measured
from sc2jax.plan.page import render_page
from sc2jax.plan.planning import Plan, make_plan, plan_json
from sc2jax.plan.search import pareto, search
from sc2jax.plan.slices import Slice, find_slice
from sc2jax.plan.summary import ranking, refusal, summary
from sc2jax.records.manifest import canonical_json, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.run import Run, open_run, say
from sc2jax.storage import join

VERSION = 2
JSON, TEXT, PAGE = "plan.json", "plan.txt", "index.html"
COMPILERS = ("jax", "jaxlib", "libtpu")
"""The packages whose versions decide what a step is compiled to."""


def run(settings: Settings, workdir: str) -> None:
    """Plans the run's training."""
    compute_on_cpu()
    this = open_run(settings, workdir)
    slice_, step = find_slice(settings.plan.slice), planned_step(settings)
    if settings.plan.search and settings.plan.measured:
        raise UserError("--search finds another step than was measured: search first, then measure what it has found")
    measured = read_measured(settings.plan.measured, step, slice_) if settings.plan.measured else None

    told: list[str] = []

    def write(unfinished: str) -> Written:
        plan, found = _planned(this, step, slice_)
        told.extend([*found, *summary(plan)])
        _say_all(told)  # before anything is written: the disk may be full
        contents = {
            JSON: canonical_json(plan_json(plan), indent=1),
            TEXT: "".join(f"{line}\n" for line in told),
            PAGE: render_page(plan, sc2jax.__version__),
        }
        return [write_output(unfinished, name, content.encode()) for name, content in contents.items()], {}

    sections = {"slice": slice_.name, "version": sc2jax.__version__, **dataclasses.asdict(step)}
    sections |= {"price": settings.plan.price, "whole": settings.plan.whole, "search": settings.plan.search}
    sections |= {"compilers": _versions(COMPILERS)}
    manifest, folder = this.do(Stage("plan", VERSION, sections, {}, write)), this.folder("plan")
    if not told:  # it was planned before, and whoever asks again wants the answer again
        _say_all(read_output(folder, manifest, TEXT).decode().splitlines())
    for line in compared(measured, json.loads(read_output(folder, manifest, JSON))) if measured is not None else ():
        say(line)
    say("a plan as numbers and as a page", join(folder, PAGE))


def planned_step(settings: Settings) -> PlannedStep:
    """The step of a training, whose vocabulary is that of the tokenizer that is to be made where none is named."""
    vocabulary = settings.model.vocab_size or settings.tokenizer.vocab_size
    model: ModelConfig = dataclasses.replace(settings.model, vocab_size=vocabulary)
    return PlannedStep(model, settings.adapters, settings.training, settings.mesh, settings.seed)


def _planned(run: Run, step: PlannedStep, slice_: Slice) -> tuple[Plan, Sequence[str]]:
    """The plan, of a search the fastest, and what else such has found."""
    settings, named = run.settings.plan, run.settings.paths.compilation_cache
    kept = join(named, "kernels") if named else default_folder(os.environ, "kernels")
    with tempfile.TemporaryDirectory() as scratch:
        cache = scratch if named == OFF else kept
        if settings.search:
            ranked = search(step, slice_, price=settings.price, whole=settings.whole, cache=cache, tell=say)
            saved = shlex.quote(join(run.folder("plan"), CONFIG_FILE))
            return ranked[0].plan, list(ranking(pareto(ranked), f"sc2jax train --config={saved} --workdir=DIR"))
        plan = make_plan(step, slice_, price=settings.price, whole=settings.whole, cache=cache, tell=say)
    if isinstance(plan, TooLarge):
        raise UserError(refusal(plan, step, slice_))
    return plan, ()


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {each.name: each.version for name in packages for each in importlib.metadata.distributions(name=name)}
    return dict(sorted(found.items()))
