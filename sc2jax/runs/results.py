"""What stages of a run leave for people, and what other stages read of it: scores and completions."""

import dataclasses
from typing import Any, NotRequired, TypedDict

from sc2jax.evaluation.measures import load
from sc2jax.evaluation.not_measured import NotMeasured
from sc2jax.inference.samples import CompletionSample, samples_of
from sc2jax.json_files import decode_json
from sc2jax.records.manifest import Output, canonical_json, read_manifest, read_output, write_output
from sc2jax.runs.inputs import MEASURED
from sc2jax.runs.run import Run
from sc2jax.runs.unseen import OtherCorpus
from sc2jax.storage import join

_SCORES, _SAMPLES = "scores.json", "samples.json"
_REMEDY = "delete its folder and run the stage again"


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a measure found, and which corpus that is on if the model was trained on another one.

    `found` is the `Result` of the measure, or `NotMeasured`.
    """

    found: Any
    other_corpus: OtherCorpus | None = None


class _Head(TypedDict):
    """What all scores have."""

    measured: bool
    corpus: NotRequired[OtherCorpus]


def write_scores(folder: str, scores: Scores) -> Output:
    """Writes what a measure found."""
    about = {"corpus": scores.other_corpus} if scores.other_corpus else {}
    return write_output(folder, _SCORES, canonical_json(scores.found | about, indent=1).encode())


def read_scores(run: Run, measure: str) -> Scores:
    """What a measure of the run found.

    Raises:
        UserError: it is missing, is not what was written, or is no result of this measure.
    """
    content, where = _read(run.folder(MEASURED[measure]), _SCORES)
    head = decode_json(content, _Head, where, _REMEDY)
    kind = load(measure).Result if head["measured"] else NotMeasured
    return Scores(decode_json(content, kind, where, _REMEDY), head.get("corpus"))


def write_samples(folder: str, samples: list[CompletionSample]) -> Output:
    """Writes completions for readers."""
    return write_output(folder, _SAMPLES, canonical_json(samples, indent=1).encode())


def read_samples(run: Run) -> list[CompletionSample]:
    """The completions of the run.

    Raises:
        UserError: they are missing, are not what was written, or are none.
    """
    return samples_of(*_read(run.folder("complete"), _SAMPLES), _REMEDY)


def _read(folder: str, name: str) -> tuple[bytes, str]:
    return read_output(folder, read_manifest(folder), name), join(folder, name)
