"""Trains the model to its last step; run again, it goes on from the newest checkpoint.

Reads `tokenize/`, which it has written first where that is missing, and `tokenizer/`; writes `train/`: checkpoints,
metrics.jsonl, timing.jsonl.
"""

import dataclasses
import json

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS, refuse_misread_path
from sc2jax.checkpoint.ownership import own_steps
from sc2jax.checkpoint.progress import read_progress
from sc2jax.config import CONFIG_FILE, Settings, differing_keys
from sc2jax.errors import UserError
from sc2jax.feed.batches import open_batches
from sc2jax.feed.outlook import outlook
from sc2jax.model.adapters import adapted
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import count_params
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import Manifest, canonical_json, is_finished, read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import feed_inputs, input_digests
from sc2jax.runs.model_checkpoint import (
    PARAMETERS,
    model_statistics,
    refuse_other_checkpoint,
    training_statistics,
)
from sc2jax.runs.model_of_start import refuse_misfit, with_model_of_start
from sc2jax.runs.models import fitted_model
from sc2jax.runs.run import Run, open_run, saved_config, say
from sc2jax.runs.start_parameters import trained_table, training_start
from sc2jax.runs.starting_points import START, StartingPoint, read_start, start_json, starting_point
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.runs.tokens import ready_tokens
from sc2jax.storage import join
from sc2jax.training.loop import local_rows, train
from sc2jax.training.metrics import METRICS, TIMING, metrics_of
from sc2jax.training.schedule import fitted_training

VERSION = 6
SECTIONS = ("model", "training", "feed", "format", "fim", "seed")
"""What a training run depends on, beside its inputs."""


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's model."""
    this = with_model_of_start(open_run(settings, workdir))
    settings, folder = this.settings, this.folder("train")
    if storage.is_url(folder):
        raise UserError(f"{folder}: train writes its log to a local disk; give a local --workdir")
    refuse_misread_path(join(folder, CHECKPOINTS), merged=True)
    ready_tokens(this)
    inputs = input_digests(this, "train")
    model = fitted_model(settings.model, open_tokenizer(this))
    training = fitted_training(settings.training, model.context_length)
    this = dataclasses.replace(this, settings=dataclasses.replace(settings, model=model, training=training))
    sections = {name: getattr(this.settings, name) for name in SECTIONS} | {"mesh": settings.mesh}
    sections |= {"adapters": settings.adapters} if settings.adapters.rank else {}
    point = starting_point(this)
    if point is not None:
        refuse_misfit(this, point)
        inputs |= {"start": point.fingerprint}
    elif settings.adapters.rank:
        raise UserError(
            "adapters are added to a model that is there: name it with --config.paths.start=DIR, a folder that "
            "`train` or `convert` wrote, or train all parameters with --config.adapters.rank=0"
        )

    def write(unfinished: str) -> Written:
        holds_this_run(folder, stage)
        # From now on, so that a run that goes on can say which setting is another one.
        storage.write_whole(join(folder, CONFIG_FILE), this.config_json(inputs))
        if point is not None:
            storage.write_whole(join(folder, START), start_json(point))
        return _train(this, point, folder, unfinished, stage.key)

    def intact(manifest: Manifest) -> bool:
        if model_statistics(folder, manifest)["steps"] not in own_steps(join(folder, CHECKPOINTS)):
            return False
        refuse_other_checkpoint(folder, manifest)
        return True

    keeps = (CHECKPOINTS, CONFIG_FILE, METRICS, TIMING, PARAMETERS, START)
    stage = Stage(
        "train",
        VERSION,
        sections,
        inputs,
        write,
        intact,
        # A checkpoint holds the key of its run under a digest of its own.
        adopts=lambda unmarked: holds_this_run(unmarked, stage),
        keeps=keeps,
    )
    statistics = training_statistics(folder, this.do(stage))
    say(
        f"{statistics['parameters']:,} parameters, {statistics['steps']:,} steps, {statistics['tokens']:,} tokens, "
        f"loss {statistics['loss']:.3f}",
        folder,
    )


def _train(run: Run, point: StartingPoint | None, folder: str, unfinished: str, key: str) -> Written:
    """Trains in `folder`, whose log people follow; what is to be committed goes into `unfinished`."""
    settings = run.settings
    mesh = create_mesh(settings.mesh)
    size, row_length = settings.training.batch_size, settings.model.context_length
    table = trained_table(run)
    loss = next_token_loss(settings.model, settings.training.loss_chunk, mesh, settings.training.z_loss)
    if settings.adapters.rank:
        loss = adapted(loss, settings.adapters)
    feed = open_batches(feed_inputs(run), size, rows=local_rows(mesh, size, row_length))
    for line in outlook(feed.rows, settings.training.steps, size):
        say(line)
    try:
        result = train(
            feed,
            table,
            loss,
            settings.training,
            mesh,
            row_length=row_length,
            folder=folder,
            key=key,
            seed=settings.seed,
            start=training_start(run, point, mesh),
            scaled=settings.model.compute_dtype == "float16",
        )
    finally:
        feed.close()
    log = storage.read_bytes(join(folder, METRICS))
    outputs = [
        write_output(unfinished, METRICS, log),
        write_output(unfinished, PARAMETERS, canonical_json(result.fingerprints, indent=1).encode()),
        write_output(unfinished, TIMING, storage.read_bytes(join(folder, TIMING)), result=False),
    ]
    if point is not None:
        outputs.append(write_output(unfinished, START, start_json(point), result=False))
    last = metrics_of(log, METRICS)[-1]
    if last["feed"]["damaged_rows"]:
        say(f"{last['feed']['damaged_rows']:,} rows were left empty, for their tokens are damaged")
    statistics = {
        "parameters": count_params(table),
        "steps": result.steps,
        "tokens": last["tokens"],
        "loss": last["loss"],
    }
    return outputs, statistics


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
    differing = differing_keys(json.loads(canonical_json(stage.config)), theirs) if theirs else []
    began = read_start(folder)
    differing += ["start"] if stage.inputs.get("start", "") != (began.fingerprint if began else "") else []
    if not differing and is_finished(folder):
        inputs = read_manifest(folder).inputs
        differing = [name for name, digest in stage.inputs.items() if inputs.get(name) != digest]
        differing = differing or ["version of sc2jax"]
    raise UserError(
        f"{folder} holds a run with {'another ' + ', '.join(differing) if differing else 'other inputs'}; give another "
        f"--workdir, or delete {folder} to train anew"
    )
