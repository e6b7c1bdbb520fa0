"""The checkpoint of a model: the one that the manifest beside it was written for."""

from typing import Any, TypedDict, TypeVar

from sc2jax.checkpoint.disk import CHECKPOINTS, PARAMS
from sc2jax.checkpoint.ownership import own_steps
from sc2jax.checkpoint.progress import read_progress
from sc2jax.errors import UserError
from sc2jax.json_files import Amount, Count, as_kind, decode_json
from sc2jax.records.manifest import MANIFEST, Manifest, read_output
from sc2jax.storage import join

T = TypeVar("T")

PARAMETERS = "parameters.json"
"""The fingerprints of a model's parameters, beside its checkpoints."""


class ModelStatistics(TypedDict):
    """The statistics in a model's manifest; its steps are those of the checkpoint that it was written for."""

    parameters: Count
    steps: Count
    tokens: Count


class TrainingStatistics(ModelStatistics):
    """The same of a model that was trained here."""

    loss: Amount


class _ModelConfig(TypedDict):
    model: dict[str, Any]


def model_statistics(folder: str, manifest: Manifest) -> ModelStatistics:
    """What a model's manifest says of it.

    Raises:
        UserError: the manifest is no model's.
    """
    return _statistics(folder, manifest, ModelStatistics)


def training_statistics(folder: str, manifest: Manifest) -> TrainingStatistics:
    """What the manifest of a model that was trained here says of it.

    Raises:
        UserError: the manifest is no such model's.
    """
    return _statistics(folder, manifest, TrainingStatistics)


def _statistics(folder: str, manifest: Manifest, kind: type[T]) -> T:
    where = f"{folder}/{MANIFEST}, which describes no model of this version,"
    remedy = "name a folder that `train` or `convert` wrote, or make it again"
    as_kind(manifest.config, _ModelConfig, where, remedy)
    return as_kind(manifest.statistics, kind, where, remedy)


def refuse_gone_on(folder: str, manifest: Manifest) -> None:
    """Makes sure that a complete run has not been begun to go on to a later step: its log then says more than it held.

    Raises:
        UserError: it has, and was interrupted.
    """
    steps = model_statistics(folder, manifest)["steps"]
    newest = max(own_steps(join(folder, CHECKPOINTS)), default=0)
    if manifest.stage == "train" and newest > steps:
        raise UserError(
            f"the run in {folder} was complete at step {steps:,}, and has gone on to step {newest:,} without being "
            "complete again; train it to its end, with the command that was interrupted"
        )


def refuse_other_checkpoint(folder: str, manifest: Manifest) -> None:
    """Makes sure that the checkpoint in a model's folder is the one that its manifest was written for.

    Raises:
        UserError: it is not, or it is damaged.
    """
    checkpoints, step = join(folder, CHECKPOINTS), model_statistics(folder, manifest)["steps"]
    progress = read_progress(checkpoints, step)
    trained_here = manifest.stage != "train" or progress.key == manifest.key
    content, where = read_output(folder, manifest, PARAMETERS), join(folder, PARAMETERS)
    fingerprints = decode_json(content, dict[str, int], where, "make the model again")
    if not trained_here or progress.fingerprints[PARAMS] != fingerprints:
        raise UserError(
            f"{checkpoints}/{step} is not the checkpoint that {folder}/manifest.json was written for; bring that one "
            "back, or make the model again"
        )
