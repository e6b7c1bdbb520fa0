"""Writes the run's page: corpus, training, scores and samples.

Reads every stage of the run; writes `report/index.html`, one page without scripts or external files.
"""

import sc2jax
from sc2jax.config import Settings
from sc2jax.corpus.sources.left_out import in_words
from sc2jax.evaluation.measures import load
from sc2jax.evaluation.report import render_report
from sc2jax.records.manifest import Manifest, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.records.statistics import corpus_statistics
from sc2jax.runs.benchmark_results import measured_benchmarks, read_scores_of
from sc2jax.runs.inputs import FOLLOWS, JUDGED, MEASURED, input_digests
from sc2jax.runs.model_checkpoint import model_statistics, refuse_gone_on
from sc2jax.runs.results import Scores, read_samples, read_scores
from sc2jax.runs.run import open_run, say
from sc2jax.runs.unseen import caveat, sampled_split
from sc2jax.storage import absolute, join
from sc2jax.training.metrics import METRICS, Row, metrics_of

VERSION = 9
PAGE = "index.html"


def run(settings: Settings, workdir: str) -> None:
    """Renders the page."""
    this = open_run(settings, workdir)
    inputs = input_digests(this, "report")
    manifests = {stage: this.manifest(stage) for stage in FOLLOWS["report"]}
    refuse_gone_on(this.folder("train"), manifests["train"])
    benchmarks = {name: read_scores_of(this, name) for name in measured_benchmarks(this)}
    inputs |= {JUDGED[name]: this.manifest(JUDGED[name]).digest for name in benchmarks}
    used = {stage: manifest.config for stage, manifest in manifests.items()}

    def write(folder: str) -> Written:
        train, corpus = this.folder("train"), corpus_statistics(this.folder("corpus"), manifests["corpus"])
        model = model_statistics(train, manifests["train"])
        scores = {name: read_scores(this, name) for name in MEASURED}
        caveats = {name: caveat(found.other_corpus) for name, found in scores.items() if found.other_corpus}
        page = render_report(
            corpus=corpus,
            left_out=in_words(corpus["left_out"]),
            parameters=model["parameters"],
            metrics=_metrics(train, manifests["train"]),
            bits_per_byte=scores.pop("bits_per_byte").found,
            infilling=scores.pop("infilling").found,
            others=[(name, load(name).summary(found.found)) for name, found in scores.items() if _is_taken(found)],
            benchmarks=benchmarks,
            caveats=caveats,
            samples=read_samples(this),
            samples_are_unseen=sampled_split(manifests["corpus"]) == "heldout",
            provenance={
                "version": sc2jax.__version__,
                "manifests": {stage: manifest.digest for stage, manifest in manifests.items()},
                "step": model["steps"],
                "trained_on": manifests["train"].inputs.get("corpus", ""),
                "imported": manifests["train"].stage != "train",
                "settings": used,
            },
        )
        return [write_output(folder, PAGE, page.encode())], {}

    # Other settings can give equal results, but not the same page, which names them.
    this.do(Stage("report", VERSION, {"version": sc2jax.__version__, "settings": used}, inputs, write))
    say(absolute(join(this.folder("report"), PAGE)))


def _is_taken(scores: Scores) -> bool:
    """Whether a measure without a picture of its own has anything for the page."""
    return scores.found["measured"]


def _metrics(train: str, manifest: Manifest) -> list[Row]:
    """The lines of the training log; an imported model has none."""
    if METRICS not in {output.path for output in manifest.outputs}:
        return []
    return metrics_of(read_output(train, manifest, METRICS), join(train, METRICS))
