"""The training loop: restore or start, then batches, steps, log lines and checkpoints until the last step."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.model.params import Table, stacked_mask
from sc2jax.training.config import TrainingConfig
from sc2jax.training.global_batch import local_rows, place_batch
from sc2jax.training.journal import Journal, ReadFeed
from sc2jax.training.metrics import MetricsLog
from sc2jax.training.step import (
    Loss,
    TrainState,
    abstract_state,
    batch_sharding,
    compile_train_step,
    init_state,
)


class Feed(ReadFeed, Protocol):
    """What the loop needs from a feed: batches of this process's rows, from any step on."""

    wait_seconds: float

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def seek(self, step: int) -> None:
        """Continues after a step."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The last step of a finished run and the fingerprints of its parameters."""

    steps: int
    fingerprints: dict[str, int]


def train(
    feed: Feed,
    table: Table,
    loss: Loss,
    training: TrainingConfig,
    mesh: Mesh,
    *,
    row_length: int,
    folder: str,
    key: str,
    seed: int,
    scaled: bool = False,
) -> TrainingResult:
    """Trains the parameters of a table to the last step, from the newest checkpoint in `folder` of the same `key`.

    Started again after an interruption at any moment, it ends with the same parameters and the same log.

    Args:
        feed: batches of rows of `row_length` positions.
        table: the parameters.
        loss: what is minimised.
        training: optimizer, schedule and bookkeeping.
        mesh: where everything lives.
        row_length: positions of a row.
        folder: gets the checkpoints and the log.
        key: names the config and the inputs of the run.
        seed: of the parameters and of whatever the loss draws.
        scaled: whether the loss is computed in float16, see `compile_train_step`.

    Raises:
        UserError: the folder holds another run or a damaged checkpoint, or the loss became infinite or not a number.
    """
    training = fitted_training(training, row_length)
    size = training.batch_size
    placement, rows = batch_sharding(mesh, size, row_length), local_rows(mesh, size, row_length)
    checkpoints = Checkpoints(f"{folder}/{CHECKPOINTS}", training.checkpoints_kept)
    try:
        state, reached = _start(checkpoints, feed, table, training, mesh, folder, key, seed)
        remaining = range(reached.step + 1, training.steps + 1)
        checkpoints.refuse_occupied(lambda step: step in remaining and _is_saved(step, training))
        log = (
            MetricsLog(folder, reached.step, reached.log_sha256, reached.pending) if jax.process_index() == 0 else None
        )
        journal = Journal(feed, log, reached, training.steps, training.log_every)
        step_function = compile_train_step(table, loss, training, mesh, row_length=row_length, seed=seed)
        for step in remaining:
            batch = place_batch(next(feed), placement, rows, size)
            state, metrics = step_function(state, batch)
            journal.dispatched(step, metrics, feed.wait_seconds)
            if _is_saved(step, training):
                journal.read()
                checkpoints.save(journal.reached(step, key), state.params, _beside_params(state), stacked_mask(table))
        journal.close()
        checkpoints.wait()
    finally:
        checkpoints.close()
    return TrainingResult(int(state.step), fingerprint(state.params))


def _start(
    checkpoints: Checkpoints,
    feed: Feed,
    table: Table,
    training: TrainingConfig,
    mesh: Mesh,
    folder: str,
    key: str,
    seed: int,
) -> tuple[TrainState, Progress]:
    """The state to go on from, and how far it is."""
    step = checkpoints.latest_step()
    if step is None:
        return init_state(table, training, mesh, seed), Progress(0, key)
    abstract = abstract_state(table, training, mesh)
    # All of them, for the oldest ones are deleted as new ones come.
    other = [step for step in checkpoints.steps() if checkpoints.read_key(step) != key]
    if other:
        raise UserError(
            f"{folder} holds checkpoints of a run with another config or other inputs (step {other[-1]}); give another "
            f"--workdir, or delete {folder} to train anew"
        )
    reached, params, beside = checkpoints.restore(step, abstract.params, _beside_params(abstract))
    feed.seek(reached.step)
    start = jax.device_put(np.int32(reached.step), abstract.step.sharding)
    return TrainState(start, params, frozen={}, **beside), reached


def _open_log(folder: str, reached: Progress) -> MetricsLog:
    return MetricsLog(folder, reached.step, reached.log_sha256, reached.pending)


def _beside_params(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds in its optimizer's part."""
    return {"optimizer_state": state.optimizer_state, "health": state.health}


def _is_saved(step: int, training: TrainingConfig) -> bool:
    """Whether a checkpoint is written after a step."""
    return step % training.checkpoint_every == 0 or step == training.steps
