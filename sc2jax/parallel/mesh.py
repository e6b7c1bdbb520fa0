"""The device mesh."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from sc2jax.errors import UserError
from sc2jax.parallel.config import MeshConfig


def create_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices with the axes slices, data, fsdp, sequence and tensor; neighbours are so in hardware.

    Its axes are of type Auto: the compiler spreads arrays between those whose places are stated.

    Raises:
        UserError: the sizes do not multiply to the number of devices, or the slices are not those of the hardware.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = mesh_sizes(config, len(devices))
    shape = tuple(sizes.values())
    return Mesh(_arranged(devices, shape), tuple(sizes), axis_types=(AxisType.Auto,) * len(shape))


def mesh_sizes(config: MeshConfig, devices: int) -> dict[str, int]:
    """The sizes of the axes of a mesh of so many devices, with what remains in place of 0.

    Raises:
        UserError: they do not multiply to the number of devices.
    """
    sizes = dataclasses.asdict(config)
    fixed = math.prod(size for size in sizes.values() if size)
    rest, remainder = divmod(devices, fixed)
    if remainder or (rest != 1 and 0 not in sizes.values()):
        shape = " x ".join(f"{name}={size or 'rest'}" for name, size in sizes.items())
        raise UserError(
            f"mesh {shape} does not fit {devices} devices; choose sizes whose product is {devices}, or 0 for one of "
            "them that is not slices"
        )
    return {name: size or rest for name, size in sizes.items()}


def _arranged(devices: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1 and slices != shape[0]:
        raise UserError(f"the devices are in {slices} slices; set mesh.slices to {slices} (now {shape[0]})")
    if len(devices) == 1:
        return np.array(devices).reshape(shape)
    if slices == 1:  # one slice, which may be divided into several to try them, or hardware that knows none
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    inside, between = (1, *shape[1:]), (slices, *[1] * (len(shape) - 1))
    return mesh_utils.create_hybrid_device_mesh(inside, between, devices, allow_split_physical_axes=True)
