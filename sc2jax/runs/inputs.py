"""What each stage of a run reads: which stages come before it, their digests, and opening what they left."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.evaluation.measures import MEASURES
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import FeedInputs, refuse_absent
from sc2jax.records.manifest import Manifest, read_manifest, sha256_of
from sc2jax.runs.run import Run
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer

MEASURED = {name: f"evaluate/{name}" for name in MEASURES}
"""The folder of each measure."""

FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("corpus",),
    "tokenize": ("mixture", "tokenizer"),
    "train": ("mixture", "tokenizer", "tokenize"),
    **dict.fromkeys(MEASURED.values(), ("corpus", "tokenizer", "train")),
    "complete": ("corpus", "tokenizer", "train"),
    "report": ("corpus", "tokenizer", "train", *MEASURED.values(), "complete"),
}
"""The stages that a stage reads. `mixture` stands for the datasets that the mixture takes from the corpus; `tokenize`
is read where the feed is told to."""

SCORES = "scores.json"
"""What a measure leaves."""

SAMPLES = "samples.json"
"""What `complete` leaves."""


def input_digests(run: Run, stage: str) -> dict[str, str]:
    """The digests of what a stage reads, by name.

    Raises:
        UserError: something that it reads is missing or damaged.
    """
    digests: dict[str, str] = {}
    for name in FOLLOWS[stage]:
        if name == "mixture":
            digests |= _mixture_digests(run)
        elif name == "tokenizer":
            digests[name] = open_tokenizer(run).digest
        elif name == "tokenize" and not run.settings.feed.tokenized:
            continue
        else:
            digests[name] = _digest(read_manifest(run.folder(name)))
    return digests


def _digest(manifest: Manifest) -> str:
    """The digest of a stage's outputs, and of the shape of the model where it left one.

    A window longer than the rows that were trained on changes no parameter, but what becomes of longer texts.
    """
    model = manifest.config.get("model")
    return sha256_of({"outputs": manifest.digest, "model": model}) if model else manifest.digest


def _mixture_digests(run: Run) -> dict[str, str]:
    """The digest of what the mixture says, and those of its datasets, each by its folder below the corpus."""
    name, corpus = run.settings.feed.mixture, run.folder("corpus")
    mixture = read_mixture(name)
    refuse_absent(corpus, name, mixture)
    folders = sorted({share.folder and f"/{share.folder}" for share in mixture})
    datasets = {f"corpus{folder}": read_manifest(f"{corpus}{folder}").digest for folder in folders}
    return {"mixture": sha256_of([dataclasses.asdict(share) for share in mixture])} | datasets


def tokenizer_path(run: Run) -> str:
    """The tokenizer's file: what the stage wrote, or the file that the config names.

    Raises:
        UserError: the stage is missing or damaged.
    """
    named = run.settings.paths.tokenizer
    if named.endswith((".model", ".json")):
        return storage.absolute(named)
    folder = run.folder("tokenizer")
    outputs = read_manifest(folder).outputs
    if not outputs:
        raise UserError(f"{folder}/manifest.json names no tokenizer; delete the folder and make it again")
    return join(folder, outputs[0].path)


def open_tokenizer(run: Run) -> Tokenizer:
    """The run's tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return load_tokenizer(tokenizer_path(run))


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


def read_json(folder: str, name: str) -> Any:
    """A JSON file that a stage left.

    Raises:
        UserError: it is missing or damaged.
    """
    path = join(folder, name)
    try:
        return json.loads(storage.read_bytes(path))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the stage that wrote it again") from error
