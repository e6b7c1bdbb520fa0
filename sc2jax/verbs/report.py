"""Writes the run's page: corpus, training, scores and samples.

Reads every stage of the run; writes `report/index.html`, one page without scripts or external files.
"""

from pathlib import Path

import sc2jax
from sc2jax.config import CONFIG_FILE, Settings
from sc2jax.evaluation.measures import load
from sc2jax.evaluation.report import render_report
from sc2jax.records.manifest import read_manifest, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import FOLLOWS, MEASURED, SAMPLES, SCORES, input_digests, read_result
from sc2jax.runs.run import open_run, say
from sc2jax.storage import join
from sc2jax.training.metrics import METRICS, metrics_of

VERSION = 3
PAGE = "index.html"


def run(settings: Settings, workdir: str) -> None:
    """Renders the page."""
    this = open_run(settings, workdir)
    inputs = input_digests(this, "report")

    def write(folder: str) -> Written:
        manifests = {stage: read_manifest(this.folder(stage)) for stage in FOLLOWS["report"]}
        train = this.folder("train")
        scores = {name: read_result(this.folder(folder), SCORES) for name, folder in MEASURED.items()}
        page = render_report(
            corpus=dict(manifests["corpus"].statistics),  # pyright: ignore[reportArgumentType]
            parameters=manifests["train"].statistics["parameters"],
            metrics=metrics_of(read_output(train, manifests["train"], METRICS), join(train, METRICS)),
            bits_per_byte=scores.pop("bits_per_byte"),
            infilling=scores.pop("infilling"),
            others=[(name, load(name).summary(found)) for name, found in scores.items()],
            samples=read_result(this.folder("complete"), SAMPLES),
            provenance={
                "version": sc2jax.__version__,
                "manifests": {stage: manifest.digest for stage, manifest in manifests.items()},
                # Without paths, so that the same run gives the same page wherever it lies.
                "config": {name: value for name, value in read_result(train, CONFIG_FILE).items() if name != "paths"},
            },
        )
        return [write_output(folder, PAGE, page.encode())], {}

    this.do(Stage("report", VERSION, {"version": sc2jax.__version__}, inputs, write))
    say(str(Path(this.folder("report"), PAGE).resolve()))
