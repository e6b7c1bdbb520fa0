"""The device mesh."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from sc2jax.errors import UserError
from sc2jax.parallel.config import MeshConfig


def create_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices with the axes data, fsdp, sequence and tensor; neighbours in it are neighbours in hardware.

    Raises:
        UserError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {"data": config.data, "fsdp": config.fsdp, "sequence": config.sequence, "tensor": config.tensor}
    fixed = math.prod(size for size in sizes.values() if size)
    rest, remainder = divmod(len(devices), fixed)
    if remainder or (rest != 1 and 0 not in sizes.values()):
        shape = " x ".join(f"{name}={size or 'rest'}" for name, size in sizes.items())
        raise UserError(
            f"mesh {shape} does not fit {len(devices)} devices; choose sizes whose product is {len(devices)}, or 0 for "
            "one of them"
        )
    shape = tuple(size or rest for size in sizes.values())
    if len(devices) == 1:
        return Mesh(np.array(devices).reshape(shape), tuple(sizes))
    return Mesh(mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), tuple(sizes))
