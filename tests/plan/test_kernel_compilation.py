"""The process that compiles a kernel, around the compiler."""

import errno
import subprocess

import pytest

from sc2jax.plan import kernel_compilation
from sc2jax.plan.kernel_compilation import dump

ABORTED = (
    "WriteStringToFile(env, path, data) is OK (RESOURCE_EXHAUSTED: fclose: No space left on device\n*** SIGABRT ***"
)


def ended_with(monkeypatch, stderr: str) -> None:
    ended = subprocess.CompletedProcess([], returncode=-6, stdout="", stderr=stderr)
    monkeypatch.setattr(kernel_compilation.subprocess, "run", lambda *_, **__: ended)


def test_a_dump_without_room_on_the_disk_is_not_said_to_be_short_of_memory(tmp_path, monkeypatch):
    """The compiler calls both RESOURCE_EXHAUSTED."""
    ended_with(monkeypatch, ABORTED)
    with pytest.raises(OSError, match="No space left on device") as error:
        dump("v5e", "module:subject", [], tmp_path / "dump")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "dump"))


def test_what_does_not_compile_tells_the_compilers_words(tmp_path, monkeypatch):
    ended_with(monkeypatch, "INTERNAL: no such layout")
    with pytest.raises(RuntimeError, match="does not compile for v5e:\nINTERNAL: no such layout"):
        dump("v5e", "module:subject", [], tmp_path / "dump")
