"""One writer a folder, whoever is killed, slow or too late."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sc2jax import locks, storage
from sc2jax.errors import UserError
from sc2jax.locks import holder, locked
from sc2jax.stores import StoreError


def hold(path: str, held) -> None:
    with locked(path, "the folder"):
        held.send(True)
        time.sleep(600)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    context = multiprocessing.get_context("spawn")
    received, held = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(str(tmp_path / "lock"), held))
    process.start()
    assert received.recv()
    yield process
    process.kill()
    process.join()


def test_another_process_is_named(tmp_path, other):
    path = str(tmp_path / "lock")
    message = rf"the folder is being written by process {other.pid} on {os.uname().nodename} since 20\d\d-.*; wait"
    with pytest.raises(UserError, match=message), locked(path, "the folder"):
        pytest.fail("locked twice")
    found = holder(path)
    assert found is not None
    assert found.process == other.pid


def test_the_lock_goes_with_its_process(tmp_path, other):
    path = str(tmp_path / "lock")
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert holder(path) is None
    with locked(path, "the folder"):
        assert holder(path) is not None
    assert holder(path) is None


def test_one_process_cannot_lock_twice(tmp_path):
    with (
        locked(str(tmp_path / "lock"), "the folder"),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        locked(str(tmp_path / "lock"), "the folder"),
    ):
        pytest.fail("locked twice")


def test_a_lock_that_was_deleted_while_it_was_waited_for_is_not_taken(tmp_path, monkeypatch):
    """Its last holder deletes the file between our opening it and our locking it: ours would be a lock on nothing."""
    path = tmp_path / "lock"
    flock, deleted = locks.fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not deleted:
            path.unlink()
            deleted.append(path)
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", late)
    with locked(str(path), "the folder"):
        assert path.exists()


def lease(**changes) -> bytes:
    fields = {"host": "there", "process": 7, "since": "then", "renewed": time.time(), "token": "theirs"}
    return json.dumps(fields | changes).encode()


@pytest.fixture
def path(request) -> str:
    return f"memory://locks/{request.node.name}"


def test_a_lease_is_created_only_if_absent_and_ends_with_the_work(path):
    with locked(path, "the folder") as still_ours:
        still_ours()
        with pytest.raises(UserError, match=f"written by process {os.getpid()} on"), locked(path, "the folder"):
            pytest.fail("locked twice")
        assert holder(path) is not None
    assert not storage.exists(path)
    assert holder(path) is None


@pytest.mark.parametrize(("age", "taken"), [(50, False), (70, True)])
def test_a_lease_is_stale_after_a_minute(path, age, taken):
    storage.write_whole(path, lease(renewed=time.time() - age))
    assert (holder(path) is None) == taken
    if taken:
        with locked(path, "the folder") as still_ours:
            still_ours()
    else:
        with pytest.raises(UserError, match="process 7 on there since then"), locked(path, "the folder"):
            pytest.fail("locked")


def test_a_lease_is_renewed(path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    with locked(path, "the folder") as still_ours:
        first = holder(path)
        deadline = time.monotonic() + 60
        while holder(path) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        last = holder(path)
        assert first is not None
        assert last is not None
        assert last.renewed > first.renewed
        still_ours()


def test_a_lease_is_renewed_when_the_store_can_be_reached_again(path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    failures = []

    def fail_at_first(*arguments):
        if len(failures) < 3:
            failures.append(arguments)
            raise StoreError("cannot be reached")
        return write_whole(*arguments)

    write_whole = storage.write_whole
    with locked(path, "the folder"):
        first = holder(path)
        monkeypatch.setattr(storage, "write_whole", fail_at_first)
        deadline = time.monotonic() + 60
        while holder(path) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(path) != first
    assert len(failures) == 3


def test_whoever_was_replaced_stops_and_leaves_the_other_alone(path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    with locked(path, "the folder") as still_ours:
        storage.write_whole(path, lease())
        time.sleep(0.1)  # it is not renewed over the other's
        with pytest.raises(UserError, match="the folder was taken over by process 7 on there"):
            still_ours()
    assert json.loads(storage.read_bytes(path))["token"] == "theirs"
    storage.delete_file(path)


def test_a_damaged_lease_is_named(path):
    storage.write_whole(path, b"{")
    with pytest.raises(UserError, match=r"is damaged.*delete it if no other process"), locked(path, "the folder"):
        pytest.fail("locked")


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(FileNotFoundError), locked(str(Path(tmp_path, "none", "lock")), "the folder"):
        pytest.fail("locked")


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_no_file_of_ours_is_no_lock_and_not_followed(tmp_path, kind):
    path, victim = tmp_path / "lock", tmp_path / "victim"
    if kind == "link":
        victim.write_text("precious")
        path.symlink_to(victim)
    elif kind == "dangling":
        path.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(UserError, match="lock is no file of ours; remove it"), locked(str(path), "the folder"):
        pytest.fail("locked")
    if kind != "dangling":
        with pytest.raises(UserError, match="lock is no file of ours; remove it"):
            holder(str(path))
    assert not victim.exists() or victim.read_text() == "precious"
