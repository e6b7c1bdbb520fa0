"""Completes a prompt, fills a gap, or makes one sample of each from held-out files.

Reads `tokenizer/` and `train/`. With `completion.prompt` (and `completion.suffix`) text appears as it is made; without
them the samples are written to `complete/`.
"""

from collections.abc import Mapping

from sc2jax.config import Settings
from sc2jax.evaluation.heldout import read_files
from sc2jax.inference.samples import complete_prompt, samples_from_files
from sc2jax.model.config import Computation
from sc2jax.records.manifest import canonical_json, read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import input_digests, read_json
from sc2jax.runs.models import open_model
from sc2jax.runs.run import Run, open_run
from sc2jax.settings import part

VERSION = 2
SAMPLES = "samples.json"


def run(settings: Settings, workdir: str) -> None:
    """Completes what the config asks for."""
    this = open_run(settings, workdir)
    if settings.completion.prompt or settings.completion.suffix:
        print_sample(complete_prompt(open_model(this), settings.completion, settings.seed))
        return
    this.do(_stage(this))
    for sample in read_json(this.folder("complete"), SAMPLES):
        print_sample(sample)


def _stage(run: Run) -> Stage:
    settings = run.settings
    inputs = input_digests(run, "complete")

    def write(folder: str) -> Written:
        corpus = run.folder("corpus")
        manifest = read_manifest(corpus)
        # A source of one repository has nothing to hold out; its samples then come from what was trained on.
        split = "heldout" if manifest.under("heldout") else "train"
        files = ((file.path, file.text) for file in read_files(corpus, manifest, split))
        samples = samples_from_files(open_model(run), files, settings.completion, settings.seed)
        return [write_output(folder, SAMPLES, canonical_json(samples, indent=1).encode())], {}

    sections = {
        "completion": settings.completion,
        "computation": part(settings.model, Computation),
        "mesh": settings.mesh,
        "seed": settings.seed,
    }
    return Stage("complete", VERSION, sections, inputs, write)


def print_sample(sample: Mapping[str, str]) -> None:
    """Prints a completion with the text that it continues, the completion between markers."""
    before, after = (sample["prefix"], sample["suffix"]) if sample["kind"] == "infill" else (sample["prompt"], "")
    title = "fill in the middle" if sample["kind"] == "infill" else "left to right"
    end = "stopped by itself" if sample["finish"] == "stop" else "cut at completion.max_new_tokens"
    print(f"--- {title} ({end})\n{before}\u27e6{sample['completion']}\u27e7{after}\n---")  # noqa: T201
