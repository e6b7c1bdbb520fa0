"""What each stage of a run reads: which stages come before it, their digests, and whether all belongs together."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.evaluation.measures import BENCHMARKS, MEASURES
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import FeedInputs, dataset_names, refuse_absent
from sc2jax.records.manifest import (
    Manifest,
    changed_output,
    is_finished,
    read_manifest,
    sha256_of,
)
from sc2jax.runs.model_checkpoint import refuse_other_checkpoint
from sc2jax.runs.run import Run, is_tokenizer
from sc2jax.runs.tokenizer_file import open_tokenizer, tokenizer_digest
from sc2jax.storage import join

MEASURED = {name: f"evaluate/{name}" for name in MEASURES}
"""The folder of each measure."""
SAMPLED = {name: f"evaluate/{name}/samples" for name in BENCHMARKS}
JUDGED = {name: f"evaluate/{name}/verdicts" for name in BENCHMARKS}
"""The folders of both halves of each benchmark."""

FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("corpus",),
    "tokenize": ("datasets", "tokenizer"),
    "train": ("mixture", "datasets", "tokenizer", "tokenize"),
    "show": ("datasets", "tokenizer", "tokenize", "train"),
    **{MEASURED[name]: reads for name, reads in MEASURES.items()},
    **dict.fromkeys(SAMPLED.values(), ("tokenizer", "train")),
    "complete": ("corpus", "tokenizer", "train"),
    "convert": ("tokenizer", "train"),
    "report": ("corpus", "tokenizer", "train", *MEASURED.values(), "complete"),
}
"""The stages that a stage reads. `datasets` stands for what the mixture takes from the corpus, and `mixture` for what
it says itself, such as shares, which tokens do not depend on; `show` shows rows without a model, of which it only makes
sure that it is theirs."""


def input_digests(run: Run, stage: str) -> dict[str, str]:
    """The digests of what a stage reads, by name.

    Raises:
        UserError: something that it reads is missing or damaged, or was made from something else than what lies beside
            it.
    """
    refuse_mixed(run, stage)
    digests: dict[str, str] = {}
    for name in FOLLOWS[stage]:
        if name == "mixture":
            mixture = read_mixture(run.settings.feed.mixture)
            digests[name] = sha256_of([dataclasses.asdict(share) for share in mixture])
        elif name == "datasets":
            digests |= _dataset_digests(run)
        elif name == "tokenizer":
            digests[name] = tokenizer_digest(run)
        else:
            digests[name] = stage_digest(run.manifest(name))
    if is_finished(run.folder(stage)):
        _refuse_changed(run, digests)
    return digests


def _refuse_changed(run: Run, inputs: Collection[str]) -> None:
    """Makes sure that what a finished stage has read is whole, for it will not be read, and so not checked, again.

    Raises:
        UserError: naming a file that is not what its stage wrote.
    """
    for name in inputs:
        folder = run.folder(name)
        # The mixture is no folder, the tokenizer was read for its digest, and what is gone is not read either.
        if name not in ("mixture", "tokenizer") and is_finished(folder):
            changed = changed_output(folder, read_manifest(folder))
            if changed:
                raise UserError(
                    f"{join(folder, changed)} is not what its stage wrote; bring it back, or delete it and run that "
                    "stage again"
                )


def stage_digest(manifest: Manifest) -> str:
    """The digest of a stage's outputs, and of the shape of the model where it left one.

    A window longer than the rows that were trained on changes no parameter, but what becomes of longer texts. Of a
    model that consists of adapters, what they are added to is a part as well.
    """
    model, adapters = manifest.config.get("model"), manifest.config.get("adapters")
    if not model:
        return manifest.digest
    added = {"adapters": adapters, "start": manifest.inputs.get("start")} if adapters else {}
    return sha256_of({"outputs": manifest.digest, "model": model, **added})


def _dataset_digests(run: Run) -> dict[str, str]:
    """The digests of the mixture's datasets, each by its folder below the corpus.

    Where the corpus is gone its tokens say what they were made of: training reads nothing else.
    """
    name, corpus, tokens = run.settings.feed.mixture, run.folder("corpus"), run.folder("tokenize")
    mixture = read_mixture(name)
    datasets = dataset_names(mixture)
    if not storage.exists(corpus) and is_finished(tokens):
        made_of = read_manifest(tokens).inputs
        if made_of.keys() >= set(datasets):
            return {dataset: made_of[dataset] for dataset in datasets}
    refuse_absent(corpus, name, mixture)
    return {dataset: run.manifest(dataset).digest for dataset in datasets}


def data_digests(run: Run) -> dict[str, str]:
    """The digests of what tokens are made of, by name.

    Raises:
        UserError: it is missing or damaged.
    """
    return _dataset_digests(run) | {"tokenizer": tokenizer_digest(run)}


def feed_inputs(run: Run) -> FeedInputs:
    """What the run's training rows follow from.

    Raises:
        UserError: there is no tokenizer, or it is damaged.
    """
    settings = run.settings
    return FeedInputs(
        corpus=run.folder("corpus"),
        tokenizer=open_tokenizer(run),
        config=settings.feed,
        row_length=settings.model.context_length,
        formats=settings.format,
        fim=settings.fim,
        seed=settings.seed,
        tokens=run.folder("tokenize"),
    )


def refuse_mixed(run: Run, stage: str) -> None:
    """Makes sure that all that a stage reads, and what that was made from, belongs together.

    A stage's manifest holds the digests of what it was made from. They are compared with what lies in the run now; what
    is there no more cannot be mistaken for it. A corpus that `paths` names is another one on purpose.

    Raises:
        UserError: naming what was made from something else, or a model whose checkpoint is that of another run.
    """
    read = functools.cache(read_manifest)  # which takes a second for a large corpus
    for name in stages_before(stage):
        folder = run.folder(name)
        if not is_finished(folder) or (name == "tokenizer" and is_tokenizer(run.settings.paths.tokenizer)):
            continue
        refuse_other_inputs(run, name, read)
        if name == "train":
            refuse_other_checkpoint(folder, read(folder))


def refuse_other_inputs(run: Run, stage: str, read: Callable[[str], Manifest] = read_manifest) -> None:
    """Makes sure that a finished stage was made from what lies in the run now.

    Raises:
        UserError: naming what is another one.
    """
    wrong = _other_inputs(run, stage, read)
    if wrong:
        raise UserError(
            f"{run.folder(stage)} was made with another {' and another '.join(wrong)} than the run holds now "
            f"({', '.join(map(run.folder, wrong))}); bring back what it was made with, or make it again"
        )


def other_inputs(run: Run, stage: str) -> list[str]:
    """What a finished stage of the run was made from that is another one in the run now, by name."""
    return _other_inputs(run, stage, read_manifest)


def _other_inputs(run: Run, stage: str, read: Callable[[str], Manifest]) -> list[str]:
    inputs = read(run.folder(stage)).inputs
    compared = {name: digest for name, digest in inputs.items() if _is_compared(run, stage, name)}
    return [name for name, digest in compared.items() if _digest_now(run, name, read) not in ("", digest)]


def stages_before(stage: str) -> list[str]:
    """The stages that a stage reads, and those that they read, each after what it reads."""
    found: dict[str, None] = {}
    for name in FOLLOWS.get(stage, ()):
        found |= dict.fromkeys([*stages_before(name), name])
    return [name for name in found if name not in ("mixture", "datasets")]


def _is_compared(run: Run, reader: str, name: str) -> bool:
    """Whether what a stage has read is a stage of the run, and no other one is meant now."""
    if name == "tokenizer":
        return True
    if name.partition("/")[0] == "corpus":
        return not (run.settings.paths.corpus and reader in ("tokenizer", "tokenize", "train"))
    return name in ("tokenize", "train")


def _digest_now(run: Run, name: str, read: Callable[[str], Manifest]) -> str:
    """The digest of a stage of the run as it is now; "" where there is none."""
    if name == "tokenizer" and is_tokenizer(run.settings.paths.tokenizer):
        return tokenizer_digest(run)
    if not is_finished(run.folder(name)):
        return ""
    return tokenizer_digest(run) if name == "tokenizer" else stage_digest(read(run.folder(name)))
