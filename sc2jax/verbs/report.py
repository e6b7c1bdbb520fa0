"""Writes the run's page: corpus, training, scores and samples.

Reads every stage of the run; writes `report/index.html`, one page without scripts or external files.
"""

from pathlib import Path

import sc2jax
from sc2jax.config import CONFIG_FILE, Settings
from sc2jax.corpus.sources.left_out import in_words
from sc2jax.evaluation.measures import load
from sc2jax.evaluation.report import render_report
from sc2jax.records.manifest import Manifest, read_manifest, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import FOLLOWS, MEASURED, SAMPLES, SCORES, input_digests, model_step, read_result
from sc2jax.runs.run import open_run, say
from sc2jax.runs.unseen import CORPUS, caveat, sampled_split
from sc2jax.storage import join
from sc2jax.training.metrics import METRICS, Row, metrics_of

VERSION = 4
PAGE = "index.html"


def run(settings: Settings, workdir: str) -> None:
    """Renders the page."""
    this = open_run(settings, workdir)
    inputs = input_digests(this, "report")

    def write(folder: str) -> Written:
        manifests = {stage: read_manifest(this.folder(stage)) for stage in FOLLOWS["report"]}
        train = this.folder("train")
        scores = {name: read_result(this.folder(folder), SCORES) for name, folder in MEASURED.items()}
        caveats = {name: caveat(found[CORPUS]) for name, found in scores.items() if CORPUS in found}
        page = render_report(
            corpus=dict(manifests["corpus"].statistics),  # pyright: ignore[reportArgumentType]
            left_out=in_words(manifests["corpus"].statistics["left_out"]),
            parameters=manifests["train"].statistics["parameters"],
            metrics=_metrics(train, manifests["train"]),
            bits_per_byte=scores.pop("bits_per_byte"),
            infilling=scores.pop("infilling"),
            others=[(name, load(name).summary(found)) for name, found in scores.items()],
            caveats=caveats,
            samples=read_result(this.folder("complete"), SAMPLES),
            samples_are_unseen=sampled_split(manifests["corpus"]) == "heldout",
            provenance={
                "version": sc2jax.__version__,
                "manifests": {stage: manifest.digest for stage, manifest in manifests.items()},
                "step": model_step(train, manifests["train"]),
                "trained_on": manifests["train"].inputs.get("corpus", ""),
                "imported": manifests["train"].stage != "train",
                # Without paths, so that the same run gives the same page wherever it lies.
                "config": {name: value for name, value in read_result(train, CONFIG_FILE).items() if name != "paths"},
            },
        )
        return [write_output(folder, PAGE, page.encode())], {}

    this.do(Stage("report", VERSION, {"version": sc2jax.__version__}, inputs, write))
    say(str(Path(this.folder("report"), PAGE).resolve()))


def _metrics(train: str, manifest: Manifest) -> list[Row]:
    """The lines of the training log; an imported model has none."""
    if METRICS not in {output.path for output in manifest.outputs}:
        return []
    return metrics_of(read_output(train, manifest, METRICS), join(train, METRICS))
