"""What a training run is: what it depends on, and whether a folder holds it, how far it has come.

What changes the mathematics names a run, and may not change while it goes on: the model, the feed, the batch, the
optimizer, the schedule with its horizon, what it begins with. How far to run, on which mesh, by which kernels and how
often it is saved may change whenever it is started again.
"""

import dataclasses
import json
from typing import Any

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.ownership import own_steps
from sc2jax.checkpoint.progress import read_progress
from sc2jax.config import Settings, differing_keys
from sc2jax.errors import UserError
from sc2jax.json_files import read_json
from sc2jax.model.config import ModelConfig
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import Manifest, canonical_json, is_finished, read_manifest
from sc2jax.records.stage import Stage
from sc2jax.runs.inputs import input_digests
from sc2jax.runs.model_checkpoint import model_statistics, refuse_other_checkpoint
from sc2jax.runs.model_of_start import refuse_misfit
from sc2jax.runs.models import fitted_model
from sc2jax.runs.run import Run, saved_config
from sc2jax.runs.starting_points import StartingPoint, read_start
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.storage import join
from sc2jax.training.schedule import fitted_training
from sc2jax.training.start import gone_beyond

INPUTS = "inputs.json"
"""The digests of what a run reads, beside its checkpoints, for one that goes on to say what has changed."""

_SECTIONS = ("model", "training", "feed", "format", "fim", "seed")


def fitted_run(run: Run) -> Run:
    """The run with what its settings leave open filled in: the vocabulary, the steps and the horizon.

    With dropout also the mesh and the kernel of attention, for what is dropped depends on them.

    Raises:
        UserError: settings do not fit each other, or the devices.
    """
    settings = run.settings
    model, mesh = fitted_model(settings.model, open_tokenizer(run)), settings.mesh
    if _drops(model):
        mesh = MeshConfig(**create_mesh(mesh).shape)
    if model.attention_dropout and model.attention == "auto":
        model = dataclasses.replace(model, attention="blocked")
    training = fitted_training(settings.training, model.context_length)
    return dataclasses.replace(run, settings=dataclasses.replace(settings, model=model, mesh=mesh, training=training))


def training_sections(settings: Settings) -> dict[str, Any]:
    """The settings that a training run depends on, and how its work is done.

    What is dropped is drawn by each device for its part, for each micro-batch anew, and of attention by each kernel in
    an order of its own.
    """
    sections = {name: getattr(settings, name) for name in _SECTIONS} | {"mesh": settings.mesh}
    if settings.adapters.rank:
        sections |= {"adapters": settings.adapters}
    if _drops(settings.model):
        # Under the names that they have in the config, so that a refusal names them.
        sections |= {"mesh": dataclasses.asdict(settings.mesh), "training.accumulation": settings.training.accumulation}
    if settings.model.attention_dropout:
        sections |= {"model.attention": settings.model.attention}
    return sections


def _drops(model: ModelConfig) -> bool:
    return max(model.embedding_dropout, model.attention_dropout, model.residual_dropout) > 0


def training_inputs(run: Run, point: StartingPoint | None) -> dict[str, str]:
    """The digests of what a training run reads, by name.

    Raises:
        UserError: something is missing, damaged, or does not go with the rest.
    """
    inputs = input_digests(run, "train")
    if point is not None:
        refuse_misfit(run, point)
        return inputs | {"start": point.fingerprint}
    if run.settings.adapters.rank:
        raise UserError(
            "adapters are added to a model that is there: name it with --config.paths.start=DIR, a folder that "
            "`train` or `convert` wrote, or train all parameters with --config.adapters.rank=0"
        )
    return inputs


def is_as_far(folder: str, manifest: Manifest, steps: int) -> bool:
    """Whether a complete run is whole and has come to its last step, which may lie farther now than it did.

    Raises:
        UserError: it has gone beyond, or its checkpoint is another one.
    """
    reached = model_statistics(folder, manifest)["steps"]
    if reached not in own_steps(join(folder, CHECKPOINTS)):
        return False
    refuse_other_checkpoint(folder, manifest)
    if reached > steps:
        raise UserError(gone_beyond(folder, reached, steps))
    return reached == steps


def finished_steps(folder: str) -> int:
    """The last step of the complete run in a folder, whose checkpoint is in use; 0 where there is none."""
    return model_statistics(folder, read_manifest(folder))["steps"] if is_finished(folder) else 0


def holds_this_run(folder: str, stage: Stage) -> bool:
    """Whether a folder holds checkpoints, all of them made with this model, training, feed and seed, and these inputs.

    Raises:
        UserError: naming the keys of the config that differ, or a checkpoint that is damaged.
    """
    checkpoints = join(folder, CHECKPOINTS)
    keys = {read_progress(checkpoints, step).key for step in own_steps(checkpoints)}
    if keys <= {stage.key}:
        return bool(keys)
    theirs = saved_config(folder)
    # A run without adapters has no such section.
    ours = {"adapters": {"rank": 0}} | json.loads(canonical_json(stage.config))
    differing = differing_keys(ours, theirs) if theirs else []
    began = read_start(folder)
    differing += ["paths.start"] if stage.inputs.get("start", "") != (began.fingerprint if began else "") else []
    path = join(folder, INPUTS)
    if theirs and not differing and storage.exists(path):
        inputs = read_json(path, dict[str, str], f"delete {folder} and train anew")
        differing = [name for name, digest in stage.inputs.items() if inputs.get(name) != digest]
        differing = differing or ["version of sc2jax"]
    if differing == ["training.horizon_tokens"]:
        horizon = theirs["training"]["horizon_tokens"]
        raise UserError(
            f"{folder} holds a run with another training.horizon_tokens; set training.horizon_tokens={horizon} to keep "
            f"its schedule and go on, give another --workdir, or delete {folder} to train anew"
        )
    raise UserError(
        f"{folder} holds a run with {'another ' + ', '.join(differing) if differing else 'other inputs'}; give another "
        f"--workdir, or delete {folder} to train anew"
    )
