"""The training loop: restore or begin, then batches, steps, log lines and checkpoints until the last step."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from jax.sharding import Mesh

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.emergency import emergency_warning
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import Note
from sc2jax.model.params import Params, stacked_mask
from sc2jax.parallel.hosts import AgreedError, Hosts
from sc2jax.storage import join
from sc2jax.training.config import TrainingConfig
from sc2jax.training.evaluation import BitsPerByte
from sc2jax.training.global_batch import local_rows, place_batch
from sc2jax.training.goodput import Bucket, Stopwatch
from sc2jax.training.journal import CountedFeed, Journal, NotFiniteError
from sc2jax.training.objective import Objective
from sc2jax.training.profile import PROFILE, Profile
from sc2jax.training.schedule import fitted_training
from sc2jax.training.start import SCRATCH, Start, beside_params, gone_beyond, new_state, resumed_state
from sc2jax.training.step import (
    Batch,
    Metrics,
    TrainState,
    batch_sharding,
    compile_train_step,
    refuse_indivisible,
)
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


Evaluate: TypeAlias = Callable[[Params, Params], BitsPerByte]
"""Measures parameters, given the frozen ones too; all processes call it together."""


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
    hosts: Hosts | None = None,
    utilisation: Utilisation = UNKNOWN,
    evaluate: Evaluate | None = None,
    protected: int = 0,
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
        hosts: the processes that train together; None: this one alone.
        utilisation: how much of their peak the devices reach.
        evaluate: measures the parameters on held-out rows, every `training.evaluate_every` steps.
        protected: a step whose checkpoint stays whatever comes, as others may be using it.

    Raises:
        UserError: the folder holds another run or a damaged checkpoint, the loss became infinite or not a number, or
            the run was asked to end before its last step.
    """
    training, stopwatch, hosts = fitted_training(training, row_length), Stopwatch(), hosts or Hosts()
    refuse_indivisible(training, mesh, row_length)
    checkpoints = Checkpoints(
        join(folder, CHECKPOINTS),
        training.checkpoints_kept,
        keep_every=training.keep_every,
        keep_best=training.keep_best,
        local=training.checkpoints_local,
        protected=protected,
    )
    positions = training.batch_size * row_length
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoints.close)
        state, reached = _begin(checkpoints, objective, training, mesh, key, start, stopwatch, hosts)
        feed.seek(reached.step)
        remaining = range(reached.step + 1, training.steps + 1)
        checkpoints.refuse_occupied(lambda step: step in remaining and _is_saved(step, training))
        journal = Journal(folder, feed, training, reached, positions, stopwatch, utilisation, writes=hosts.is_first)
        if hosts.is_first:
            journal.say(emergency_warning(checkpoints.folder, (state.params, beside_params(state))))
        profile = Profile(join(folder, PROFILE), training.profile_from, training.profile_steps)
        loop = _Loop(
            feed=feed,
            place=_placing(mesh, training.batch_size, row_length),
            step=_compiled(objective, training, mesh, row_length, start),
            stacked=stacked_mask(objective.table),
            training=training,
            key=key,
            hosts=hosts,
            evaluate=evaluate,
            checkpoints=checkpoints,
            stopwatch=stopwatch,
            journal=stack.enter_context(journal),
            profile=stack.enter_context(profile),
            watchdog=stack.enter_context(Watchdog(training.watchdog_minutes)),
        )
        hosts.adds_when_ended(checkpoints.standing)
        stack.enter_context(postponed_termination(hosts.ask_to_stop))
        stack.enter_context(hosts.ending_together())
        try:
            state = loop.run(state, remaining)
        except NotFiniteError as error:
            checkpoints.settle()
            raise AgreedError(
                f"{error}; {checkpoints.standing()}: lower training.peak_learning_rate, or look at the data of "
                "that step with `sc2jax show`"
            ) from error
        except AgreedError:
            raise
        except BaseException as error:
            error.add_note(Note(checkpoints.standing()))
            raise
    return TrainingResult(training.steps, fingerprint(state.params))


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The steps of a run, and what goes on around each."""

    feed: Feed
    place: Callable[[Mapping[str, np.ndarray]], Batch]
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    stacked: Any
    training: TrainingConfig
    key: str
    hosts: Hosts
    evaluate: Evaluate | None
    checkpoints: Checkpoints
    stopwatch: Stopwatch
    journal: Journal
    profile: Profile
    watchdog: Watchdog

    def run(self, state: TrainState, remaining: range) -> TrainState:
        """Goes through the remaining steps; returns the state after the last one."""
        with self.stopwatch.spent(Bucket.STEP):
            for step in remaining:
                with self.stopwatch.spent(Bucket.DATA):
                    batch = self.place(next(self.feed))
                self.profile.before(step)
                with self._compiling() if step == remaining.start else contextlib.nullcontext():
                    state, metrics = self.step(state, batch)
                self.profile.after(step, metrics)
                self.journal.dispatched(step, metrics, self.feed.wait_seconds)
                self.watchdog.step()
                self.journal.say(self.checkpoints.failed())
                stops = self.hosts.stops_after(step)
                if self.evaluate is not None and _is_evaluated(step, self.training):
                    self._evaluate(step, state, self.evaluate)
                if _is_saved(step, self.training) or stops:
                    self._save(step, state)
                if stops and step < remaining[-1]:
                    self._end_early(step)
        with self._saving():
            self.checkpoints.wait()
        self.journal.complete(self.training.steps)
        self.journal.publish()
        return state

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """The first step, which is compiled before it is begun, and may take as long as that takes."""
        with self.watchdog.paused(), self.stopwatch.spent(Bucket.COMPILATION):
            yield

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        with self.watchdog.paused(), self.stopwatch.spent(Bucket.SAVE):
            yield

    def _evaluate(self, step: int, state: TrainState, evaluate: Evaluate) -> None:
        with self.watchdog.paused(), self.stopwatch.spent(Bucket.EVALUATION):
            found = evaluate(state.params, state.frozen)
        self.journal.evaluated(step, found)
        self.journal.read()

    def _save(self, step: int, state: TrainState) -> None:
        self.journal.read()
        with self._saving():
            reached = self.journal.reached(step, self.key)
            self.checkpoints.save(reached, state.params, beside_params(state), self.stacked, self.journal.publish)

    def _end_early(self, step: int) -> None:
        with self._saving():
            self.checkpoints.wait()
        raise AgreedError(
            f"the training was asked to end: it is saved up to step {step:,}, and the same command goes on from there"
        )


def _placing(mesh: Mesh, batch_size: int, row_length: int) -> Callable[[Mapping[str, np.ndarray]], Batch]:
    """How the rows that this process reads become global arrays."""
    placement, rows = batch_sharding(mesh, batch_size, row_length), local_rows(mesh, batch_size, row_length)
    return lambda batch: place_batch(batch, placement, rows, batch_size)


def _compiled(
    objective: Objective, training: TrainingConfig, mesh: Mesh, row_length: int, start: Start
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    return compile_train_step(
        objective.table,
        objective.loss,
        training,
        mesh,
        row_length=row_length,
        seed=objective.seed,
        frozen=start.frozen_table,
        scaled=objective.scaled,
    )


def _begin(
    checkpoints: Checkpoints,
    objective: Objective,
    training: TrainingConfig,
    mesh: Mesh,
    key: str,
    start: Start,
    stopwatch: Stopwatch,
    hosts: Hosts,
) -> tuple[TrainState, Progress]:
    """The state to go on from, and how far it is.

    Raises:
        AgreedError: the run has gone beyond its last step, and would be written down as what it is not.
        UserError: a checkpoint is of another run, or is damaged.
    """
    # Process 0 decides: on NFS another host may still see the folder as it was.
    newest = hosts.share("newest checkpoint", checkpoints.latest_step() if hosts.is_first else None)
    if newest is not None and newest > training.steps:
        raise AgreedError(gone_beyond(checkpoints.folder, newest, training.steps))
    if newest is not None:
        with stopwatch.spent(Bucket.RESTORE):
            return resumed_state(checkpoints, newest, objective.table, training, mesh, key, start)
    with stopwatch.spent(Bucket.PREPARATION):
        state = new_state(objective.table, training, mesh, objective.seed, start, scaled=objective.scaled)
    return state, Progress(0, key)


def _is_evaluated(step: int, training: TrainingConfig) -> bool:
    """Whether the parameters are measured after a step, if that is asked for."""
    every = training.evaluate_every
    return every > 0 and (step % every == 0 or step == training.steps)


def _is_saved(step: int, training: TrainingConfig) -> bool:
    """Whether a checkpoint is written after a step."""
    return step % training.checkpoint_every == 0 or step == training.steps
