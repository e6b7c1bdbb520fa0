"""Goodput: the share of a run's wall time that went into steps which were kept, and where the rest went.

The buckets are those of Google's ml-goodput-measurement, whose names stand beside them. That package keeps its records
in Google Cloud Logging; here they are lines of goodput.jsonl, which every start of the run adds to:

    {"at": ..., "key": ..., "start": 40}                a start that goes on after step 40
    {"at": ..., "seconds": {...}, "step": 50}           where the time since the line before went, up to step 50
    {"at": ..., "end": true}                            the run is complete

A stopwatch is always in one bucket and no other, so no second counts twice. What was lost follows from the file: steps
that were done before a start and lie after the step that it went on from are done again. The time between the last line
before an interruption and the start after it is lost as well; that after the end of a run is not a run's.
"""

import contextlib
import enum
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from sc2jax import storage
from sc2jax.json_files import Amount, Count, decode_json
from sc2jax.storage import join
from sc2jax.training.log_files import LogFiles, read_log

GOODPUT = "goodput.jsonl"


class Bucket(enum.StrEnum):
    """Where time goes; what a stopwatch can measure."""

    STEP = "step"  # productive, as far as it is not lost later
    INITIALIZATION = "initialization"  # TPU_INITIALIZATION: devices and processes find each other
    PREPARATION = "preparation"  # TRAINING_PREP: the mesh, the feed, the state's first values
    COMPILATION = "compilation"  # PROGRAM_STARTUP: compiling, and the first step
    DATA = "data"  # DATA_LOADING_SYNC: waiting for a batch
    SAVE = "save"  # UNPRODUCTIVE_CHECKPOINT_SAVE_TIME: as long as the training thread waits
    RESTORE = "restore"  # UNPRODUCTIVE_CHECKPOINT_RESTORE_TIME
    EVALUATION = "evaluation"  # CUSTOM_BADPUT_EVENTS
    OTHER = "other"  # OTHER


LOST = "lost"  # WASTED_PROGRESS_FROM_DISRUPTION: steps that were done again
AWAY = "away"  # INFRASTRUCTURE_RECOVERY_FROM_DISRUPTION: from an interruption to the next start

Seconds: TypeAlias = dict[str, float]


class Stopwatch:
    """Shares time out among buckets: each moment belongs to the innermost `spent` around it, or to OTHER."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._bucket = Bucket.OTHER
        self._seconds: Seconds = {}

    @contextlib.contextmanager
    def spent(self, bucket: Bucket) -> Iterator[None]:
        """What runs inside is time of this bucket, and not of the one around it."""
        outer = self._enter(bucket)
        try:
            yield
        finally:
            self._enter(outer)

    def take(self) -> Seconds:
        """The seconds of each bucket since the last call, or since the stopwatch was made."""
        self._enter(self._bucket)
        taken, self._seconds = self._seconds, {}
        return taken

    def _enter(self, bucket: Bucket) -> Bucket:
        """Ends the time of the bucket so far, which is returned."""
        now, outer = self._clock(), self._bucket
        self._seconds[outer] = self._seconds.get(outer, 0.0) + now - self._since
        self._since, self._bucket = now, bucket
        return outer


class GoodputLog:
    """The records of a run over all of its starts, kept in a file."""

    def __init__(self, files: LogFiles, key: str, step: int, clock: Callable[[], float] = time.time) -> None:
        """Takes down a start that goes on after `step`; what another run (`key`) left in the file is dropped.

        Raises:
            UserError: a line is damaged, or something else than a file has the log's name.
        """
        self._file, self._clock, self._account = files.open(GOODPUT), clock, _Account()
        content = storage.read_bytes(self._file) if storage.is_there(self._file) else b""
        whole = content[: content.rfind(b"\n") + 1]  # a line without its end is one that was cut off
        lines = _lines_of(whole, self._file)
        if any(isinstance(line, _Start) and line.key != key for line in lines):
            whole, lines = b"", []
        storage.write_whole(self._file, whole)
        for line in lines:
            self._account.enter(line)
        self._add(_Start(clock(), key, step))

    def add(self, step: int, seconds: Seconds) -> None:
        """Takes down where the time since the last line went, and the step that was reached."""
        self._add(_Spent(self._clock(), {Bucket(name): spent for name, spent in seconds.items()}, step))

    def end(self, step: int, seconds: Seconds) -> None:
        """Takes down the end of a complete run, after what is left to take down."""
        self.add(step, seconds)
        self._add(_End(self._clock(), True))

    def totals(self) -> Seconds:
        """The seconds of each bucket over all starts, with those lost and away; buckets that had none are left out."""
        return self._account.totals()

    def _add(self, line: "_Line") -> None:
        self._account.enter(line)
        storage.append(self._file, json.dumps(msgspec.to_builtins(line), sort_keys=True).encode() + b"\n")


def read_totals(folder: str) -> Seconds:
    """The same of a run that may be over; nothing where it left no log.

    Raises:
        UserError: a line is damaged.
    """
    content, account = read_log(folder, GOODPUT), _Account()
    for line in _lines_of(content[: content.rfind(b"\n") + 1], join(folder, GOODPUT)):
        account.enter(line)
    return account.totals()


class _Account:
    """What the lines of a log come to."""

    def __init__(self) -> None:
        self._spent: Seconds = {}
        self._kept: list[_Span] = []
        self._reached = 0
        self._before: _Line = _End(0.0, True)

    def enter(self, line: "_Line") -> None:
        if isinstance(line, _Start):
            if not isinstance(self._before, _End):
                self._add(AWAY, max(line.at - self._before.at, 0.0))
            self._kept, lost = _cut(self._kept, line.start)
            self._add(LOST, lost)
            self._add(Bucket.STEP, -lost)
            self._reached = line.start
        elif isinstance(line, _Spent):
            for bucket, seconds in line.seconds.items():
                self._add(bucket, seconds)
            self._kept.append(_Span(self._reached, line.step, line.seconds.get(Bucket.STEP, 0.0)))
            self._reached = line.step
        self._before = line

    def _add(self, bucket: str, seconds: float) -> None:
        self._spent[bucket] = self._spent.get(bucket, 0.0) + seconds

    def totals(self) -> Seconds:
        return {bucket: seconds for bucket, seconds in self._spent.items() if seconds > 0}


class _Span(NamedTuple):
    """Steps that were done, those after `after` up to `up_to`, and the productive seconds that they took."""

    after: int
    up_to: int
    seconds: float


def _cut(spans: Sequence[_Span], step: int) -> tuple[list[_Span], float]:
    """The spans up to a step, and the seconds of what lies after it; a span across it is cut by its steps."""
    kept, lost = [], 0.0
    for span in spans:
        if span.up_to <= step:
            kept.append(span)
            continue
        share = (step - span.after) / (span.up_to - span.after) if span.after < step else 0.0
        lost += span.seconds * (1 - share)
        if share:
            kept.append(_Span(span.after, step, span.seconds * share))
    return kept, lost


def _lines_of(content: bytes, where: str) -> list["_Line"]:
    remedy = "delete that file; it only says where the time went"
    found: list[_Line] = []
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{where}, line {number},"
        fields = decode_json(line, dict[str, object], place, remedy)
        kind = _Start if "start" in fields else _End if "end" in fields else _Spent
        found.append(decode_json(line, kind, place, remedy))
    return found


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    at: Amount
    key: str
    start: Count


class _Spent(msgspec.Struct, forbid_unknown_fields=True):
    at: Amount
    seconds: dict[Bucket, Amount]
    step: Count


class _End(msgspec.Struct, forbid_unknown_fields=True):
    at: Amount
    end: Literal[True]


_Line: TypeAlias = _Start | _Spent | _End


def shares(totals: Mapping[str, float]) -> dict[str, float]:
    """What part of all the time each bucket took: they sum to 1, or there are none. That of `step` is the goodput."""
    whole = sum(totals.values())
    return {bucket: seconds / whole for bucket, seconds in totals.items()} if whole else {}


def in_a_line(totals: Mapping[str, float]) -> str:
    """The goodput and the largest parts of the rest, for a reader."""
    parts = shares(totals)
    rest = sorted(((share, bucket) for bucket, share in parts.items() if bucket != Bucket.STEP), reverse=True)
    named = [f"{bucket} {share:.1%}" for share, bucket in rest if share >= _WORTH_NAMING]
    return f"goodput {parts.get(Bucket.STEP, 0.0):.1%}" + (f" ({', '.join(named)})" if named else "")


_WORTH_NAMING = 0.001
