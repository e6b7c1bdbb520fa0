"""Measures the model: held-out files of the corpus, and benchmarks.

Reads `corpus/`, `tokenizer/` and `train/`; writes a folder a measure below `evaluate/`, each done once: bits per byte,
exact-match infilling and, with `evaluation.decoding_tokens`, what generation costs.

`--config=evaluate:humaneval,mbppplus` measures benchmarks (docs/evaluation.md lists them): `evaluate/NAME/samples` is
what the model wrote, and `evaluate/NAME/verdicts` what the judge said of it in a sandbox, with scores.json and pages.
Another model's samples are judged with `--config.evaluation.samples_file=FILE`; `--compare=RUN,RUN` puts other runs'
scores beside this one's. `--sandbox=N` asks for a rung of the sandbox, `--unsafe` allows none (docs/sandbox.md).
"""

import contextlib
import functools
import os
from collections.abc import Callable

from sc2jax import storage
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.evaluation.comparison import ComparedRun, in_lines, render_comparison
from sc2jax.evaluation.judging.python_judge import judging_limits
from sc2jax.evaluation.judging_samples import open_bench
from sc2jax.evaluation.measures import load
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.model.config import Computation
from sc2jax.parallel.compilation_cache import default_folder, private_folder
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.benchmark_results import read_judged, read_scores_of
from sc2jax.runs.benchmarks import measure, prepare, settled
from sc2jax.runs.inputs import MEASURED, input_digests
from sc2jax.runs.models import open_model
from sc2jax.runs.results import Scores, read_scores, write_scores
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.unseen import Unseen, caveat, unseen_files
from sc2jax.settings import part
from sc2jax.storage import join


def run(settings: Settings, workdir: str) -> None:
    """Does every measure that is asked for and says what it found."""
    this = open_run(settings, workdir)
    model = functools.cache(lambda: open_model(this))  # only opened if a measure has to be taken
    if settings.evaluation.benchmarks:
        _measure_benchmarks(settled(this), model)
    if settings.evaluation.heldout:
        _measure_heldout(this, model)


def _measure_benchmarks(run: Run, model: Callable[[], LoadedModel]) -> None:
    config = run.settings.evaluation
    names = tuple(dict.fromkeys(config.benchmarks))
    if config.samples_file and len(names) != 1:
        raise UserError(
            f"evaluation.samples_file holds samples of one benchmark, and {len(names)} are asked for; name "
            "one, with --config=evaluate:NAME"
        )
    others = {name: _others(run, name) for name in names}  # before anything is judged: one may be missing
    with open_bench(judging_limits(config.judge_memory), rung=config.sandbox, unsafe=config.unsafe) as bench:
        say(f"judging on rung {bench.candidates.rung} of the sandbox")
        memory = _memory()
        prepared = [prepare(run, name, bench, memory) for name in names]
        for measured in prepared:
            measure(run, measured, model)
    for name in names if config.compare else ():
        _compare([_compared(run, name), *others[name]], run, name)


def _memory() -> str:
    """Where this user's machine remembers what right answers return; "" where that folder cannot be trusted."""
    path = default_folder(os.environ, "right-answers")
    with contextlib.suppress(UserError):
        folder = private_folder(path)
        if os.access(folder, os.W_OK):
            return folder
    say(f"{path} is no folder that this user alone can write in, so what right answers return is not remembered")
    return ""


def _compare(compared: list[ComparedRun], run: Run, name: str) -> None:
    for line in in_lines(compared):
        say(line)
    page = storage.absolute(join(run.workdir, f"evaluate/{name}/comparison.html"))
    storage.write_whole(page, render_comparison(compared).encode())
    say(page)


def _compared(run: Run, name: str) -> ComparedRun:
    return ComparedRun(storage.absolute(run.workdir), read_scores_of(run, name), read_judged(run, name))


def _others(run: Run, name: str) -> list[ComparedRun]:
    """The runs that this one is to be compared with."""
    folders = run.settings.evaluation.compare
    if storage.absolute(run.workdir) in map(storage.absolute, folders):
        raise UserError(f"{run.workdir} cannot be compared with itself; name other runs with --compare")
    return [_compared(Run(run.settings, folder), name) for folder in folders]


def _measure_heldout(this: Run, model: Callable[[], LoadedModel]) -> None:
    unseen = functools.cache(lambda: unseen_files(this))
    for name, folder in MEASURED.items():
        this.do(_stage(this, name, model, unseen), folder)
        scores = read_scores(this, name, timed=True)
        say(load(name).summary(scores.found))
        if scores.other_corpus:
            say(caveat(scores.other_corpus))


def _stage(run: Run, name: str, model: Callable[[], LoadedModel], unseen: Callable[[], Unseen]) -> Stage:
    settings, measure = run.settings, load(name)
    section = part(settings.evaluation, measure.Config)
    inputs = input_digests(run, MEASURED[name])

    def write(folder: str) -> Written:
        files = unseen()
        found = measure.measure(model(), files.files, section, settings.seed)
        return write_scores(folder, Scores(found, files.other_corpus if "corpus" in inputs else None)), {}

    sections = {
        "evaluation": section,
        "computation": part(settings.model, Computation),
        "mesh": settings.mesh,
        "seed": settings.seed,
    }
    return Stage(name, measure.VERSION, sections, inputs, write)
