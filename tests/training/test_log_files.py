"""A log in an object store is written locally, and is there as far as the newest checkpoint."""

import gc
import tempfile
from pathlib import Path

import pytest

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.training.goodput import GoodputLog, read_totals
from sc2jax.training.log_files import LogFiles
from sc2jax.training.metrics import METRICS, TIMING, MetricsLog, read_metrics


@pytest.fixture
def store(tmp_path, monkeypatch, request):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    url = f"memory://logs/{request.node.name}/train"
    yield url
    storage.delete_folder(url)


def go_on(log: MetricsLog, *steps: int) -> None:
    for step in steps:
        figures = {"gradient_norm": 1.0, "learning_rate": 0.1, "skipped_steps": 0.0}
        log.add({"loss": step, "tokens": 10.0, **figures})
        log.write(step, {}, {})


def steps_in(folder: str) -> list[int]:
    return [row["step"] for row in read_metrics(folder)]


def test_the_store_has_what_was_published_and_a_restart_goes_on_from_it(store):
    files = LogFiles(store)
    log = MetricsLog(files, 0)
    assert steps_in(store) == []
    go_on(log, 2, 4)
    reached = log.sha256
    assert steps_in(store) == [], "lines went to the store before they were published"
    files.publish()
    go_on(log, 6)
    assert steps_in(store) == [2, 4]
    files.publish()
    assert steps_in(store) == [2, 4, 6]
    files = LogFiles(store)
    again = MetricsLog(files, 4, reached)  # another machine, from the checkpoint of step 4
    assert again.sha256 == reached
    go_on(again, 6, 8)
    files.publish()
    assert steps_in(store) == [2, 4, 6, 8]
    times = storage.read_bytes(f"{store}/{TIMING}").splitlines()
    assert len(times) == 5  # of all that was done, twice too


def test_a_log_in_a_store_that_is_not_what_was_saved_is_refused_by_its_name(store):
    files = LogFiles(store)
    log = MetricsLog(files, 0)
    go_on(log, 2)
    files.publish()
    with pytest.raises(UserError, match=f"{store}/{METRICS} does not hold the lines"):
        MetricsLog(LogFiles(store), 2, "of others")


def test_the_goodput_of_a_run_in_the_store_is_read_from_there(store):
    assert read_totals(store) == {}
    files = LogFiles(store)
    log = GoodputLog(files, "key", 0)
    log.end(1, {"step": 3.0, "save": 1.0})
    assert read_totals(store) == {}
    files.publish()
    assert read_totals(store) == log.totals()
    assert read_totals(store)["step"] == 3.0


def test_the_same_lines_as_on_a_local_disk(store, tmp_path):
    (tmp_path / "local").mkdir()
    for folder in (store, str(tmp_path / "local")):
        files = LogFiles(folder)
        log = MetricsLog(files, 0)
        go_on(log, 1, 2)
        files.publish()
    assert storage.read_bytes(f"{store}/{METRICS}") == (tmp_path / "local" / METRICS).read_bytes()


def test_a_folder_in_the_store_becomes_what_the_local_one_is(store):
    for name in ("stays", "changes", "goes"):
        storage.write_whole(f"{store}/events/{name}", b"old")
    files = LogFiles(store)
    local = Path(files.open_folder("events"))
    assert {path.name: path.read_bytes() for path in local.iterdir()} == dict.fromkeys(
        ("stays", "changes", "goes"), b"old"
    )
    (local / "changes").write_bytes(b"new")
    (local / "comes").write_bytes(b"new")
    (local / "goes").unlink()
    storage.write_whole(f"{store}/events/of others", b"theirs")
    for _ in range(2):
        files.publish()
        found = {name: storage.read_bytes(f"{store}/events/{name}") for name in storage.names(f"{store}/events")}
        assert found == {"stays": b"old", "changes": b"new", "comes": b"new", "of others": b"theirs"}


def test_the_local_files_go_with_the_log(store):
    files = LogFiles(store)
    path = Path(files.open("x"))
    assert path.exists()
    del files
    gc.collect()
    assert not path.parent.exists()
