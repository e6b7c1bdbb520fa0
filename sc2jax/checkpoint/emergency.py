"""Whether a checkpoint can be written in the time between the warning and the end of a machine that is taken away."""

import math
import os
import time
from typing import Any

import jax

from sc2jax import storage
from sc2jax.checkpoint.disk import COMMITTED
from sc2jax.checkpoint.ownership import HALF, delete_checkpoint
from sc2jax.storage import join

WARNING_SECONDS = 30
"""What spot machines of Google's cloud give between the warning and their end."""

PROBE_BYTES = 64 * 2**20
_MARGIN = 1.5
"""A disk is slower when all processes write to it, and there is more to a checkpoint than its bytes."""
_BEFORE_AND_AFTER = 3.0
"""Seconds for the step under way, and for the last files of a checkpoint."""


def bytes_of_this_process(state: Any) -> int:
    """What this process writes of a state: its share of each array, of which replicas write a part each."""
    return sum(
        math.ceil(array.nbytes * len(array.sharding.addressable_devices) / len(array.sharding.device_set))
        for array in jax.tree_util.tree_leaves(state)
    )


def write_speed(folder: str, size: int) -> float:
    """Bytes a second that arrive durably in a folder of checkpoints, by a file of `size` bytes that is deleted again.

    If this process is killed meanwhile, it is swept like a half-written checkpoint.
    """
    content = os.urandom(size)  # what is written could be compressed away otherwise
    probe = f"0{HALF}"
    path = join(folder, f"{probe}/{COMMITTED}")
    started = time.perf_counter()
    try:
        storage.write_whole(path, content)
        return size / (time.perf_counter() - started)
    finally:
        delete_checkpoint(folder, probe)


def emergency_warning(folder: str, state: Any) -> str:
    """What to say at the start of a run that writes its state into this folder, by a look at how fast that is."""
    size = bytes_of_this_process(state)
    return too_large_for_an_emergency(size, write_speed(folder, max(1, min(size, PROBE_BYTES))))


def too_large_for_an_emergency(size: int, speed: float, seconds: float = WARNING_SECONDS) -> str:
    """What to say at the start of a run if a save will not fit between the warning and the end; "" if it will.

    Args:
        size: bytes that this process writes.
        speed: bytes a second.
        seconds: between the warning and the end.
    """
    needed = size / speed * _MARGIN + _BEFORE_AND_AFTER
    if needed <= seconds:
        return ""
    return (
        f"a checkpoint takes about {needed:.0f} s ({size / 2**30:.1f} GiB from each host at {speed / 2**20:,.0f} "
        f"MiB/s), longer than the {seconds:.0f} s between a spot machine's warning and its end: what was trained since "
        "the last one is lost then; lower training.checkpoint_every, or write to a faster disk"
    )
