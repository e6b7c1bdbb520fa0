"""What each stage of a run reads: which stages come before it, their digests, and opening what they left."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS, PARAMS
from sc2jax.checkpoint.progress import read_progress
from sc2jax.errors import UserError
from sc2jax.evaluation.measures import MEASURES
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import FeedInputs, refuse_absent
from sc2jax.records.manifest import MANIFEST, Manifest, Output, is_finished, read_manifest, read_output, sha256_of
from sc2jax.runs.run import Run
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer

MEASURED = {name: f"evaluate/{name}" for name in MEASURES}
"""The folder of each measure."""

FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("corpus",),
    "tokenize": ("datasets", "tokenizer"),
    "train": ("mixture", "datasets", "tokenizer", "tokenize"),
    "show": ("datasets", "tokenizer", "tokenize"),
    **dict.fromkeys(MEASURED.values(), ("corpus", "tokenizer", "train")),
    "complete": ("corpus", "tokenizer", "train"),
    "convert": ("tokenizer", "train"),
    "report": ("corpus", "tokenizer", "train", *MEASURED.values(), "complete"),
}
"""The stages that a stage reads. `datasets` stands for what the mixture takes from the corpus, and `mixture` for what
it says itself, such as shares, which tokens do not depend on."""

PARAMETERS = "parameters.json"
"""The fingerprints of a model's parameters, beside its checkpoints."""

SCORES = "scores.json"
"""What a measure leaves."""

SAMPLES = "samples.json"
"""What `complete` leaves."""


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
            digests[name] = stage_digest(read_manifest(run.folder(name)))
    return digests


def stage_digest(manifest: Manifest) -> str:
    """The digest of a stage's outputs, and of the shape of the model where it left one.

    A window longer than the rows that were trained on changes no parameter, but what becomes of longer texts.
    """
    model = manifest.config.get("model")
    return sha256_of({"outputs": manifest.digest, "model": model}) if model else manifest.digest


def _dataset_digests(run: Run) -> dict[str, str]:
    """The digests of the mixture's datasets, each by its folder below the corpus.

    Where the corpus is gone its tokens say what they were made of: training reads nothing else.
    """
    name, corpus, tokens = run.settings.feed.mixture, run.folder("corpus"), run.folder("tokenize")
    mixture = read_mixture(name)
    folders = sorted({f"corpus{share.folder and f'/{share.folder}'}" for share in mixture})
    if not storage.exists(corpus) and is_finished(tokens):
        made_of = read_manifest(tokens).inputs
        if made_of.keys() >= set(folders):
            return {folder: made_of[folder] for folder in folders}
    refuse_absent(corpus, name, mixture)
    return {folder: read_manifest(run.folder(folder)).digest for folder in folders}


def tokenizer_path(run: Run) -> str:
    """The tokenizer's file: what the stage wrote, or the file that the config names.

    Raises:
        UserError: the stage is missing or damaged.
    """
    named = run.settings.paths.tokenizer
    if _is_tokenizer(named):
        return storage.absolute(named)
    folder = run.folder("tokenizer")
    return join(folder, _tokenizer_output(folder).path)


def tokenizer_digest(run: Run) -> str:
    """The sha256 of the tokenizer's file.

    Raises:
        UserError: there is none, or it is not the one that its stage wrote.
    """
    path = tokenizer_path(run)
    try:
        digest = storage.sha256_of_file(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no tokenizer {path}; make it again, or name another with paths.tokenizer") from error
    if not _is_tokenizer(run.settings.paths.tokenizer):
        folder = run.folder("tokenizer")
        if digest != _tokenizer_output(folder).sha256:
            raise UserError(f"{path} is not what its stage wrote; delete {folder} and make it again")
    return digest


def open_tokenizer(run: Run) -> Tokenizer:
    """The run's tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    tokenizer_digest(run)
    return load_tokenizer(tokenizer_path(run))


def _is_tokenizer(path: str) -> bool:
    return path.endswith((".model", ".json"))


def _tokenizer_output(folder: str) -> Output:
    found = [output for output in read_manifest(folder).outputs if output.result and _is_tokenizer(output.path)]
    if not found:
        raise UserError(f"{folder}/manifest.json names no tokenizer; delete the folder and make it again")
    return found[0]


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


def read_result(folder: str, name: str) -> Any:
    """A JSON file that a stage left, as it left it.

    Raises:
        UserError: it is missing, or is not what the stage wrote.
    """
    return json.loads(read_output(folder, read_manifest(folder), name))


def refuse_mixed(run: Run, stage: str) -> None:
    """Makes sure that all that a stage reads, and what that was made from, belongs together.

    A stage's manifest holds the digests of what it was made from. They are compared with what lies in the run now; what
    is there no more cannot be mistaken for it. A corpus that `paths` names is another one on purpose.

    Raises:
        UserError: naming what was made from something else, or a model whose checkpoint is that of another run.
    """
    for name in _upstream(stage):
        folder = run.folder(name)
        if not is_finished(folder) or (name == "tokenizer" and _is_tokenizer(run.settings.paths.tokenizer)):
            continue
        wrong = other_inputs(run, name)
        if wrong:
            raise UserError(
                f"{folder} was made with another {' and another '.join(wrong)} than the run holds now "
                f"({', '.join(map(run.folder, wrong))}); bring back what it was made with, or make it again"
            )
        if name == "train":
            refuse_other_checkpoint(folder, read_manifest(folder))


def model_step(folder: str, manifest: Manifest) -> int:
    """The step of the checkpoint that a model's manifest was written for.

    Raises:
        UserError: the manifest is no model's.
    """
    step = manifest.statistics.get("steps")
    if not isinstance(step, int) or "model" not in manifest.config:
        raise UserError(
            f"{folder}/{MANIFEST} describes no model of this version; name a folder that `train` or `convert` wrote, "
            "or make it again"
        )
    return step


def other_inputs(run: Run, stage: str) -> list[str]:
    """What a finished stage of the run was made from that is another one in the run now, by name."""
    manifest = read_manifest(run.folder(stage))
    return [name for name, digest in manifest.inputs.items() if _present(run, stage, name) not in ("", digest)]


def refuse_other_checkpoint(folder: str, manifest: Manifest) -> None:
    """Makes sure that the checkpoint in a model's folder is the one that its manifest was written for.

    Raises:
        UserError: it is not, or it is damaged.
    """
    checkpoints, step = join(folder, CHECKPOINTS), model_step(folder, manifest)
    progress = read_progress(checkpoints, step)
    trained_here = manifest.stage != "train" or progress.key == manifest.key
    if not trained_here or progress.fingerprints[PARAMS] != json.loads(read_output(folder, manifest, PARAMETERS)):
        raise UserError(
            f"{checkpoints}/{step} is not the checkpoint that {folder}/manifest.json was written for; bring that one "
            "back, or make the model again"
        )


def _upstream(stage: str) -> list[str]:
    """The stages that a stage reads, and those that they read, each after what it reads."""
    found: dict[str, None] = {}
    for name in FOLLOWS.get(stage, ()):
        found |= dict.fromkeys([*_upstream(name), name])
    return [name for name in found if name not in ("mixture", "datasets")]


def _present(run: Run, reader: str, name: str) -> str:
    """The digest of what a stage has read, as it is now; "" where there is none, or another one is meant."""
    if name == "tokenizer":
        is_there = _is_tokenizer(run.settings.paths.tokenizer) or is_finished(run.folder("tokenizer"))
        return tokenizer_digest(run) if is_there else ""
    of_corpus = name.partition("/")[0] == "corpus"
    if not (of_corpus or name in ("tokenize", "train")):
        return ""
    if of_corpus and run.settings.paths.corpus and reader in ("tokenizer", "tokenize", "train"):
        return ""
    return stage_digest(read_manifest(run.folder(name))) if is_finished(run.folder(name)) else ""
