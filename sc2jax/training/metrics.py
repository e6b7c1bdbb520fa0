"""The training log: one JSON line for every few steps, with the same bytes however often the run was interrupted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sc2jax import storage
from sc2jax.errors import UserError

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


def read_metrics(folder: str) -> list[dict[str, Any]]:
    """The complete lines of a run's log, oldest first.

    Raises:
        UserError: a line is damaged.
    """
    path = Path(folder, METRICS)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # a line without its newline is unfinished
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); delete its manifest.json and run `sc2jax train` again"
        ) from error


class MetricsLog:
    """Averages the metrics of some steps into a line of metrics.jsonl, and their times into a line of timing.jsonl.

    Losses are deterministic and times are not; kept apart, the first file can be compared byte for byte. `feed` in a
    line is what the whole feed has read and dropped since the start of the run.
    """

    def __init__(self, folder: str, step: int) -> None:
        """Opens the log of a run that continues after `step`, and drops later lines, whose steps will be done again."""
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        storage.write_whole(storage.join(folder, METRICS), "".join(map(_line, kept)).encode())
        self._file = Path(folder, METRICS)
        self._timing = Path(folder, TIMING)
        self._tokens = kept[-1]["tokens"] if kept else 0
        self._pending: list[dict[str, float]] = []
        self._seconds = self._waited = 0.0

    def add(self, metrics: dict[str, float], seconds: float, waited: float) -> None:
        """Takes the metrics of one finished step, its wall time and how long it waited for its batch, in seconds."""
        self._pending.append(metrics)
        self._seconds += seconds
        self._waited += waited

    def write(self, step: int, feed: Mapping[str, Any]) -> None:
        """Writes the line of the steps since the last one, with what the feed has done up to this step.

        The loss is the mean over their tokens, not over the steps.
        """
        tokens = sum(row["tokens"] for row in self._pending)
        self._tokens += int(tokens)
        row = {
            "step": step,
            "loss": sum(row["loss"] * row["tokens"] for row in self._pending) / max(tokens, 1.0),
            "gradient_norm": sum(row["gradient_norm"] for row in self._pending) / len(self._pending),
            "learning_rate": self._pending[-1]["learning_rate"],
            "tokens": self._tokens,
            "feed": feed,
        }
        speed = {
            "step": step,
            "seconds": round(self._seconds, 4),
            "tokens_per_second": round(tokens / max(self._seconds, 1e-9), 1),
            "feed_wait_seconds": round(self._waited, 4),
        }
        for path, line in ((self._file, row), (self._timing, speed)):
            with path.open("a", encoding="utf-8") as file:
                file.write(_line(line))
        self._pending, self._seconds, self._waited = [], 0.0, 0.0


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True) + "\n"
