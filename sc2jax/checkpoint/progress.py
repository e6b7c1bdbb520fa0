"""What a checkpoint says of itself: which run it belongs to, how far that was, and the fingerprints of its arrays.

It is a small JSON beside the arrays, with a digest of itself, and is read without Orbax.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from sc2jax.checkpoint.disk import PARAMS, PROGRESS
from sc2jax.errors import UserError
from sc2jax.json_files import read_json
from sc2jax.storage import join

PROGRESS_FILE = "metadata"
"""The name that Orbax gives to a JSON."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run was.

    Attributes:
        step: the number of steps that were done.
        key: names the run's config and inputs.
        log_sha256: of the lines of the log up to here; "" where the run keeps none.
        pending: what the steps since the newest of these lines came to, by metric.
        counts: what was counted of their rows, by kind.
        evaluation_loss: of the parameters as they were here; None where they were not evaluated.
    """

    step: int
    key: str
    log_sha256: str = ""
    pending: Mapping[str, float] = dataclasses.field(default_factory=dict)
    counts: tuple[int, ...] = ()
    evaluation_loss: float | None = None


@dataclasses.dataclass(frozen=True)
class Described:
    """A checkpoint's progress as it lies on disk, with the fingerprints of the arrays of each of its parts."""

    step: int
    key: str
    fingerprints: Mapping[str, Mapping[str, int]]
    log_sha256: str
    pending: Mapping[str, float]
    counts: tuple[int, ...]
    evaluation_loss: float | None
    sha256: str

    @property
    def progress(self) -> Progress:
        """Where the run was."""
        return Progress(self.step, self.key, self.log_sha256, self.pending, self.counts, self.evaluation_loss)


def describe(progress: Progress, fingerprints: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What is written of a checkpoint."""
    loss = progress.evaluation_loss
    if loss is not None and not math.isfinite(loss):  # JSON has no such number, and it is nothing to be chosen by
        progress = dataclasses.replace(progress, evaluation_loss=None)
    said = dataclasses.asdict(progress) | {"fingerprints": fingerprints}
    return said | {"sha256": _digest(said)}


def progress_path(folder: str, step: int) -> str:
    """Where the checkpoint of a step says what it is, whether there is one or not."""
    return join(folder, f"{step}/{PROGRESS}/{PROGRESS_FILE}")


def read_progress(folder: str, step: int) -> Described:
    """What the checkpoint of a step says.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = progress_path(folder, step)
    remedy = f"delete {join(folder, str(step))} and run `sc2jax train` again"
    try:
        described = read_json(path, Described, remedy)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no checkpoint of step {step}: {join(folder, str(step))} is missing, or not ours and "
            "has to be moved away; run the stage that wrote it again"
        ) from error
    said = dataclasses.asdict(described)
    said.pop("sha256")
    if described.step != step or _digest(said) != described.sha256:
        raise UserError(f"{path} is not what was saved with the checkpoint; {remedy}")
    if PARAMS not in described.fingerprints:
        raise UserError(f"{path} names no parameters; {remedy}")
    return described


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
