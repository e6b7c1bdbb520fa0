"""Trains the model to its last step; run again, it goes on from the newest checkpoint.

Reads `tokenize/`, which it has written first where that is missing, and `tokenizer/`; writes `train/`: checkpoints,
metrics.jsonl, timing.jsonl. On several hosts the same command is started on each, with a folder that all of them share;
process 0 does for all what is done once, and the others read, train, and write their parts of the checkpoints.
"""

import dataclasses

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS, refuse_misread_path
from sc2jax.config import CONFIG_FILE, Settings
from sc2jax.feed.batches import open_batches
from sc2jax.feed.outlook import outlook
from sc2jax.model.params import count_params
from sc2jax.parallel.compilation_cache import use_compilation_cache
from sc2jax.parallel.config import HostsConfig
from sc2jax.parallel.hosts import Hosts, joined
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import canonical_json, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import data_digests, feed_inputs
from sc2jax.runs.model_checkpoint import PARAMETERS, training_statistics
from sc2jax.runs.model_of_start import with_model_of_start
from sc2jax.runs.objective import periodic_evaluation, training_objective, training_utilisation
from sc2jax.runs.on_all_hosts import (
    first_alone_speaks,
    held_folder,
    refuse_no_tokens,
    refuse_other_folder,
    refuse_other_inputs,
    refuse_other_settings,
    refuse_unshared_folder,
)
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.start_parameters import training_start
from sc2jax.runs.starting_points import START, StartingPoint, start_json, starting_point
from sc2jax.runs.tokens import ready_tokens, refuse_other_tokens
from sc2jax.runs.training_run import (
    INPUTS,
    finished_steps,
    fitted_run,
    holds_this_run,
    is_as_far,
    training_inputs,
    training_sections,
)
from sc2jax.storage import join
from sc2jax.training.global_batch import local_rows
from sc2jax.training.goodput import GOODPUT, in_a_line, read_totals
from sc2jax.training.journal import TENSORBOARD
from sc2jax.training.loop import TrainingResult, train
from sc2jax.training.metrics import METRICS, TIMING, metrics_of
from sc2jax.training.objective import trained_table
from sc2jax.training.profile import PROFILE
from sc2jax.training.step import refuse_indivisible

VERSION = 7
_TOKENIZE_SECONDS = 30 * 86_400.0
"""How long the others wait while process 0 lays the tokens of a whole corpus, which says how far it is."""

LOGS = (METRICS, TIMING, GOODPUT)


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's model."""
    with joined(settings.hosts) as hosts, first_alone_speaks(hosts):
        refuse_other_settings(hosts, settings)
        # Where the processes were is no part of the run, whose config may be run again elsewhere.
        _run(dataclasses.replace(settings, hosts=HostsConfig()), workdir, hosts)


def _run(settings: Settings, workdir: str, hosts: Hosts) -> None:
    this = with_model_of_start(open_run(settings, workdir))
    folder = this.folder("train")
    refuse_misread_path(join(folder, CHECKPOINTS), merged=True)
    if hosts.count > 1:  # before process 0 makes tokens of what it has
        refuse_other_inputs(hosts, data_digests(this))
    if hosts.is_first:
        ready_tokens(this)
    hosts.share("tokens", None, within=_TOKENIZE_SECONDS)
    if not hosts.is_first:
        refuse_no_tokens(this.folder("tokenize"))
        refuse_other_tokens(this)
    this, point = fitted_run(this), starting_point(this)
    inputs = training_inputs(this, point)
    refuse_other_inputs(hosts, inputs)
    is_begun = False

    def write(unfinished: str) -> Written:
        nonlocal is_begun
        holds_this_run(folder, stage)
        # From now on, so that a run that goes on can say which setting is another one.
        storage.write_whole(join(folder, CONFIG_FILE), this.config_json(inputs))
        storage.write_whole(join(folder, INPUTS), canonical_json(inputs, indent=1).encode())
        if point is not None:
            storage.write_whole(join(folder, START), start_json(point))
        is_begun = True
        hosts.share("folder to work in", held_folder(folder))
        result = _train(this, point, folder, stage.key, hosts)
        return _written(this, point, folder, unfinished, result)

    stage = Stage(
        "train",
        VERSION,
        training_sections(this.settings),
        inputs,
        write,
        lambda manifest: is_as_far(folder, manifest, this.settings.training.steps),
        # A checkpoint holds the key of its run under a digest of its own.
        adopts=lambda unmarked: holds_this_run(unmarked, stage),
        keeps=(CHECKPOINTS, CONFIG_FILE, INPUTS, *LOGS, PARAMETERS, START, TENSORBOARD, PROFILE),
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
    training, row_length = settings.training, settings.model.context_length
    use_compilation_cache(settings.paths.compilation_cache)
    if training.checkpoints_local:
        refuse_unshared_folder(hosts, training.checkpoints_local, "training.checkpoints_local")
    mesh = create_mesh(settings.mesh)
    refuse_indivisible(training, mesh, row_length)
    objective = training_objective(run, mesh)
    inputs = feed_inputs(run)
    feed = open_batches(inputs, training.batch_size, rows=local_rows(mesh, training.batch_size, row_length))
    try:
        for line in outlook(feed.rows, training.steps, training.batch_size):
            say(line)
        return train(
            feed,
            objective,
            training,
            mesh,
            row_length=row_length,
            folder=folder,
            key=key,
            start=training_start(run, point, mesh),
            hosts=hosts,
            utilisation=training_utilisation(run, mesh),
            evaluate=periodic_evaluation(run, mesh) if training.evaluate_every else None,
            protected=finished_steps(folder),
        )
    finally:
        feed.close()


def _written(run: Run, point: StartingPoint | None, folder: str, unfinished: str, result: TrainingResult) -> Written:
    """What is to be committed of a training, which goes into `unfinished`."""
    log = storage.read_bytes(join(folder, METRICS))
    outputs = [
        write_output(unfinished, METRICS, log),
        write_output(unfinished, PARAMETERS, canonical_json(result.fingerprints, indent=1).encode()),
    ]
    outputs.append(write_output(unfinished, INPUTS, storage.read_bytes(join(folder, INPUTS)), result=False))
    outputs += [
        write_output(unfinished, name, storage.read_bytes(join(folder, name)), result=False)
        for name in (TIMING, GOODPUT)
    ]
    if point is not None:
        outputs.append(write_output(unfinished, START, start_json(point), result=False))
    last = metrics_of(log, METRICS)[-1]
    if last["feed"]["damaged_rows"]:
        say(f"{last['feed']['damaged_rows']:,} rows were left empty, for their tokens are damaged")
    say(in_a_line(read_totals(folder)))
    statistics = {
        "parameters": count_params(trained_table(run.settings.model, run.settings.adapters)),
        "steps": result.steps,
        "tokens": last["tokens"],
        "loss": last["loss"],
    }
    return outputs, statistics
