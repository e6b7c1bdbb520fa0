"""What measuring a run with benchmarks leaves: the scores and the verdicts that they were made of."""

from sc2jax.evaluation.scores import Judged, Scores, read_scores_json
from sc2jax.json_files import decode_json
from sc2jax.records.manifest import is_finished, read_output
from sc2jax.runs.inputs import JUDGED, refuse_other_inputs
from sc2jax.runs.run import Run
from sc2jax.storage import join

VERDICTS, SCORES = "verdicts.jsonl", "scores.json"


def read_scores_of(run: Run, name: str) -> Scores:
    """The scores of a benchmark that the run was measured with.

    Raises:
        UserError: there are none, or they are not what was written.
    """
    manifest, folder = run.manifest(JUDGED[name]), run.folder(JUDGED[name])
    return read_scores_json(read_output(folder, manifest, SCORES), join(folder, SCORES))


def read_judged(run: Run, name: str) -> list[Judged]:
    """The verdicts of a benchmark that the run was measured with.

    Raises:
        UserError: there are none, or they are not what was written.
    """
    manifest, folder = run.manifest(JUDGED[name]), run.folder(JUDGED[name])
    lines = read_output(folder, manifest, VERDICTS).splitlines()
    return [decode_json(line, Judged, join(folder, VERDICTS), "evaluate again") for line in lines]


def measured_benchmarks(run: Run) -> list[str]:
    """The benchmarks that the run was measured with.

    Raises:
        UserError: one of them was measured with another model, tokenizer or corpus than the run holds now.
    """
    found = [name for name, folder in JUDGED.items() if is_finished(run.folder(folder))]
    for name in found:
        refuse_other_inputs(run, JUDGED[name])
    return found
