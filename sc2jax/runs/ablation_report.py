"""The report of an ablation: a page and results.csv, made of the runs that are done."""

import dataclasses
from collections.abc import Mapping

import sc2jax
from sc2jax.ablation.page import Failed, render_page
from sc2jax.ablation.results import RunResult, results_csv
from sc2jax.errors import UserError
from sc2jax.records.manifest import sha256_of, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.ablation import Ablation
from sc2jax.runs.ablation_results import run_result
from sc2jax.runs.jobs import Failure
from sc2jax.storage import join

VERSION = 3
PAGE, TABLE = "index.html", "results.csv"


def collected(ablation: Ablation, failures: Mapping[str, Failure]) -> tuple[list[RunResult], list[Failed]]:
    """What the runs came to, and which have nothing to show for it and why."""
    results, failed = [], []
    for run in ablation.runs:
        failure = next((failures[job.name] for job in run.jobs if job.name in failures), None)
        if failure is not None:
            failed.append(Failed(run.name, failure.message, failure.log))
            continue
        try:
            results.append(run_result(run, ablation.workdir))
        except UserError as error:
            failed.append(Failed(run.name, str(error), ""))
    return results, failed


def _name(ablation: Ablation) -> str:
    return ablation.workdir.rstrip("/").rpartition("/")[2]


def write_report(ablation: Ablation, results: list[RunResult], failed: list[Failed]) -> str:
    """Writes the report into the working folder, unless it is there; returns the path of the page."""
    folder = join(ablation.workdir, "report")

    def write(unfinished: str) -> Written:
        reference, fit = ablation.runs[0].variant.label, ablation.settings.fit
        page = render_page(_name(ablation), reference, results, failed, fit, sc2jax.__version__)
        outputs = [write_output(unfinished, PAGE, page.encode())]
        return [*outputs, write_output(unfinished, TABLE, results_csv(results).encode())], {}

    inputs = {f"{result.label}-seed{result.seed}": sha256_of(repr(result)) for result in results}
    inputs |= {failure.run: sha256_of(dataclasses.asdict(failure)) for failure in failed}
    settings = {
        "version": sc2jax.__version__,
        "name": _name(ablation),
        "fit": ablation.settings.fit,
        "runs": [run.name for run in ablation.runs],  # in their order: the others are compared with the first one
    }
    Stage("ablate", VERSION, settings, inputs, write).run(folder)
    return join(folder, PAGE)
