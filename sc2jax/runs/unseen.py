"""The held-out files of a run's corpus that its model was not trained on.

A model may be measured on another corpus than the one it was trained on, if `paths.corpus` names it. That corpus was
split by itself: what the model was trained on may lie in its held-out part, and is left out.
"""

import dataclasses
import functools
from typing import Literal, TypedDict

from sc2jax.evaluation.heldout import Splits, read_files, shared_texts
from sc2jax.json_files import Count
from sc2jax.records.manifest import Manifest, is_finished, read_manifest
from sc2jax.runs.run import Run, saved_paths
from sc2jax.storage import join


class OtherCorpus(TypedDict):
    """What has to be known of a corpus that the model was not trained on.

    `left_out` counts its held-out files that the model was trained on all the same; they are unknown where the corpus
    that was trained on is gone.
    """

    trained_on: Literal[False]
    left_out: Count | Literal["unknown"]


@dataclasses.dataclass(frozen=True)
class Unseen:
    """The files by split, and what has to be known of them if they are of another corpus than was trained on."""

    files: Splits
    other_corpus: OtherCorpus | None


def unseen_files(run: Run) -> Unseen:
    """The files of the run's corpus without those that its model was trained on.

    Raises:
        UserError: a stage is missing or damaged.
    """
    corpus = run.folder("corpus")
    manifest = run.manifest("corpus")
    trained_on = run.manifest("train").inputs.get("corpus", "")
    if trained_on in ("", manifest.digest):
        return Unseen(functools.partial(read_files, corpus, manifest), None)
    trained = _corpus_of(run, trained_on)
    without = shared_texts(corpus, manifest, trained, read_manifest(trained)) if trained else frozenset()
    other: OtherCorpus = {"trained_on": False, "left_out": len(without) if trained else "unknown"}
    return Unseen(functools.partial(read_files, corpus, manifest, without=without), other)


def sampled_split(corpus: Manifest) -> str:
    """The split that samples for readers are taken from; a source of one repository has nothing to hold out."""
    return "heldout" if corpus.under("heldout") else "train"


def _corpus_of(run: Run, digest: str) -> str:
    """Where the corpus of this digest lies: beside the model or the run, or where the model's config says; else ""."""
    train = run.folder("train")
    named = saved_paths(train).get("corpus", "")
    for folder in (join(train.rpartition("/")[0], "corpus"), join(run.workdir, "corpus"), named):
        if folder and is_finished(folder) and read_manifest(folder).digest == digest:
            return folder
    return ""


def caveat(other: OtherCorpus) -> str:
    """What has to be said of scores on another corpus."""
    left_out = other["left_out"]
    if left_out == "unknown":
        rest = "which of its files the model was trained on is not known, for that corpus is gone"
    elif not left_out:
        rest = "it was trained on none of its held-out files"
    else:
        rest = f"{left_out:,} of its held-out files, which the model was trained on, are left out"
    return f"measured on another corpus than the model was trained on; {rest}"
