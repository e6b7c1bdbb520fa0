"""Chips that models are trained on: what the datasheet of one says, found by the name that JAX gives to a device."""

import dataclasses
from collections.abc import Mapping

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip's published constants, by JAX device: half of a chip where a chip is two devices.

    Attributes:
        name: what its maker calls it.
        peak_flops: dense products of bfloat16, or of float16 where it has no bfloat16, accumulated in float32, per
            second.
        memory_bytes: HBM, or what it has in its place.
        memory_bandwidth: bytes per second to and from it.
        devices: JAX devices that a chip is.
        has_bfloat16: whether its matrix units take bfloat16.
    """

    name: str
    peak_flops: float
    memory_bytes: int
    memory_bandwidth: float
    devices: int = 1
    has_bfloat16: bool = True


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a device by its `device_kind`; None for CPUs and chips that are not known here."""
    return _CHIPS.get(device_kind)


# TPUs: cloud.google.com/tpu/docs/v4 to /v6e and /tpu7x, "System architecture", and jax-ml.github.io/scaling-book/tpus,
# which agree. v4 and v5p join the two cores of a chip into one device (megacore); tpu7x shows them as two.
_V4 = Chip("TPU v4", 275e12, 32 * GIB, 1228e9)
_V5E = Chip("TPU v5e", 197e12, 16 * GIB, 819e9)
_V5P = Chip("TPU v5p", 459e12, 95 * GIB, 2765e9)
_V6E = Chip("TPU v6e", 918e12, 32 * GIB, 1638e9)
_7X = Chip("TPU7x", 2307e12 / 2, 192 * GIB // 2, 7380e9 / 2, devices=2)

# NVIDIA's datasheets of T4 (2019), A100 (2021), H100 (2023), H200 (2024) and L4 (2023): tensor cores without sparsity,
# which those from A100 on state doubled. Their gigabytes of memory are of 2**30 bytes.
_T4 = Chip("T4", 65e12, 16 * GIB, 320e9, has_bfloat16=False)
_L4 = Chip("L4", 121e12, 24 * GIB, 300e9)
_A100_40 = Chip("A100 40GB", 312e12, 40 * GIB, 1555e9)
_A100_80_PCIE = Chip("A100 80GB PCIe", 312e12, 80 * GIB, 1935e9)
_A100_80_SXM = Chip("A100 80GB SXM", 312e12, 80 * GIB, 2039e9)
_H100_PCIE = Chip("H100 PCIe", 756e12, 80 * GIB, 2000e9)
_H100_NVL = Chip("H100 NVL", 835.5e12, 94 * GIB, 3900e9)
_H100_SXM = Chip("H100 SXM", 989.5e12, 80 * GIB, 3350e9)
_H200 = Chip("H200", 989.5e12, 141 * GIB, 4800e9)

# The names of TPUs are those of jax/_src/pallas/mosaic/tpu_info.py, those of GPUs are their drivers'.
_CHIPS: Mapping[str, Chip] = {
    "TPU v4": _V4,
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
    "TPU7x": _7X,
    "Tesla T4": _T4,
    "NVIDIA L4": _L4,
    "NVIDIA A100-SXM4-40GB": _A100_40,
    "NVIDIA A100-PCIE-40GB": _A100_40,
    "NVIDIA A100 80GB PCIe": _A100_80_PCIE,
    "NVIDIA A100-SXM4-80GB": _A100_80_SXM,
    "NVIDIA H100 PCIe": _H100_PCIE,
    "NVIDIA H100 NVL": _H100_NVL,
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H200": _H200,
}
