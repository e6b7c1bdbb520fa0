"""The checkpoint of a model: the one that the manifest beside it was written for."""

import json

from sc2jax.checkpoint.disk import CHECKPOINTS, PARAMS
from sc2jax.checkpoint.progress import read_progress
from sc2jax.errors import UserError
from sc2jax.records.manifest import MANIFEST, Manifest, read_output
from sc2jax.storage import join

PARAMETERS = "parameters.json"
"""The fingerprints of a model's parameters, beside its checkpoints."""


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
