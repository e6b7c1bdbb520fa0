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

_SCORES, _TIMING, _SAMPLES = "scores.json", "timing.json", "samples.json"
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


def write_scores(folder: str, scores: Scores) -> list[Output]:
    """Writes what a measure found, and in a file of its own, which is no result, what it timed."""
    about = {"corpus": scores.other_corpus} if scores.other_corpus else {}
    found = {name: value for name, value in scores.found.items() if name != "timing"} | about
    outputs = [write_output(folder, _SCORES, canonical_json(found, indent=1).encode())]
    if "timing" in scores.found:
        content = canonical_json(scores.found["timing"], indent=1).encode()
        outputs.append(write_output(folder, _TIMING, content, result=False))
    return outputs


def read_scores(run: Run, measure: str, *, timed: bool = False) -> Scores:
    """What a measure of the run found; with `timed` what it timed too, which equal runs do not share.

    Raises:
        UserError: it is missing, is not what was written, or is no result of this measure.
    """
    folder = run.folder(MEASURED[measure])
    content, where = _read(folder, _SCORES)
    head = decode_json(content, _Head, where, _REMEDY)
    kind = load(measure).Result if head["measured"] else NotMeasured
    found: Any = decode_json(content, kind, where, _REMEDY)
    if timed and any(output.path == _TIMING for output in read_manifest(folder).outputs):
        content, where = _read(folder, _TIMING)
        found["timing"] = decode_json(content, load(measure).Timing, where, _REMEDY)
    return Scores(found, head.get("corpus"))


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
