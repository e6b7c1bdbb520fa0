"""How much memory a process has needed."""

import resource
import sys


def peak_device_bytes() -> int:
    """The most memory that one of this process's devices has held; 0 where they do not tell it, as CPUs."""
    import jax  # which those who ask about another process do without

    return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices())


def peak_process_bytes() -> int:
    """The most main memory that this process has held."""
    return peak_bytes_of(resource.getrusage(resource.RUSAGE_SELF))


def peak_bytes_of(usage: resource.struct_rusage) -> int:
    """The most main memory that a process has held, by what the system noted of it."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of macOS counts bytes, that of Linux KiB
    return usage.ru_maxrss * unit
