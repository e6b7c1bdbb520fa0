"""Completes a prompt, fills a gap, or makes one sample of each from held-out files.

Reads `tokenizer/` and `train/`. With `completion.prompt` (and `completion.suffix`) text appears as it is made; without
them the samples are written to `complete/`.
"""

from sc2jax.config import Settings
from sc2jax.display import print_text
from sc2jax.inference.samples import complete_prompt, samples_from_files
from sc2jax.model.config import Computation
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import input_digests
from sc2jax.runs.models import open_model
from sc2jax.runs.results import read_samples, write_samples
from sc2jax.runs.run import Run, open_run
from sc2jax.runs.unseen import sampled_split, unseen_files
from sc2jax.settings import part

VERSION = 3


def run(settings: Settings, workdir: str) -> None:
    """Completes what the config asks for."""
    this, wanted = open_run(settings, workdir), settings.completion
    if wanted.prompt or wanted.suffix:
        model = open_model(this)
        unshown = [_opening(wanted.prompt, wanted.suffix)]

        def show(piece: str) -> None:
            # The opening comes with the first piece, for the model may refuse the prompt.
            print_text("".join([*unshown, piece]), end="")
            unshown.clear()

        sample = complete_prompt(model, wanted, settings.seed, show)
        print_text(_end(sample["finish"], wanted.suffix))
        return
    this.do(_stage(this))
    for sample in read_samples(this):
        if sample["kind"] == "infill":
            before, after = sample["prefix"], sample["suffix"]
        else:
            before, after = sample["prompt"], ""
        print_text(_opening(before, after) + sample["completion"] + _end(sample["finish"], after))


def _stage(run: Run) -> Stage:
    settings = run.settings
    inputs = input_digests(run, "complete")

    def write(folder: str) -> Written:
        split = sampled_split(run.manifest("corpus"))
        files = ((file.path, file.text) for file in unseen_files(run).files(split))
        samples = samples_from_files(open_model(run), files, settings.completion, settings.seed)
        return [write_samples(folder, samples)], {}

    sections = {
        "completion": settings.completion,
        "computation": part(settings.model, Computation),
        "mesh": settings.mesh,
        "seed": settings.seed,
    }
    return Stage("complete", VERSION, sections, inputs, write)


def _opening(before: str, after: str) -> str:
    """What stands before a completion, which begins behind a marker."""
    return f"--- {'fill in the middle' if after else 'left to right'}\n{before}\u27e6"


def _end(finish: str, after: str) -> str:
    """What follows a completion, and how it came to its end."""
    end = "stopped by itself" if finish == "stop" else "cut at completion.max_new_tokens"
    return f"\u27e7{after}\n--- {end}"
