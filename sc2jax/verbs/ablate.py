"""Trains and scores every variant of a base config, and compares them on one page.

Reads a config of `configs/ablations` (`--config=ablations/NAME`, over another base `--config=ablations/NAME:BASE`);
writes `base.json`, `shared/` with the stages that runs have in common, `runs/` with a run for each variant and seed,
`logs/`, and `report/` with a page and results.csv. Every run is scored on the held-out files of the base's corpus. Run
again after an interruption or a failure, it goes on with what is not done. With `--config.ablation.print_commands=true`
it only prints the commands, a line for each stage that is shared and then a line a run, to be run anywhere on the same
folder; after that it finds them done and writes the report.
"""

from ml_collections import ConfigDict

from sc2jax import storage
from sc2jax.config import to_settings
from sc2jax.display import print_text
from sc2jax.errors import UserError
from sc2jax.locks import locked
from sc2jax.runs.ablation import Ablation
from sc2jax.runs.ablation_folder import LOCK, keep_base
from sc2jax.runs.ablation_plan import planned
from sc2jax.runs.ablation_progress import AblationProgress
from sc2jax.runs.jobs import LOGS, Failure, do_jobs
from sc2jax.runs.run import open_run, say
from sc2jax.storage import join


def run(config: ConfigDict, workdir: str) -> None:
    """Does the runs of an ablation that are not done, and writes their report."""
    open_run(to_settings(config), workdir)  # something else than folders is refused
    ablation = planned(config, workdir)
    if ablation.settings.print_commands:
        keep_base(ablation)
        print_text("\n".join(ablation.lines()))
        return
    if storage.is_url(ablation.workdir):
        raise UserError(
            f"{ablation.workdir} is no folder of this machine, on which runs keep their logs; name one, or run what "
            "--config.ablation.print_commands=true prints, with such a folder, elsewhere"
        )
    for name in (LOGS, "shared", "runs"):
        storage.refuse_no_folder(join(ablation.workdir, name))
    storage.make_folder(ablation.workdir)
    with locked(join(ablation.workdir, LOCK), ablation.workdir):
        keep_base(ablation)
        progress = AblationProgress(ablation.jobs, ablation.workdir)
        failures = do_jobs(ablation.jobs, ablation.workdir, ablation.base, progress.tell)
        _report(ablation, failures)


def _report(ablation: Ablation, failures: dict[str, Failure]) -> None:
    # Imports JAX, whose memory would count as that of every process that is started afterwards.
    from sc2jax.ablation.page import in_lines
    from sc2jax.runs.ablation_report import collected, write_report

    results, failed = collected(ablation, failures)
    if results:
        for line in in_lines(results, ablation.runs[0].variant.label):
            say(line)
        say(write_report(ablation, results, failed))
    if failed:
        named = "; ".join(f"{one.run}: {one.message}{f' ({one.log})' if one.log else ''}" for one in failed)
        # A log is named where a job failed; where what it left is damaged, that has to be mended first.
        again = "; the same command tries them again" if all(one.log for one in failed) else ""
        raise UserError(f"{len(failed)} of {len(ablation.runs)} runs have no results{again}: {named}")
