"""Plans a training on a TPU slice without one: compiles its very step, and tells what it takes.

`sc2jax plan --config=starcoder2:15b,stage=base --config.plan.slice=v5p-512` says whether it fits, how long a step takes
and where the time goes, what share of the peak that is, and with `plan.price` what the training costs; it writes
`plan/`: plan.json, and a page with the timeline of one layer. With `mesh.slices` it plans for several slices.
`--search` looks for the fastest mesh, rematerialization and rows a device, each with what to add to the command
that trains so; `--measured FILE` compares with what perf/on_tpu.py measured. Needs libtpu: pip install "sc2jax[plan]",
on Linux and x86-64. What the estimate counts and what it leaves out stands in docs/planning.md.
"""

import dataclasses
import json
import os
import tempfile

import sc2jax
from sc2jax.config import Settings
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

VERSION = 1
JSON, PAGE = "plan.json", "index.html"


def run(settings: Settings, workdir: str) -> None:
    """Plans the run's training."""
    compute_on_cpu()
    this = open_run(settings, workdir)
    slice_, step = find_slice(settings.plan.slice), planned_step(settings)
    if settings.plan.search and settings.plan.measured:
        raise UserError("--search finds another step than was measured: search first, then measure what it has found")
    measured = read_measured(settings.plan.measured, step, slice_) if settings.plan.measured else None

    def write(unfinished: str) -> Written:
        plan = _planned(this, step, slice_)
        for line in summary(plan):
            say(line)
        page = render_page(plan, sc2jax.__version__)
        content = canonical_json(plan_json(plan), indent=1).encode()
        return [write_output(unfinished, JSON, content), write_output(unfinished, PAGE, page.encode())], {}

    sections = {"slice": slice_.name, "version": sc2jax.__version__, **dataclasses.asdict(step)}
    sections |= {"price": settings.plan.price, "whole": settings.plan.whole, "search": settings.plan.search}
    manifest, folder = this.do(Stage("plan", VERSION, sections, {}, write)), this.folder("plan")
    for line in compared(measured, json.loads(read_output(folder, manifest, JSON))) if measured is not None else ():
        say(line)
    say("a plan as numbers and as a page", join(folder, PAGE))


def planned_step(settings: Settings) -> PlannedStep:
    """The step of a training, whose vocabulary is that of the tokenizer that is to be made where none is named."""
    vocabulary = settings.model.vocab_size or settings.tokenizer.vocab_size
    model: ModelConfig = dataclasses.replace(settings.model, vocab_size=vocabulary)
    return PlannedStep(model, settings.adapters, settings.training, settings.mesh, settings.seed)


def _planned(run: Run, step: PlannedStep, slice_: Slice) -> Plan:
    settings = run.settings.plan
    with tempfile.TemporaryDirectory() as scratch:
        keeps = run.settings.paths.compilation_cache != OFF
        cache = default_folder(os.environ, "kernels") if keeps else scratch
        if settings.search:
            ranked = search(step, slice_, price=settings.price, cache=cache, tell=say)
            for line in ranking(pareto(ranked)):
                say(line)
            return ranked[0].plan
        plan = make_plan(step, slice_, price=settings.price, whole=settings.whole, cache=cache, tell=say)
    if isinstance(plan, TooLarge):
        raise UserError(refusal(plan, step, slice_))
    return plan
