"""The engine: the one module that knows Daft, which runs a stage's function over its units of work.

A unit is a stretch of rows that name work to be done (files to read, row groups to open). Daft hands units to the
cores of this machine (or, with `DAFT_RUNNER=ray`, to those of a cluster), a bounded number at a time, and returns the
results in the order of the units, so that neither the number of cores nor chance shows in what is written.
"""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft


def map_units(
    rows: pa.Table,
    cuts: Sequence[int] | np.ndarray,
    function: Callable[[pa.Table], pa.Table],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Applies `function` to the stretches of `rows` that begin at `cuts`, and yields its tables in order.

    Args:
        rows: names the work; small.
        cuts: first row of each unit, ascending, beginning with 0.
        function: picklable; takes the rows of one unit and returns any number of rows. What it raises is raised here.
        schema: of the tables that it returns.
    """
    if not rows.num_rows:
        return
    given = rows.schema
    offsets = pa.array([*np.asarray(cuts).tolist(), rows.num_rows], pa.int64())
    units = pa.LargeListArray.from_arrays(offsets, _as_structs(rows))
    result_type = pa.large_list(pa.struct(list(schema)))

    def run(series: daft.Series) -> pa.Array:
        results = []
        for unit in series.to_arrow():
            table = pa.Table.from_struct_array(unit.values).cast(given)
            results.append(_as_structs(function(table).cast(schema)))
        bounds = pa.array(np.cumsum([0, *map(len, results)]), pa.int64())
        return pa.LargeListArray.from_arrays(bounds, pa.concat_arrays(results)).cast(result_type)

    apply = daft.func.batch(return_dtype=daft.DataType.from_arrow_type(result_type), batch_size=1)(run)
    frame = daft.from_arrow(pa.table({"unit": units})).into_batches(1).select(apply(daft.col("unit")).alias("result"))
    for batch in frame.to_arrow_iter():
        for result in batch.column("result"):
            yield pa.Table.from_struct_array(result.values).cast(schema)


def _as_structs(table: pa.Table) -> pa.StructArray:
    """The rows of a table as one array without chunks."""
    columns = [
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
        for column in table.columns
    ]
    return pa.StructArray.from_arrays(columns, fields=list(table.schema))
