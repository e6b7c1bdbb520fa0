"""The engine: the one module that knows Daft, which runs a stage's function over its units of work.

A unit is a stretch of rows that name work to be done (files to read, row groups to open). Daft hands units to the
cores of this machine, or to those of a Ray cluster, a bounded number at a time, and the results are returned in the
order of the units, so that what is written depends neither on the number of cores nor on chance. Where a machine of a
cluster is lost, its units are done again: what they had written has other names, and nobody reads it.
"""

import contextlib
import dataclasses
import itertools
import logging
import os
import pickle
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pyarrow as pa

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft

from sc2jax.errors import UserError

_QUIET_SECONDS = 0.2
"""A stopped job is over when no unit has begun for this long; Daft's threads have left Python by then."""


def _is_news(record: logging.LogRecord) -> bool:
    """Daft logs that a node failed or was stopped, and raises the reason where its results are read: that is enough."""
    return not record.getMessage().startswith("Error when running pipeline node")


logging.getLogger("daft_local_execution").addFilter(_is_news)

Function = Callable[[pa.Table], pa.Table]


@contextlib.contextmanager
def map_units(
    rows: pa.Table,
    cuts: Sequence[int] | np.ndarray,
    function: Function,
    schema: pa.Schema,
    *,
    in_processes: bool = False,
) -> Iterator[Iterator[pa.Table]]:
    """Applies `function` to the stretches of `rows` that begin at `cuts`; gives an iterator over its tables, in order.

    However the context is left, no unit is being worked on afterwards.

    Args:
        rows: names the work; small.
        cuts: first row of each unit, ascending, beginning with 0.
        function: picklable; takes the rows of one unit and returns any number of rows. What it raises is raised here.
        schema: of the tables that it returns.
        in_processes: whether each core gets a process, which takes seconds to start, and not a thread: worth it for a
            function that spends its time in Python, which lets only one thread run.

    Raises:
        KeyboardInterrupt: the engine was stopped before all units were done.
    """
    if len(cuts) == 1 and rows.num_rows and not in_processes and not _on_ray():
        yield (function(rows).cast(schema) for _ in cuts)  # nothing to share out, and to hand it over takes 10 ms
        return
    job = next(_JOBS)
    results = _results(rows, cuts, function, schema, job, in_processes=in_processes)
    try:
        yield results
    except RuntimeError:
        end = _WORKERS.ends.pop(job, None)
        if end is not None:
            raise end from None
        raise
    finally:
        results.close()
        _WORKERS.stop(job, len(cuts))


def use_engine(name: str, address: str) -> None:
    """Hands all work from now on to an engine; Daft has one for as long as the process lasts.

    Args:
        name: "native" or "ray".
        address: of the cluster; "" is the one that this machine is in, or one that is started on it.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or this process has begun with another engine.
    """
    if name == "native" or _on_ray():
        return
    try:
        daft.set_runner_ray(address or None, noop_if_initialized=True)
    except ImportError as error:
        raise UserError("corpus.engine is ray, which is not installed; run `pip install sc2jax[ray]`") from error
    except Exception as error:  # Ray, gRPC and Daft raise kinds of their own
        where = f"the cluster at {address}" if address else "a cluster of Ray"
        raise UserError(f"{where} cannot be used ({str(error).splitlines()[0]}); see corpus.ray_address") from error


def _on_ray() -> bool:
    """Whether the work goes to a cluster."""
    return daft.get_or_infer_runner_type() == "ray"


def _results(
    rows: pa.Table,
    cuts: Sequence[int] | np.ndarray,
    function: Function,
    schema: pa.Schema,
    job: int,
    *,
    in_processes: bool,
) -> Generator[pa.Table]:
    if not rows.num_rows:
        return
    if in_processes:
        function, schema = _Returning(function, schema), schema.append(_ERROR)
    offsets = pa.array([*np.asarray(cuts).tolist(), rows.num_rows], pa.int64())
    units = pa.LargeListArray.from_arrays(offsets, _as_structs(rows))
    given, result_type = rows.schema, pa.large_list(pa.struct(list(schema)))

    def run(series: daft.Series) -> pa.Array:
        return _run(series, function, given, schema, job)

    apply = daft.func.batch(
        return_dtype=daft.DataType.from_arrow_type(result_type), batch_size=1, use_process=in_processes or None
    )(run)
    frame = daft.from_arrow(pa.table({"unit": units})).into_batches(1).select(apply(daft.col("unit")).alias("result"))
    finished = 0
    for batch in _pull(cast("Generator[pa.RecordBatch]", frame.to_arrow_iter()), job):
        for result in batch.column("result"):
            finished += 1
            table = pa.Table.from_struct_array(result.values).cast(schema)
            yield _without_error(table) if in_processes else table
    if finished != len(units):
        # On Ctrl-C Daft stops its workers and ends the stream as if it were complete.
        raise KeyboardInterrupt(f"the engine was stopped after {finished} of {len(units)} units")


def _pull(stream: Generator[pa.RecordBatch], job: int) -> Generator[pa.RecordBatch]:
    """Reads Daft's stream in a thread of its own, which Ctrl-C cannot interrupt: it is closed between steps."""
    with ThreadPoolExecutor(1, thread_name_prefix="sc2jax-engine") as thread:
        try:
            while (batch := thread.submit(next, stream, None).result()) is not None:
                yield batch
        except RuntimeError as error:
            if not str(error).startswith("UDF process"):
                raise
            raise UserError(
                "a worker process was ended from outside, as happens where memory runs out; where there is more of it, "
                "run the same command again: it goes on with what is not done"
            ) from error
        finally:
            _WORKERS.refuse(job)  # so that a step under way ends soon
            thread.submit(stream.close).result()


def _run(series: daft.Series, function: Function, given: pa.Schema, schema: pa.Schema, job: int) -> pa.Array:
    """What a worker does: a list of rows for each list of rows."""
    with _WORKERS.busy(job):
        results = []
        for unit in series.to_arrow():
            table = pa.Table.from_struct_array(unit.values).cast(given)
            try:
                results.append(_as_structs(function(table).cast(schema)))
            except BaseException as error:
                if isinstance(error, Exception) and not isinstance(error, StopIteration):
                    raise
                _WORKERS.ends[job] = error  # Daft, which knows errors alone, would wait for ever
                raise RuntimeError("the function of a unit was ended") from error
        bounds = pa.array(np.cumsum([0, *map(len, results)]), pa.int64())
        return pa.LargeListArray.from_arrays(bounds, pa.concat_arrays(results))


_ERROR = pa.field("sc2jax_error", pa.binary())


@dataclasses.dataclass(frozen=True)
class _Returning:
    """A function that returns what it raises: from another process Daft would bring the text of its traceback alone."""

    function: Function
    schema: pa.Schema

    def __call__(self, rows: pa.Table) -> pa.Table:
        """What the function returns, or a row with its error."""
        try:
            table = self.function(rows).cast(self.schema)
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            empty = pa.nulls(1)
            columns = [empty.cast(field.type) for field in self.schema]
            return pa.table([*columns, pa.array([pickle.dumps(error)], pa.binary())], self.schema.append(_ERROR))
        return table.append_column(_ERROR, pa.nulls(len(table), pa.binary()))


def _without_error(table: pa.Table) -> pa.Table:
    """What a function returned; raises what it raised."""
    errors = table.column(_ERROR.name)
    if errors.null_count < len(errors):
        raise pickle.loads(errors.drop_null()[0].as_py())  # from a process of our own
    return table.drop_columns(_ERROR.name)


def _as_structs(table: pa.Table) -> pa.StructArray:
    """The rows of a table as one array without chunks."""
    columns = [
        pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type) for column in table.columns
    ]
    return pa.StructArray.from_arrays(columns, fields=list(table.schema))


class _Workers:
    """Knows which jobs' units are being worked on in this process.

    Daft leaves its threads running when an iteration ends early; a thread that is inside Python while the interpreter
    shuts down takes the process with it (`FATAL: exception not rethrown`), where Ctrl-C should end in one message.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: Counter[int] = Counter()
        self._begun: Counter[int] = Counter()
        self._stopped: set[int] = set()
        self.ends: dict[int, BaseException] = {}

    @contextlib.contextmanager
    def busy(self, job: int) -> Iterator[None]:
        """Marks a unit of a job as being worked on; refuses units of a job that was stopped."""
        with self._changed:
            self._begun[job] += 1
            if job in self._stopped:
                raise RuntimeError("the stage that this unit belongs to was stopped")
            self._busy[job] += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy[job] -= 1
                self._changed.notify_all()

    def refuse(self, job: int) -> None:
        """Lets no other unit of a job begin."""
        with self._changed:
            self._stopped.add(job)

    def stop(self, job: int, units: int) -> None:
        """Waits for the units at work and lets no other begin, until none has tried to for a moment."""
        self.refuse(job)
        with self._changed:
            while True:
                self._changed.wait_for(lambda: not self._busy[job])
                begun = self._begun[job]
                if begun >= units:
                    return
                if not self._changed.wait_for(lambda: self._begun[job] != begun, timeout=_QUIET_SECONDS):  # noqa: B023
                    return


_WORKERS = _Workers()
_JOBS = itertools.count()
