"""What the processes of a run must have in common is compared at all of them, and what differs is named by all."""

import dataclasses
import threading

import pytest
from members import in_threads

from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.locks import locked
from sc2jax.parallel.hosts import AgreedError, Hosts
from sc2jax.records.stage_folder import LOCK
from sc2jax.runs import on_all_hosts
from sc2jax.runs.on_all_hosts import (
    held_folder,
    refuse_other_folder,
    refuse_other_inputs,
    refuse_other_settings,
    refuse_unshared_folder,
)

SETTING = "training.checkpoints_local"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No network file system takes its time here."""
    monkeypatch.setattr(on_all_hosts, "_SEEN_WITHIN", 0.1)
    monkeypatch.setattr(on_all_hosts, "_LOOK_AGAIN", 0.01)


def said(found: list) -> str:
    """What all members ended with alike."""
    assert all(isinstance(error, AgreedError) for error in found), found
    first, *others = map(str, found)
    assert all(other == first for other in others)
    return first


def test_the_same_inputs_are_no_error():
    assert in_threads(2, lambda hosts: refuse_other_inputs(hosts, {"corpus": "1", "tokenizer": "2"})) == [None, None]


@pytest.mark.parametrize(
    ("others", "differing"),
    [
        ({"corpus": "9", "tokenizer": "2"}, "corpus is '9' on process 1 on"),
        ({"corpus": "1"}, "tokenizer is None on process 1 on"),
        ({"corpus": "1", "tokenizer": "2", "start": "3"}, "start is '3' on process 1 on"),
    ],
)
def test_inputs_that_differ_are_named(others, differing):
    ours = {"corpus": "1", "tokenizer": "2"}
    message = said(in_threads(3, lambda hosts: refuse_other_inputs(hosts, others if hosts.index == 1 else ours)))
    assert differing in message
    assert message.count(" on process ") == 1
    assert "start all of them with the same command, on the same data" in message


def test_paths_may_differ_and_other_settings_may_not():
    settings = to_settings(load_config("quickstart"))
    elsewhere = dataclasses.replace(settings, paths=dataclasses.replace(settings.paths, corpus="/mnt/corpus"))
    assert in_threads(2, lambda hosts: refuse_other_settings(hosts, (settings, elsewhere)[hosts.index])) == [None, None]
    other = dataclasses.replace(settings, seed=settings.seed + 1)
    message = said(in_threads(2, lambda hosts: refuse_other_settings(hosts, (settings, other)[hosts.index])))
    assert "seed is 1 on process 1 on" in message


def test_a_folder_that_all_see_is_left_as_it_was(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "notes").write_text("mine")
    found = in_threads(3, lambda hosts: refuse_unshared_folder(hosts, str(tmp_path / "shared"), SETTING))
    assert found == [None] * 3
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["notes"]


def test_a_folder_of_each_host_is_refused_by_all(tmp_path):
    """Also one that is there everywhere."""
    for index in range(3):
        (tmp_path / f"disk_{index}").mkdir()
    found = in_threads(3, lambda hosts: refuse_unshared_folder(hosts, f"{tmp_path}/disk_{hosts.index}", SETTING))
    message = said([AgreedError(str(error).replace(f"disk_{index}", "disk")) for index, error in enumerate(found)])
    assert f"{SETTING} is {tmp_path}/disk, which is another folder for process 1 on" in message
    assert ", process 2 on" in message
    assert not [path for folder in tmp_path.iterdir() for path in folder.iterdir()]


def test_one_process_looks_for_nothing(tmp_path):
    refuse_unshared_folder(Hosts(), str(tmp_path / "not made"), SETTING)
    assert not list(tmp_path.iterdir())


def test_a_file_that_comes_late_is_waited_for(tmp_path, monkeypatch):
    """As NFS shows it."""
    monkeypatch.setattr(on_all_hosts, "_SEEN_WITHIN", 10.0)
    late = [[], []]
    names, lock = on_all_hosts.storage.names, threading.Lock()

    def shown(folder: str) -> list[str]:
        with lock:
            return late.pop() if late else names(folder)

    monkeypatch.setattr(on_all_hosts.storage, "names", shown)
    assert in_threads(2, lambda hosts: refuse_unshared_folder(hosts, str(tmp_path), SETTING)) == [None, None]
    assert not late


def test_the_folder_that_the_first_holds_is_told_from_another_of_its_name(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name / LOCK).parent.mkdir(parents=True)
    with locked(str(tmp_path / "ours" / LOCK), "ours"), locked(str(tmp_path / "theirs" / LOCK), "theirs"):
        held = held_folder(str(tmp_path / "ours"))
        refuse_other_folder(str(tmp_path / "ours"), held)
        with pytest.raises(UserError, match="is not the folder that process 0 writes to"):
            refuse_other_folder(str(tmp_path / "theirs"), held)
