"""The training loop: restore or begin, then batches, steps, log lines and checkpoints until the last step."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.model.params import Table, stacked_mask
from sc2jax.parallel.hosts import Hosts
from sc2jax.storage import join
from sc2jax.training.config import TrainingConfig
from sc2jax.training.global_batch import local_rows, place_batch
from sc2jax.training.goodput import Bucket, Stopwatch
from sc2jax.training.journal import CountedFeed, Journal, NotFiniteError
from sc2jax.training.profile import PROFILE, Profile
from sc2jax.training.schedule import fitted_training
from sc2jax.training.start import SCRATCH, Start, beside_params, new_state, resumed_state
from sc2jax.training.step import Loss, TrainState, batch_sharding, compile_train_step
from sc2jax.training.termination import postponed_termination
from sc2jax.training.utilisation import UNKNOWN, Utilisation
from sc2jax.training.watchdog import Watchdog


class Feed(CountedFeed, Protocol):
    """What the loop needs from a feed: batches of this process's rows, from any step on."""

    wait_seconds: float

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def seek(self, step: int) -> None:
        """Continues after a step."""
        ...


ALONE = Hosts()
"""A run of one process."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is trained.

    Attributes:
        table: the parameters.
        loss: what is minimised.
        seed: of the parameters and of whatever the loss draws.
        scaled: whether the loss is computed in float16, see `compile_train_step`.
    """

    table: Table
    loss: Loss
    seed: int
    scaled: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The last step of a finished run and the fingerprints of its parameters."""

    steps: int
    fingerprints: dict[str, int]


def train(
    feed: Feed,
    objective: Objective,
    training: TrainingConfig,
    mesh: Mesh,
    *,
    row_length: int,
    folder: str,
    key: str,
    start: Start = SCRATCH,
    hosts: Hosts = ALONE,
    utilisation: Utilisation = UNKNOWN,
) -> TrainingResult:
    """Trains parameters to the last step, from the newest checkpoint in `folder` of the same `key`.

    Started again after an interruption at any moment, it ends with the same parameters and the same log.

    Args:
        feed: batches of rows of `row_length` positions.
        objective: what is trained.
        training: optimizer, schedule and bookkeeping.
        mesh: where everything lives.
        row_length: positions of a row.
        folder: gets the checkpoints and the log.
        key: names the config and the inputs of the run.
        start: where parameters come from that do not follow from the seed.
        hosts: the processes that train together.
        utilisation: how much of their peak the devices reach.

    Raises:
        UserError: the folder holds another run or a damaged checkpoint, the loss became infinite or not a number, or
            the run was asked to end before its last step.
    """
    training, stopwatch = fitted_training(training, row_length), Stopwatch()
    table, size = objective.table, training.batch_size
    placement, rows = batch_sharding(mesh, size, row_length), local_rows(mesh, size, row_length)
    step_function = compile_train_step(
        table,
        objective.loss,
        training,
        mesh,
        row_length=row_length,
        seed=objective.seed,
        frozen=start.frozen_table,
        scaled=objective.scaled,
    )
    checkpoints = Checkpoints(
        join(folder, CHECKPOINTS),
        training.checkpoints_kept,
        keep_every=training.keep_every,
        keep_best=training.keep_best,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoints.close)
        state, reached = _begin(checkpoints, objective, training, mesh, key, start, stopwatch)
        feed.seek(reached.step)
        remaining = range(reached.step + 1, training.steps + 1)
        checkpoints.refuse_occupied(lambda step: step in remaining and _is_saved(step, training))
        positions = size * row_length
        journal = stack.enter_context(
            Journal(folder, feed, training, reached, positions, stopwatch, utilisation, writes=hosts.is_first)
        )
        profile = stack.enter_context(Profile(join(folder, PROFILE), training.profile_from, training.profile_steps))
        watchdog = stack.enter_context(Watchdog(training.watchdog_minutes))
        stack.enter_context(postponed_termination(hosts.ask_to_stop))

        def save(step: int, state: TrainState) -> None:
            journal.read()
            with watchdog.paused(), stopwatch.spent(Bucket.SAVE):
                checkpoints.save(journal.reached(step, key), state.params, beside_params(state), stacked_mask(table))
            journal.say(checkpoints.failed())

        stack.enter_context(stopwatch.spent(Bucket.STEP))
        for step in remaining:
            with stopwatch.spent(Bucket.DATA):
                batch = place_batch(next(feed), placement, rows, size)
            profile.before(step)
            if step == remaining.start:
                with watchdog.paused(), stopwatch.spent(Bucket.COMPILATION):
                    state, metrics = jax.block_until_ready(step_function(state, batch))
            else:
                state, metrics = step_function(state, batch)
            profile.after(step, metrics)
            journal.dispatched(step, metrics, feed.wait_seconds)
            watchdog.step()
            stops = hosts.stops_after(step)
            if _is_saved(step, training) or stops:
                save(step, state)
            if stops and step < remaining[-1]:
                break
        with watchdog.paused(), stopwatch.spent(Bucket.SAVE):
            checkpoints.wait()
        step_reached = int(state.step)
        if step_reached < training.steps:
            hosts.gather("saved", step_reached)  # none ends the others before all is on the disk
        else:
            journal.complete(step_reached)
    if step_reached < training.steps:
        raise UserError(
            f"the training was asked to end: it is saved up to step {step_reached:,}, and the same command goes on from "
            "there"
        )
    return TrainingResult(step_reached, fingerprint(state.params))


def _begin(
    checkpoints: Checkpoints,
    objective: Objective,
    training: TrainingConfig,
    mesh: Mesh,
    key: str,
    start: Start,
    stopwatch: Stopwatch,
) -> tuple[TrainState, Progress]:
    """The state to go on from, and how far it is."""
    with stopwatch.spent(Bucket.RESTORE):
        found = resumed_state(checkpoints, objective.table, training, mesh, key, start)
    if found is not None:
        return found
    with stopwatch.spent(Bucket.PREPARATION):
        state = new_state(objective.table, training, mesh, objective.seed, start, scaled=objective.scaled)
    return state, Progress(0, key)


def _is_saved(step: int, training: TrainingConfig) -> bool:
    """Whether a checkpoint is written after a step."""
    return step % training.checkpoint_every == 0 or step == training.steps
