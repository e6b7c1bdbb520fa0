"""Trains the model to its last step; run again, it goes on from the newest checkpoint.

Reads `tokenize/`, which it has written first where that is missing, and `tokenizer/`; writes `train/`: checkpoints,
metrics.jsonl, timing.jsonl. On several hosts the same command is started on each, with a folder that all of them share;
process 0 does for all what is done once, and the others read, train, and write their parts of the checkpoints.
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
from sc2jax.parallel.config import HostsConfig
from sc2jax.parallel.hosts import Hosts, joined
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
from sc2jax.runs.on_all_hosts import (
    first_alone_speaks,
    held_folder,
    refuse_other_folder,
    refuse_other_inputs,
    refuse_other_settings,
)
from sc2jax.runs.run import Run, open_run, saved_config, say
from sc2jax.runs.start_parameters import trained_table, training_start
from sc2jax.runs.starting_points import START, StartingPoint, read_start, start_json, starting_point
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.runs.tokens import ready_tokens, refuse_other_tokens
from sc2jax.storage import join
from sc2jax.training.global_batch import local_rows
from sc2jax.training.loop import Objective, TrainingResult, train
from sc2jax.training.metrics import METRICS, TIMING, metrics_of
from sc2jax.training.schedule import fitted_training
from sc2jax.training.step import refuse_indivisible

VERSION = 6
_TOKENIZE_SECONDS = 30 * 86_400.0
"""How long the others wait while process 0 lays the tokens of a whole corpus, which says how far it is."""

SECTIONS = ("model", "training", "feed", "format", "fim", "seed")
"""What a training run depends on, beside its inputs."""


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's model."""
    with joined(settings.hosts) as hosts, first_alone_speaks(hosts):
        refuse_other_settings(hosts, settings)
        # Where the processes were is no part of the run, whose config may be run again elsewhere.
        _run(dataclasses.replace(settings, hosts=HostsConfig()), workdir, hosts)


def _run(settings: Settings, workdir: str, hosts: Hosts) -> None:
    this = with_model_of_start(open_run(settings, workdir))
    settings, folder = this.settings, this.folder("train")
    if storage.is_url(folder):
        raise UserError(f"{folder}: train writes its log to a local disk; give a local --workdir")
    refuse_misread_path(join(folder, CHECKPOINTS), merged=True)
    if hosts.is_first:
        ready_tokens(this)
    hosts.share("tokens", None, within=_TOKENIZE_SECONDS)
    if not hosts.is_first:
        refuse_other_tokens(this)
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

    refuse_other_inputs(hosts, inputs)
    is_begun = False

    def write(unfinished: str) -> Written:
        nonlocal is_begun
        holds_this_run(folder, stage)
        # From now on, so that a run that goes on can say which setting is another one.
        storage.write_whole(join(folder, CONFIG_FILE), this.config_json(inputs))
        if point is not None:
            storage.write_whole(join(folder, START), start_json(point))
        is_begun = True
        hosts.share("folder to work in", held_folder(folder))
        return _written(this, point, folder, unfinished, _train(this, point, folder, stage.key, hosts))

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
    if not hosts.is_first:
        held = hosts.share("folder to work in", None)
        if held:
            refuse_other_folder(folder, held)
            _train(this, point, folder, stage.key, hosts)
        return
    statistics = training_statistics(folder, this.do(stage))
    if not is_begun:
        hosts.share("folder to work in", "")
    say(
        f"{statistics['parameters']:,} parameters, {statistics['steps']:,} steps, {statistics['tokens']:,} tokens, "
        f"loss {statistics['loss']:.3f}",
        folder,
    )


def _train(run: Run, point: StartingPoint | None, folder: str, key: str, hosts: Hosts) -> TrainingResult:
    """Trains in `folder`, whose log people follow."""
    settings = run.settings
    mesh = create_mesh(settings.mesh)
    size, row_length = settings.training.batch_size, settings.model.context_length
    table = trained_table(run)
    refuse_indivisible(settings.training, mesh, row_length)
    loss = next_token_loss(settings.model, settings.training.loss_chunk, mesh, settings.training.z_loss)
    if settings.adapters.rank:
        loss = adapted(loss, settings.adapters)
    feed = open_batches(feed_inputs(run), size, rows=local_rows(mesh, size, row_length))
    for line in outlook(feed.rows, settings.training.steps, size):
        say(line)
    try:
        return train(
            feed,
            Objective(table, loss, settings.seed, scaled=settings.model.compute_dtype == "float16"),
            settings.training,
            mesh,
            row_length=row_length,
            folder=folder,
            key=key,
            start=training_start(run, point, mesh),
            hosts=hosts,
        )
    finally:
        feed.close()


def _written(run: Run, point: StartingPoint | None, folder: str, unfinished: str, result: TrainingResult) -> Written:
    """What is to be committed of a training, which goes into `unfinished`."""
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
        "parameters": count_params(trained_table(run)),
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
