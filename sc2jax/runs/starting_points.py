"""Where a run's parameters come from, in this order: its own checkpoint, `paths.start`, the seed.

`paths.start` is a folder that `train` or `convert` wrote. What a new run takes from there is written down beside its
checkpoints, for from then on the run is what it is: the folder may go on, move or be gone. Adapters alone need it at
every start, because the parameters that they are added to lie nowhere else.
"""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS, OPTIMIZER, PARAMS
from sc2jax.checkpoint.ownership import own_steps
from sc2jax.checkpoint.progress import read_progress
from sc2jax.config import PathsConfig, Settings
from sc2jax.errors import UserError
from sc2jax.json_files import Count, read_json
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.records.manifest import is_finished, read_manifest, sha256_of
from sc2jax.runs.model_checkpoint import model_statistics, refuse_other_checkpoint
from sc2jax.runs.run import Run, is_tokenizer, saved_config, saved_paths
from sc2jax.runs.tokenizer_file import tokenizer_path
from sc2jax.storage import join
from sc2jax.training.config import ADAMW

START = "start.json"
"""What a run began with, beside its checkpoints."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """A checkpoint of parameters: its folder, of a stage `train` or `convert`, its step and its fingerprint."""

    folder: str
    step: Count
    fingerprint: str

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints."""
        return join(self.folder, CHECKPOINTS)


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """What a run begins with.

    Attributes:
        taken: the checkpoint.
        model: the shape of the model that it is one of.
        adapters: if it holds adapters alone, what they are.
        base: the parameters that those are added to.
        optimizer: the digest of the moments, if they are taken too.
        tokenizer: the digest of its tokenizer; "" where nothing says it.
    """

    taken: Origin
    model: dict[str, Any]
    adapters: dict[str, Any] | None
    base: Origin | None
    optimizer: str
    tokenizer: str

    @property
    def fingerprint(self) -> str:
        """The digest of all that is taken."""
        base = self.base.fingerprint if self.base else ""
        return sha256_of([self.taken.fingerprint, self.adapters, base, self.optimizer])

    @property
    def shape(self) -> ModelConfig:
        """The shape of the model."""
        return ModelConfig(**self.model)

    @property
    def frozen(self) -> Origin:
        """What adapters of a run that begins here are added to."""
        return self.base or self.taken


def starting_point(run: Run) -> StartingPoint | None:
    """What the run begins with, or began with; None if its parameters follow from its seed.

    Raises:
        UserError: `paths.start` holds no model.
    """
    if not run.settings.paths.start:
        return None
    folder, training = storage.absolute(run.settings.paths.start), run.settings.training
    optimizer = training.optimizer if training.start_with_optimizer else ""
    recorded = read_start(run.folder("train"))
    if recorded is None:
        return read_point(folder, optimizer=optimizer)
    steps = own_steps(join(folder, CHECKPOINTS))
    if recorded.taken.step in steps:
        return read_point(folder, recorded.taken.step, optimizer=optimizer)
    # The same place may be gone, or have gone on since then; another one is told by its fingerprint.
    if not steps or folder == recorded.taken.folder:
        return recorded
    return read_point(folder, optimizer=optimizer)


def read_start(train: str) -> StartingPoint | None:
    """What is written down beside a model's checkpoints of what it began with; None if nothing is, or it has none yet.

    Raises:
        UserError: it is damaged.
    """
    path = join(train, START)
    if not own_steps(join(train, CHECKPOINTS)) or not storage.exists(path):
        return None
    return read_json(path, StartingPoint, f"delete {train} and train anew")


def start_json(point: StartingPoint) -> bytes:
    """What is written down of a starting point."""
    return (json.dumps(dataclasses.asdict(point), indent=1, sort_keys=True) + "\n").encode()


def read_point(folder: str, step: int | None = None, *, optimizer: str = "") -> StartingPoint:
    """What a folder of `train` or `convert` holds: its model, or of an unfinished run the newest checkpoint.

    Args:
        folder: absolute.
        step: of another checkpoint than that.
        optimizer: that whose moments are taken too, which the fingerprint then holds; "": none are.

    Raises:
        UserError: it holds none, or a damaged one.
    """
    storage.refuse_no_folder(folder, "paths.start")
    steps = own_steps(join(folder, CHECKPOINTS))
    if is_finished(folder):
        manifest = read_manifest(folder)
        refuse_other_checkpoint(folder, manifest)
        config, newest = manifest.config, model_statistics(folder, manifest)["steps"]
        tokenizer = manifest.inputs.get("tokenizer", "")
    elif steps:
        config, newest = saved_config(folder), steps[-1]
        tokenizer = next(map(storage.sha256_of_file, tokenizers_beside(folder)), "")
    else:
        raise UserError(
            f"paths.start is {folder}, which holds no model; name a folder that `train` or `convert` wrote, as "
            "WORKDIR/train is one"
        )
    step = newest if step is None else step
    fingerprints = read_progress(join(folder, CHECKPOINTS), step).fingerprints
    if optimizer:
        _refuse_other_optimizer(folder, config, fingerprints, optimizer)
    adapters = config.get("adapters") or {}
    point = StartingPoint(
        taken=Origin(folder, step, sha256_of(fingerprints[PARAMS])),
        model=_model(config, folder),
        adapters=None,
        base=None,
        optimizer=sha256_of(fingerprints[OPTIMIZER]) if optimizer else "",
        tokenizer=tokenizer,
    )
    if not adapters.get("rank"):
        return point
    began = read_start(folder)
    if began is None:
        raise UserError(f"{join(folder, START)} is missing, which says what its adapters belong to; bring it back")
    return dataclasses.replace(point, adapters=adapters, base=began.frozen)


def _refuse_other_optimizer(
    folder: str, config: Mapping[str, Any], fingerprints: Collection[str], optimizer: str
) -> None:
    if OPTIMIZER not in fingerprints:
        raise UserError(f"{folder} holds no optimizer, for it was converted; leave training.start_with_optimizer out")
    theirs = config.get("training", {}).get("optimizer", ADAMW)  # which all runs had before there was a choice
    if theirs != optimizer:
        raise UserError(
            f"the optimizer in {folder} is {theirs}, and training.optimizer is {optimizer}; set that to {theirs}, or "
            "leave training.start_with_optimizer out"
        )


def _model(config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    try:
        return dataclasses.asdict(ModelConfig(**config["model"]))
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder} holds a model of another version ({error}); make it again") from error


def base_of(run: Run, began: StartingPoint) -> Origin:
    """Where the parameters lie now to which a run's adapters are added: where `paths.start` says, or where they lay.

    Raises:
        UserError: they are at neither place.
    """
    wanted = began.frozen
    named = [storage.absolute(run.settings.paths.start)] if run.settings.paths.start else []
    for folder in [*named, wanted.folder]:
        checkpoints = join(folder, CHECKPOINTS)
        if wanted.step in own_steps(checkpoints):
            fingerprints = read_progress(checkpoints, wanted.step).fingerprints
            if sha256_of(fingerprints[PARAMS]) == wanted.fingerprint:
                return dataclasses.replace(wanted, folder=folder)
    raise UserError(
        f"the adapters in {run.folder('train')} belong to a model that lay in {wanted.folder} (step {wanted.step}) and "
        "is not there now; bring it back, or name its folder with --config.paths.start=DIR"
    )


def adapters_of(config: Mapping[str, Any]) -> AdapterConfig | None:
    """The adapters that a model of a manifest's config consists of; None if it is whole."""
    return AdapterConfig(**config["adapters"]) if "adapters" in config else None


def tokenizers_beside(folder: str) -> Iterator[str]:
    """The files of tokenizers that may be that of a model's folder: beside it, and where its config says."""
    for named in (join(folder.rpartition("/")[0], "tokenizer"), saved_paths(folder).get("tokenizer", "")):
        beside = Run(Settings(paths=PathsConfig(tokenizer=named)), folder)
        if named and (storage.exists(named) if is_tokenizer(named) else is_finished(named)):
            yield tokenizer_path(beside)
