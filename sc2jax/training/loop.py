"""The training loop: restore or start, then batches, steps, log lines and checkpoints until the last step."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.model.params import Table, stacked_mask
from sc2jax.progress import progress
from sc2jax.training.config import TrainingConfig
from sc2jax.training.metrics import MetricsLog
from sc2jax.training.schedule import fitted_training
from sc2jax.training.spoken_progress import SpokenProgress
from sc2jax.training.start import SCRATCH, Start
from sc2jax.training.step import (
    Batch,
    Loss,
    Metrics,
    TrainState,
    abstract_state,
    batch_sharding,
    compile_train_step,
    init_state,
)


class Feed(Protocol):
    """What the loop needs from a feed: batches of this process's rows, from any step on."""

    wait_seconds: float

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def losses(self) -> np.ndarray:
        """What the rows of the newest batch lack, int64 (global rows, kinds); rows of other processes are zero."""
        ...

    def statistics(self, step: int, losses: np.ndarray, before: Mapping[str, Any]) -> dict[str, Any]:
        """What was read up to a step, given what rows lacked since the statistics `before`, which may be empty."""
        ...

    def seek(self, step: int) -> None:
        """Continues after a step."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The last step of a finished run and the fingerprints of its parameters."""

    steps: int
    fingerprints: dict[str, int]


def local_rows(mesh: Mesh, batch_size: int, row_length: int) -> list[int]:
    """The rows of the global batch that this process's devices hold, and that it therefore reads.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    shape = (batch_size, row_length)
    placement = batch_sharding(mesh, *shape)
    slices = [index[0] for index in placement.addressable_devices_indices_map(shape).values() if index is not None]
    return sorted({row for rows in slices for row in range(*rows.indices(batch_size))})


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
    start: Start = SCRATCH,
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
        start: where parameters come from that do not follow from the seed.
        scaled: whether the loss is computed in float16, see `compile_train_step`.

    Raises:
        UserError: the folder holds another run or a damaged checkpoint, or the loss became infinite or not a number.
    """
    training = fitted_training(training, row_length)
    size = training.batch_size
    placement, rows = batch_sharding(mesh, size, row_length), local_rows(mesh, size, row_length)
    place = partial(place_batch, placement=placement, rows=rows, batch_size=size)
    checkpoints = Checkpoints(f"{folder}/{CHECKPOINTS}", training.checkpoints_kept)
    try:
        state, log_sha256 = _start(checkpoints, feed, table, training, mesh, folder, key, seed, start, scaled)
        first = int(state.step)
        checkpoints.refuse_occupied(lambda step: first < step <= training.steps and _is_saved(step, training))
        log = MetricsLog(folder, first, log_sha256) if jax.process_index() == 0 else None
        step = compile_train_step(
            table,
            loss,
            training,
            mesh,
            row_length=row_length,
            seed=seed,
            frozen=start.frozen_table,
            scaled=scaled,
        )

        def save(state: TrainState) -> None:
            reached = Progress(int(state.step), key, log.sha256 if log else "")
            checkpoints.save(reached, state.params, _beside_params(state), stacked_mask(table))

        state = _run(feed, state, step, place, save, log, training)
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
    start: Start,
    scaled: bool,
) -> tuple[TrainState, str]:
    """The state of the own checkpoint, or of what the run begins with, and the digest of the log up to there."""
    abstract, step = abstract_state(table, training, mesh), checkpoints.latest_step()
    if step is None:
        return _begin(abstract, table, training, mesh, seed, start, scaled), ""
    # All of them, for the oldest ones are deleted as new ones come.
    other = [step for step in checkpoints.steps() if checkpoints.read_key(step) != key]
    if other:
        raise UserError(
            f"{folder} holds checkpoints of a run with another config or other inputs (step {other[-1]}); give another "
            f"--workdir, or delete {folder} to train anew"
        )
    reached, params, beside = checkpoints.restore(step, abstract.params, _beside_params(abstract))
    feed.seek(reached.step)
    reached_step = jax.device_put(np.int32(reached.step), abstract.step.sharding)
    return TrainState(reached_step, params, frozen=start.frozen(), **beside), reached.log_sha256


def _begin(
    abstract: TrainState, table: Table, training: TrainingConfig, mesh: Mesh, seed: int, start: Start, scaled: bool
) -> TrainState:
    """The state of a new run, by the starting point, or by the seed where that has none."""
    if start.state is None:
        params = start.params() if start.params else None
        return init_state(table, training, mesh, seed, start.frozen(), params, scaled=scaled)
    folder, step = start.state
    others = Checkpoints(folder)
    try:
        _, params, beside = others.restore(step, abstract.params, _beside_params(abstract))
    finally:
        others.close()
    state = init_state(table, training, mesh, seed, start.frozen(), params, scaled=scaled)
    return dataclasses.replace(state, optimizer_state=beside["optimizer_state"])


def _beside_params(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds in its optimizer's part."""
    return {"optimizer_state": state.optimizer_state, "health": state.health}


def _run(
    feed: Feed,
    state: TrainState,
    step_function: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    place: Callable[[Mapping[str, np.ndarray]], Batch],
    save: Callable[[TrainState], None],
    log: MetricsLog | None,
    training: TrainingConfig,
) -> TrainState:
    first = int(state.step)
    bar = progress(initial=first, total=training.steps, desc="train", unit="step")
    spoken = SpokenProgress(first, training.steps) if bar.disable and log is not None else None
    unread: tuple[Metrics, np.ndarray, float] | None = None
    started, lost = time.monotonic(), np.zeros(1, np.int64)

    def read(step: int, metrics: Metrics, losses: np.ndarray, waited: float) -> None:
        nonlocal started, lost
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        _refuse_not_finite(step, values)
        now = time.monotonic()
        if log is not None:
            log.add(values, now - started, waited)
        started, lost = now, lost + losses
        if step % training.log_every == 0 or step == training.steps:
            # Other processes read other rows: all of them take part in putting together what these lacked.
            statistics = feed.statistics(step, whole_losses(lost), log.feed if log is not None else {})
            lost = np.zeros(1, np.int64)
            if log is not None:
                log.write(step, statistics)
        bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        bar.update()
        if spoken is not None:
            spoken.step(step, values["loss"], values["tokens"])

    for step in range(first + 1, training.steps + 1):
        batch = place(next(feed))
        losses, waited = feed.losses(), feed.wait_seconds
        state, metrics = step_function(state, batch)
        # The metrics of a step are read after the next step was dispatched, so that the devices never wait for us.
        if unread is not None:
            read(step - 1, *unread)
        unread = metrics, losses, waited
        if _is_saved(step, training):
            read(step, *unread)
            unread = None
            save(state)
    bar.close()
    return state


def _is_saved(step: int, training: TrainingConfig) -> bool:
    """Whether a checkpoint is written after a step."""
    return step % training.checkpoint_every == 0 or step == training.steps


def _refuse_not_finite(step: int, metrics: Mapping[str, float]) -> None:
    loss, norm = metrics["loss"], metrics["gradient_norm"]
    if not math.isfinite(loss + norm):
        raise UserError(
            f"the loss or its gradient is not finite at step {step} (loss {loss}, gradient norm {norm}); the newest "
            "checkpoint is good: lower training.peak_learning_rate, or look at the data of that step with `sc2jax show`"
        )


def place_batch(
    batch: Mapping[str, np.ndarray], placement: NamedSharding, rows: Sequence[int], batch_size: int
) -> dict[str, jax.Array]:
    """Global arrays from the rows that this process read: its row i is row `rows[i]` of the global batch."""
    local = {row: index for index, row in enumerate(rows)}

    def place(array: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            return array[[local[row] for row in range(*index[0].indices(batch_size))]][:, index[1]]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), placement, part)

    return {name: place(array) for name, array in batch.items()}


def whole_losses(losses: np.ndarray) -> np.ndarray:
    """What the rows of the whole batch lacked, put together from each process's part."""
    if jax.process_count() == 1:
        return losses
    # Rows of other processes are zero, so the maximum over all processes is the whole, even where two of them hold the
    # same row. The integers travel as pairs of 32-bit words, because JAX without x64 mode would truncate them.
    gathered: Any = multihost_utils.process_allgather(np.ascontiguousarray(losses).view(np.uint32))
    return np.asarray(gathered).view(np.int64).max(axis=0)
