import functools
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pytest

from sc2jax.corpus import engine
from sc2jax.corpus.engine import map_units
from sc2jax.errors import UserError

GIVEN = pa.schema([pa.field("number", pa.int64()), pa.field("name", pa.string())])
RETURNED = pa.schema([pa.field("square", pa.int64()), pa.field("unit", pa.list_(pa.string()))])


def square(rows: pa.Table, fail_at: int = -1) -> pa.Table:
    assert rows.schema == GIVEN
    numbers = rows["number"].to_pylist()
    if fail_at in numbers:
        raise UserError(f"no {fail_at} please")
    odd = [number for number in numbers if number % 2]
    return pa.table({"square": [n * n for n in odd], "unit": [rows["name"].to_pylist()] * len(odd)}, schema=RETURNED)


def given(count: int) -> pa.Table:
    return pa.table({"number": range(count), "name": [f"n{number}" for number in range(count)]}, schema=GIVEN)


def collect(*job: Any) -> list[pa.Table]:
    with map_units(*job) as results:
        return list(results)


def test_units_arrive_whole_and_results_in_their_order() -> None:
    tables = collect(given(100), [0, 1, 4, 50], square, RETURNED)
    assert [table.schema for table in tables] == [RETURNED] * 4
    assert [len(table) for table in tables] == [0, 2, 23, 25]
    squares = [value for table in tables for value in table["square"].to_pylist()]
    assert squares == [number * number for number in range(1, 100, 2)]
    assert tables[1]["unit"].to_pylist() == [["n1", "n2", "n3"]] * 2


def test_no_rows_no_work() -> None:
    assert collect(given(0), [], square, RETURNED) == []


def test_what_a_function_raises_is_raised_here() -> None:
    with pytest.raises(UserError, match="no 7 please"):
        collect(given(20), [0, 5, 10], functools.partial(square, fail_at=7), RETURNED)


IN_PROCESSES = """
import functools, os, sys
import pyarrow as pa
from sc2jax.corpus.engine import map_units
from sc2jax.errors import UserError

def work(rows, ending):
    (number,) = rows["number"].to_pylist()
    if ending == "error" and number == 3:
        raise UserError("no 3 please")
    if ending == "full" and number == 3:
        raise OSError(28, "No space left on device")
    if ending == "killed" and number == 3:
        os.kill(os.getpid(), 9)
    return pa.table({"number": [number], "process": [os.getpid()]})

if __name__ == "__main__":
    rows, ending = pa.table({"number": list(range(8))}), sys.argv[1]
    schema = pa.schema([("number", pa.int64()), ("process", pa.int64())])
    function = functools.partial(work, ending=ending)
    try:
        with map_units(rows, list(range(8)), function, schema, in_processes=True) as results:
            found = pa.concat_tables(results)
        assert found["number"].to_pylist() == list(range(8))
        assert os.getpid() not in found["process"].to_pylist()
        print("done")
    except (UserError, OSError) as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("none", "done"),
        ("error", "UserError no 3 please"),
        ("full", "OSError [Errno 28] No space left on device"),
        ("killed", "UserError a worker process was ended from outside"),
    ],
)
def test_what_becomes_of_work_in_processes(tmp_path: Path, ending: str, said: str) -> None:
    script = tmp_path / "work.py"
    script.write_text(IN_PROCESSES)
    ended = subprocess.run([sys.executable, script, ending], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().startswith(said)
    assert "Traceback" not in ended.stderr


def test_a_stopped_engine_is_no_finished_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daft answers Ctrl-C by ending its stream early, as if that were all."""
    whole = daft.DataFrame.to_arrow_iter
    monkeypatch.setattr(
        daft.DataFrame, "to_arrow_iter", lambda frame: (batch for batch in itertools.islice(whole(frame), 2))
    )
    with pytest.raises(KeyboardInterrupt, match="after 2 of 3 units"):
        collect(given(20), [0, 5, 10], square, RETURNED)


def slowly(rows: pa.Table) -> pa.Table:
    time.sleep(0.05)
    return square(rows)


def test_nothing_is_at_work_after_the_context() -> None:
    before = engine._WORKERS._busy.total()
    with map_units(given(40), list(range(40)), slowly, RETURNED) as results:
        next(results)
    assert engine._WORKERS._busy.total() == before == 0


INTERRUPTED = """
import gc, os, signal, sys, threading, time
import pyarrow as pa
from sc2jax.corpus.engine import map_units

def work(rows):
    time.sleep(0.01)
    return rows

rows = pa.table({"number": range(500)})
try:
    with map_units(rows, range(500), work, rows.schema) as results:
        next(results)
        threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT)).start()
        for _ in results:
            pass
except KeyboardInterrupt:
    gc.collect()
    time.sleep(0.1)
    os._exit(130)
"""


@pytest.mark.parametrize("seconds", ["0.015", "0.05", "0.4"])
def test_ctrl_c_ends_without_noise(seconds: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, seconds], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_failed_unit_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no 7 please"):
        collect(given(20), [0, 5, 10], functools.partial(square, fail_at=7), RETURNED)
    assert capfd.readouterr().err == ""
