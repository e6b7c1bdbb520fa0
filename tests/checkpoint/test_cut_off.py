"""Whenever a save is killed, what is found afterwards is a whole checkpoint, and the next save succeeds."""

import shutil
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress

PARAMS = {"layers": {"kernel": jax.random.normal(jax.random.key(0), (2, 300))}, "scale": jnp.ones(4)}
STACKED = {"layers": {"kernel": True}, "scale": False}
OPERATIONS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open")


class Moments:
    """Copies a folder before every file operation in it, of any thread: what a kill at that moment leaves."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies, self.found = folder, copies, list[Path]()
        self.on = False
        self._lock, self._ours = threading.Lock(), threading.local()
        sys.addaudithook(self._before)  # it cannot be taken away again

    def _before(self, event: str, args: tuple) -> None:
        if not self.on or event not in OPERATIONS or getattr(self._ours, "copying", False):
            return
        writes = event != "open" or (isinstance(args[1], str) and set(args[1]) & set("wxa"))
        if not writes or str(self.folder) not in str(args[0]):
            return
        self._ours.copying = True
        copy = self.copies / f"{threading.get_ident()}-{len(self.found)}"
        try:
            with self._lock:
                shutil.copytree(self.folder, copy, ignore_dangling_symlinks=True)
                self.found.append(copy)
        except (OSError, shutil.Error):  # the library's own threads, which write arrays, moved a file meanwhile
            shutil.rmtree(copy, ignore_errors=True)
        finally:
            self._ours.copying = False


def save(folder, *steps) -> None:
    checkpoints = Checkpoints(str(folder), 1)
    try:
        for step in steps:
            checkpoints.save(Progress(step, "key"), PARAMS, {"count": jnp.int32(step)}, STACKED)
        checkpoints.wait()
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """The folder at every moment of the saves of steps 2 and 3, after that of 1."""
    folder = tmp_path_factory.mktemp("run")
    save(folder, 1)
    watched = Moments(folder, tmp_path_factory.mktemp("copies"))
    watched.on = True
    save(folder, 2, 3)
    watched.on = False
    return watched.found


def test_what_is_found_is_whole_and_the_newest_that_was_ready(moments):
    assert len(moments) > 20
    latest = []
    for moment in moments:
        reader = Checkpoints(str(moment))
        steps = reader.steps()
        assert steps
        for step in steps:
            reader.refuse_unreadable(step)
        reader.verify_stored(steps[-1])
        latest.append(steps[-1])
        reader.close()
    assert latest == sorted(latest)
    assert set(latest) == {1, 2, 3}


def test_the_next_save_sweeps_and_succeeds(moments, tmp_path):
    for moment in moments[:: len(moments) // 8]:
        shutil.copytree(moment, tmp_path / moment.name)
        save(tmp_path / moment.name, 4)
        assert [path.name for path in (tmp_path / moment.name).iterdir()] == ["4"]
