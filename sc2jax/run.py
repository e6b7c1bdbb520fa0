"""A run: its folders on disk, its stages and what commits them, and its model opened for use."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from sc2jax.config import CONFIG_FILE, Settings, settings_json
from sc2jax.errors import UserError
from sc2jax.records.manifest import (
    Manifest,
    Output,
    commit,
    completed,
    join,
    read_manifest,
    stage_key,
    write_atomically,
)

if TYPE_CHECKING:
    from sc2jax.feed.sources import FeedInputs
    from sc2jax.inference.loaded_model import LoadedModel
    from sc2jax.model.config import ModelConfig
    from sc2jax.text.tokenizer import Tokenizer

STAGE_VERSIONS = {
    "tokenizer": 1,
    "tokenize": 2,
    "train": 3,
    "evaluate": 2,
    "complete": 1,
    "report": 1,
    "convert": 1,
}
"""Raised when a stage's code changes what it writes, so that folders written before are made anew."""

TOKENIZER_FILE = "tokenizer.model"
CHECKPOINTS = "checkpoints"
HUGGINGFACE = "huggingface"
SCORES, SAMPLES, REPORT, PARAMETERS = "scores.json", "samples.json", "index.html", "parameters.json"

Work = Callable[[str], tuple[list[Output], dict[str, Any]]]
"""Writes a stage's files into a folder and returns them with the stage's statistics."""


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where the stages of a run lie, as the config and the working folder say."""

    workdir: str
    corpus: str
    tokenizer: str
    tokenize: str
    train: str

    def of(self, stage: str) -> str:
        """The folder of a stage."""
        return getattr(self, stage, join(self.workdir, stage))


def folders(settings: Settings, workdir: str) -> Folders:
    """The folders of a run; those of its inputs may be set in the config.

    Raises:
        UserError: a URL is of a kind that nothing here can open.
    """
    paths = settings.paths
    for path in (workdir, paths.corpus, paths.tokenizer, paths.tokenize, paths.train):
        try:
            fsspec.core.url_to_fs(path)
        except (ValueError, ImportError) as error:
            raise UserError(f"{path} cannot be opened: {error}") from error
    return Folders(
        workdir=absolute(workdir),
        corpus=absolute(paths.corpus or join(workdir, "corpus")),
        tokenizer=absolute(paths.tokenizer or join(workdir, "tokenizer")),
        tokenize=absolute(paths.tokenize or join(workdir, "tokenize")),
        train=absolute(paths.train or join(workdir, "train")),
    )


def absolute(path: str) -> str:
    """A URL as it is, a local path from the root on: Orbax takes no other."""
    return path if "://" in path else str(Path(path).absolute())


def run_stage(
    stage: str,
    settings: Settings,
    places: Folders,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    work: Work,
    intact: Callable[[Manifest], bool] = lambda _: True,
) -> Manifest:
    """Does a stage's work unless its folder is complete for this config and these inputs; commits it by a manifest.

    `intact` looks at what the stage left beside the outputs of its manifest.
    """
    folder = places.of(stage)
    key = stage_key(stage, STAGE_VERSIONS[stage], config, inputs)
    done = completed(folder, key)
    if done is not None and intact(done):
        say("complete already")
        return done
    outputs, statistics = work(folder)
    write_config(folder, settings, places, inputs)
    return commit(folder, Manifest(stage, key, inputs, config, tuple(outputs), statistics))


def write_config(folder: str, settings: Settings, places: Folders, inputs: Iterable[str]) -> None:
    """Writes the resolved config beside what it made, with the places of the stages that it took as inputs.

    `--config=FOLDER/config.json --workdir=ELSEWHERE` runs it again on the same inputs.
    """
    stages = {name.partition("/")[0] for name in inputs}
    paths = {name: places.of(name) for name in ("corpus", "tokenizer", "tokenize", "train") if name in stages}
    sources = ",".join(absolute(source.strip()) for source in settings.paths.source.split(",") if source.strip())
    settings = dataclasses.replace(settings, paths=dataclasses.replace(settings.paths, source=sources, **paths))
    write_atomically(join(folder, CONFIG_FILE), settings_json(settings).encode())


def tokenizer_path(settings: Settings, places: Folders) -> str:
    """The tokenizer's file: what the stage wrote, or the file that the config names."""
    named = settings.paths.tokenizer
    if named.endswith((".model", ".json")):
        return absolute(named)
    outputs = read_manifest(places.tokenizer).outputs
    if not outputs:
        raise UserError(f"{places.tokenizer}/manifest.json names no tokenizer; delete the folder and make it again")
    return join(places.tokenizer, outputs[0].path)


def open_tokenizer(settings: Settings, places: Folders) -> "Tokenizer":
    """The run's tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from sc2jax.text.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer_path(settings, places))


def corpus_digests(settings: Settings, places: Folders) -> dict[str, str]:
    """The digests of the datasets that the mixture is made of, each by its place below the corpus.

    Raises:
        UserError: a dataset is missing or unfinished, or the mixture cannot be read.
    """
    from sc2jax.feed.mixtures import read_mixture
    from sc2jax.feed.sources import refuse_absent

    mixture = read_mixture(settings.feed.mixture)
    refuse_absent(places.corpus, settings.feed.mixture, mixture)
    names = {share.folder and f"/{share.folder}" for share in mixture}
    return {f"corpus{name}": read_manifest(f"{places.corpus}{name}").digest for name in sorted(names)}


def feed_inputs(settings: Settings, places: Folders) -> "FeedInputs":
    """What the run's training rows follow from.

    Raises:
        UserError: there is no tokenizer, or it is damaged.
    """
    from sc2jax.feed.sources import FeedInputs

    return FeedInputs(
        corpus=places.corpus,
        tokenizer=open_tokenizer(settings, places),
        config=settings.feed,
        formats=settings.format,
        fim=settings.fim,
        seed=settings.seed,
        tokens=places.tokenize,
    )


def fitted_model(model: "ModelConfig", tokens: "Tokenizer") -> "ModelConfig":
    """The model's shape with the tokenizer's vocabulary.

    Raises:
        UserError: the config names a smaller vocabulary than the tokenizer's.
    """
    if model.vocab_size and model.vocab_size < tokens.vocab_size:
        raise UserError(
            f"model.vocab_size {model.vocab_size} is less than the tokenizer's {tokens.vocab_size}; use 0 to take the "
            "tokenizer's"
        )
    return dataclasses.replace(model, vocab_size=model.vocab_size or tokens.vocab_size)


def trained_model(places: Folders) -> tuple["ModelConfig", int]:
    """The shape of the run's model and the step of its checkpoint.

    Raises:
        UserError: there is none, or it is not one that this version knows.
    """
    from sc2jax.model.config import ModelConfig

    manifest = read_manifest(places.train)
    try:
        return ModelConfig(**manifest.config["model"]), manifest.statistics["steps"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{places.train}/manifest.json describes no model of this version ({error}); name a folder that `train` or "
            "`convert` wrote, or make it again"
        ) from error


def open_model(settings: Settings, places: Folders) -> "LoadedModel":
    """The trained model: its shape is the checkpoint's, how it is computed is in the settings.

    Raises:
        UserError: the training is not finished, or its checkpoint is damaged.
    """
    from sc2jax.checkpoint import Checkpoints
    from sc2jax.inference.loaded_model import LoadedModel
    from sc2jax.model.params import abstract_params
    from sc2jax.parallel.mesh import create_mesh

    trained, step = trained_model(places)
    trained = dataclasses.replace(trained, **settings.model.computation())
    mesh = create_mesh(settings.mesh)
    checkpoints = Checkpoints(join(places.train, CHECKPOINTS), kept=settings.training.checkpoints_kept)
    try:
        params = checkpoints.restore_params(step, abstract_params(trained, mesh))
    finally:
        checkpoints.close()
    return LoadedModel(params, trained, open_tokenizer(settings, places), mesh)


def read_json(folder: str, name: str) -> Any:
    """A JSON file of a stage.

    Raises:
        UserError: it is missing or damaged.
    """
    path = join(folder, name)
    try:
        return json.loads(read_bytes(folder, name))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete {folder} and run its stage again") from error


def read_bytes(folder: str, name: str) -> bytes:
    """A file of a stage."""
    with fsspec.open(join(folder, name), "rb") as file:
        return file.read()  # pyright: ignore[reportAttributeAccessIssue]


def say(message: str, folder: str = "") -> None:
    """A line about the stage under way, and the folder that it filled."""
    print(f"      {message}" + (f" -> {folder}" if folder else ""), flush=True)  # noqa: T201
