"""How much memory this process has needed."""

import resource
import sys

import jax


def peak_device_bytes() -> int:
    """The most memory that one of this process's devices has held; 0 where they do not tell it, as CPUs."""
    return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices())


def peak_process_bytes() -> int:
    """The most main memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of macOS counts bytes, that of Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
