"""Measures the model on held-out files: bits per byte and exact-match infilling.

Reads `corpus/`, `tokenizer/` and `train/`; writes a folder a measure below `evaluate/`, each done once. With
`evaluation.decoding_tokens` it also measures what generation costs: memory, and time on this machine.
"""

import functools
from collections.abc import Callable

from sc2jax.config import Settings
from sc2jax.evaluation.measures import load
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.model.config import Computation
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import MEASURED, input_digests
from sc2jax.runs.models import open_model
from sc2jax.runs.results import Scores, read_scores, write_scores
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.unseen import Unseen, caveat, unseen_files
from sc2jax.settings import part


def run(settings: Settings, workdir: str) -> None:
    """Does every measure and says what it found."""
    this = open_run(settings, workdir)
    model = functools.cache(lambda: open_model(this))  # only opened if a measure has to be taken
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
