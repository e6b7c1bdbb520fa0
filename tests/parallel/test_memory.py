import resource
import sys

import jax
import pytest

from sc2jax.parallel import memory
from sc2jax.parallel.memory import peak_device_bytes, peak_process_bytes


def test_the_device_that_held_most_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, peak: dict[str, int] | None) -> None:
            self.memory_stats = lambda: peak

    devices = [Device({"peak_bytes_in_use": 5}), Device({"peak_bytes_in_use": 9}), Device({}), Device(None)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert peak_device_bytes() == 9
    devices[:2] = []
    assert peak_device_bytes() == 0


def test_the_process_has_held_what_was_allocated() -> None:
    """By what Linux says of the process itself, in KiB."""
    held = bytearray(b"x" * 50_000_000)
    peak = peak_process_bytes()
    assert peak >= len(held)
    if sys.platform == "linux":
        with open("/proc/self/status") as status:  # noqa: PTH123
            (line,) = [line for line in status if line.startswith("VmHWM:")]
        assert peak <= 1024 * int(line.split()[1]) <= 1.1 * peak


def test_macos_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert peak_process_bytes() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rel=0.01)
