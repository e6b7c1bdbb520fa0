"""The training log: one JSON line for every few steps, with the same bytes however often the run was interrupted."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import msgspec

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import Amount, Count, decode_json
from sc2jax.storage import join
from sc2jax.training.log_files import LogFiles, read_log

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class Row(TypedDict):
    """A line of the log: what the steps since the last line came to, and what the feed did since the start."""

    step: Count
    loss: Amount
    bits_per_byte: NotRequired[Amount]
    gradient_norm: Amount
    learning_rate: Amount
    skipped_steps: Count
    tokens: Count
    feed: Mapping[str, Any]
    evaluation: NotRequired[Mapping[str, Any]]


def read_metrics(folder: str) -> list[Row]:
    """The complete lines of a run's log, oldest first; none if there is no log.

    Raises:
        UserError: a line is damaged.
    """
    return metrics_of(read_log(folder, METRICS), join(folder, METRICS))


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


class _Timed(msgspec.Struct):
    step: Count


class MetricsLog:
    """Averages the metrics of some steps into a line of metrics.jsonl, beside a line of timing.jsonl.

    Losses are deterministic and times are not; kept apart, the first file can be compared byte for byte. `feed` in a
    line is what the whole feed has read and dropped since the start of the run.
    """

    def __init__(
        self, files: LogFiles, step: int, sha256: str = "", pending: Mapping[str, float] | None = None
    ) -> None:
        """Opens the log of a run that continues after `step`, and drops later lines, whose steps will be done again.

        `pending` is what the steps since the last line before `step` came to.

        Raises:
            UserError: the lines up to `step` are not those whose `sha256` was saved with its checkpoint, or something
                else than a file has the name of one.
        """
        folder = files.folder
        self._file, self._timing = files.open(METRICS), files.open(TIMING)
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
        self.pending: dict[str, float] = dict(pending or {})
        """Sums over the steps since the newest line, by metric; saved with a checkpoint between two lines."""

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._sha256.hexdigest()

    def rows(self) -> list[Row]:
        """The lines so far, oldest first."""
        return metrics_of(storage.read_bytes(self._file), self._file)

    def timing(self) -> dict[int, dict[str, Any]]:
        """The newest complete line of timing.jsonl for each step; steps that were done again have several.

        Raises:
            UserError: a line is damaged.
        """
        lines = storage.read_bytes(self._timing).split(b"\n")[:-1]
        remedy = "delete that file; it only says how fast the steps were"
        where = [f"{self._timing}, line {number}," for number in range(1, len(lines) + 1)]
        timed = [decode_json(line, _Timed, at, remedy).step for line, at in zip(lines, where, strict=True)]
        return {step: json.loads(line) for step, line in zip(timed, lines, strict=True)}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one finished step."""
        tokens, before = metrics["tokens"], self.pending
        summed = {
            "steps": 1.0,
            "tokens": tokens,
            "loss": metrics["loss"] * tokens,
            "gradient_norm": metrics["gradient_norm"],
        }
        self.pending = {name: before.get(name, 0.0) + value for name, value in summed.items()}
        self.pending |= {name: metrics[name] for name in _NEWEST}

    def write(
        self,
        step: int,
        feed: Mapping[str, Any],
        timing: Mapping[str, Any],
        evaluation: Mapping[str, Any] | None = None,
    ) -> Row:
        """Writes the lines of the steps since the last ones, with what the feed has done up to this step.

        The loss is the mean over their tokens, not over the steps. `timing` is whatever differs from run to run, and
        `evaluation` what the parameters came to on held-out text, if they were measured after this step.
        """
        summed = self.pending
        self._tokens += int(summed["tokens"])
        row: Row = {
            "step": step,
            "loss": summed["loss"] / max(summed["tokens"], 1.0),
            "gradient_norm": summed["gradient_norm"] / summed["steps"],
            "learning_rate": summed["learning_rate"],
            "skipped_steps": int(summed["skipped_steps"]),
            "tokens": self._tokens,
            "feed": feed,
        }
        text_bytes = feed.get("text_bytes", 0) - self.feed.get("text_bytes", 0)
        if text_bytes:
            row["bits_per_byte"] = summed["loss"] / math.log(2) / text_bytes
        if evaluation is not None:
            row["evaluation"] = evaluation
        for path, line in ((self._file, _line(row)), (self._timing, _line({"step": step, **timing}))):
            storage.append(path, line)
        self._sha256.update(_line(row))
        self.feed = feed
        self.pending = {}
        return row


_NEWEST = ("learning_rate", "skipped_steps")
"""Metrics of which a line holds that of its last step."""


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, sort_keys=True).encode() + b"\n"
