"""That a rung is reached wherever the machine allows it, found out without the sandbox: or all its tests would skip."""

import ctypes
import shutil
import subprocess

import attacks
import pytest

from sc2jax.evaluation.sandbox import open_sandbox

_CREATE_RULESET, _ASK_VERSION = 444, 1  # Linux, include/uapi/linux/landlock.h


def namespaces() -> bool:
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--fork"]
    mounted = "mount -t proc proc /proc && mount -t tmpfs none /mnt"
    return bool(shutil.which("unshare")) and succeeds([*unshare, "sh", "-c", mounted])


def bubblewrap() -> bool:
    return bool(shutil.which("bwrap")) and succeeds(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    )


def landlock() -> bool:
    return ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _ASK_VERSION) > 0


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True, timeout=100).returncode == 0


@pytest.mark.parametrize(("rung", "possible"), [(1, namespaces), (2, bubblewrap), (3, landlock)])
def test_a_rung_is_reached_where_the_machine_allows_it(rung: int, possible) -> None:
    if not possible():
        pytest.skip(f"this machine does not allow {possible.__name__}")
    with open_sandbox(attacks.GUEST, attacks.LIMITS, rung=rung) as sandbox:
        assert attacks.echo(sandbox.start(), b"here") == b"here"
        assert sandbox.rung == rung
