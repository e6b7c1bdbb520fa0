"""The training log: one JSON line for every few steps, with the same bytes however often the run was interrupted."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import Amount, Count, decode_json
from sc2jax.storage import inside, join
from sc2jax.training.log_files import LogFiles

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class Row(TypedDict):
    """A line of the log: what the steps since the last line came to, and what the feed did since the start."""

    step: Count
    loss: Amount
    gradient_norm: Amount
    learning_rate: Amount
    tokens: Count
    feed: Mapping[str, Any]


def read_metrics(folder: str) -> list[Row]:
    """The complete lines of a run's log, oldest first; none if there is no log.

    Raises:
        UserError: a line is damaged.
    """
    path = inside(folder, METRICS)
    is_there = storage.exists(path) if storage.is_url(path) else storage.is_there(path)
    return metrics_of(storage.read_bytes(path), path) if is_there else []


def metrics_of(content: bytes, where: str) -> list[Row]:
    """The complete lines of a log; a line without its newline is unfinished.

    Raises:
        UserError: a line is damaged.
    """
    remedy = "delete its folder and run `sc2jax train` again"
    rows: list[Row] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        rows.append(decode_json(line, Row, f"{where}, line {number},", remedy))
        if rows[-1]["step"] <= (rows[-2]["step"] if number > 1 else 0):
            raise UserError(f"{where}, line {number}, is damaged: its step does not come after those before; {remedy}")
    return rows


class MetricsLog:
    """Averages the metrics of some steps into a line of metrics.jsonl, and their times into a line of timing.jsonl.

    Losses are deterministic and times are not; kept apart, the first file can be compared byte for byte. `feed` in a
    line is what the whole feed has read and dropped since the start of the run.
    """

    def __init__(self, folder: str, step: int, sha256: str = "") -> None:
        """Opens the log of a run that continues after `step`, and drops later lines, whose steps will be done again.

        Raises:
            UserError: the lines up to `step` are not those whose `sha256` was saved with its checkpoint, or something
                else than a file has the name of one.
        """
        self.files = LogFiles(folder)
        """Where the lines are, to be published with each checkpoint."""
        self._file, self._timing = self.files.open(METRICS), self.files.open(TIMING)
        storage.append(self._timing, b"")
        written = (
            storage.read_bytes(self._file).splitlines(keepends=True) if storage.is_there(self._file) and step else []
        )
        rows = metrics_of(b"".join(written), join(folder, METRICS))
        kept = sum(row["step"] <= step for row in rows)
        content = b"".join(written[:kept])
        self._sha256 = hashlib.sha256(content)
        if sha256 and self._sha256.hexdigest() != sha256:
            raise UserError(
                f"{join(folder, METRICS)} does not hold the lines that were written up to step {step}: some are "
                f"missing or changed; bring it back, or delete {folder} to train anew"
            )
        storage.write_whole(self._file, content)
        self._tokens = rows[kept - 1]["tokens"] if kept else 0
        self.feed: Mapping[str, Any] = rows[kept - 1]["feed"] if kept else {}
        """What the newest line says of the feed; nothing before the first."""
        self._pending: list[dict[str, float]] = []
        self._seconds = self._waited = 0.0

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._sha256.hexdigest()

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
        for path, line in ((self._file, _line(row)), (self._timing, _line(speed))):
            storage.append(path, line)
        self._sha256.update(_line(row))
        self.feed = feed
        self._pending, self._seconds, self._waited = [], 0.0, 0.0


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, sort_keys=True).encode() + b"\n"
