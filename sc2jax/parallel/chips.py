"""Chips that models are trained on: what the datasheet of one says, found by the name that JAX gives to a device.

Of TPUs also what their compiler's schedule, its flags and the time of a step depend on.
"""

import dataclasses
from collections.abc import Mapping, Sequence

GIB = 1 << 30
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Tpu:
    """A TPU generation as its compiler and the estimate of a step see it, by JAX device where nothing else is said.

    Attributes:
        generation: what Google's names of slices begin with.
        cores: TensorCores that a device drives together.
        matrix_units: of a core.
        unit_size: rows and columns of a matrix unit.
        rows_per_cycle: of the left operand of a product that one unit takes.
        clock: cycles per second.
        clock_is_fitted: whether the clock is that with which the compiler's cycles give a measured time, since neither
            Google nor the scaling book states one (`perf/tpu_clocks.py`).
        product_ceiling: the part of `peak_flops` that large products of bfloat16 were measured at.
        copy_ceiling: the part of `memory_bandwidth` that large copies were measured at.
        ceilings_are_measured: whether on this generation; if not, they are the best of all that were measured.
        vmem_bytes: of a core.
        sparse_cores: that can move what collectives send while the TensorCores compute.
        links: to neighbours in the slice, of a chip: its devices share them.
        link_bandwidth: bytes per second that one link carries in one direction.
        torus_dimensions: axes of a slice.
        network_bandwidth: bytes per second between slices, over the data-centre network.
        usable_memory_bytes: what the runtime leaves a program of the memory.
        compiler_options: what a training step is compiled with.
    """

    generation: str
    cores: int
    matrix_units: int
    unit_size: int
    rows_per_cycle: int
    clock: float
    clock_is_fitted: bool
    product_ceiling: float
    copy_ceiling: float
    ceilings_are_measured: bool
    vmem_bytes: int
    sparse_cores: int
    links: int
    link_bandwidth: float
    torus_dimensions: int
    network_bandwidth: float
    usable_memory_bytes: int
    compiler_options: Mapping[str, bool | int | str]

    @property
    def flops_per_cycle(self) -> int:
        """Of one core, with all rows and columns of its matrix units in use."""
        return self.matrix_units * 2 * self.unit_size**2 * self.rows_per_cycle


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
        tpu: the rest, of a TPU.
    """

    name: str
    peak_flops: float
    memory_bytes: int
    memory_bandwidth: float
    devices: int = 1
    has_bfloat16: bool = True
    tpu: Tpu | None = None


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a device by its `device_kind`; None for CPUs and chips that are not known here."""
    return _CHIPS.get(device_kind)


def compiler_options_of(device_kind: str, changes: Sequence[str] = ()) -> dict[str, bool | int | str]:
    """What a training step is compiled with for a device: the options of its TPU, changed; for no other device any.

    Args:
        device_kind: of the device.
        changes: "NAME=VALUE" for an option, "NAME=" to leave one out.
    """
    chip = chip_of(device_kind)
    if chip is None or chip.tpu is None:
        return {}
    changed = dict(change.split("=", 1) for change in changes)
    return {name: value for name, value in {**chip.tpu.compiler_options, **changed}.items() if value != ""}


# What a training step is compiled with. Names and kinds are those of libtpu 0.0.42.1.
# All-gathers that the compiler fuses with products, a piece a step ("continuation fusion"); MaxText's flags.
_FUSED_GATHERS: Mapping[str, bool] = {
    "xla_enable_async_all_gather": True,
    "xla_tpu_overlap_compute_collective_tc": True,
    "xla_tpu_enable_async_collective_fusion": True,
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True,
    "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
}
# Reductions that the SparseCores do while the TensorCores compute. A collective goes one of the two ways, never both.
_SPARSE_CORE_REDUCTIONS: Mapping[str, bool] = {
    "xla_tpu_use_tc_device_shape_on_sc": True,
    "xla_sc_disable_megacore_partitioning": True,
    "xla_sc_enable_instruction_fusion": False,
    "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter": True,
    "xla_tpu_enable_reduce_scatter_offload_tracing": True,
    "xla_tpu_enable_sparse_core_collective_offload_all_reduce": True,
    "xla_tpu_enable_all_reduce_offload_tracing": True,
}
# Without SparseCores: reduce-scatters that go on within the products behind them, a piece a step. Their buffers need
# more than the 16 MiB of VMEM that a product has by default.
_FUSED_REDUCE_SCATTERS: Mapping[str, bool] = {
    "xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter": True,
    "xla_enable_async_reduce_scatter_fusion": True,
}
# KiB of VMEM that an operation may take at most; without it products have tiles for the 16 MiB of a v4.
_SCOPED_VMEM = "xla_tpu_scoped_vmem_limit_kib"

# TPUs: cloud.google.com/tpu/docs/v4 to /v6e and /tpu7x, "System architecture", and jax-ml.github.io/scaling-book/tpus,
# which agree. v4 and v5p join the two cores of a chip into one device (megacore); tpu7x shows them as two.
#
# Matrix units, VMEM and SparseCores: jax/_src/pallas/mosaic/tpu_info.py (a chip's, of v4: arxiv.org/abs/2304.01433).
# Clocks: v4 of that paper, v5e of the scaling book; v5p of its peak, with which these two agree as well. The compiler
# feeds a unit of 256 x 256 two rows a cycle: so v6e's peak makes 1.75 GHz, and its measured product 0.5 % more, which
# is cut off. That of tpu7x is below its peak's 2.2 GHz, at which the measured product would have been 11 % faster.
# Ceilings: github.com/AI-Hypercomputer/tpu-recipes, microbenchmarks/README.md (v6e: 8192^3 in 1.3288 ms, 1,359.6 GB/s)
# and microbenchmarks/ironwood (tpu7x, a device: 956.4 TFLOP/s for 32768^3, 3,210 GB/s).
# Links: the scaling book, where its editions differ the lower figure; of tpu7x nine tenths of the nominal, as of v5p.
# The data-centre network: Google's pages, of a pod or of a chip; v4 by the scaling book's 25 GB/s for a host of four.
# What the runtime leaves of HBM: the limit in the compiler's own message for a program that is too large.
_V4_TPU = Tpu(
    generation="v4",
    cores=2,
    matrix_units=4,
    unit_size=128,
    rows_per_cycle=1,
    clock=1.05e9,
    clock_is_fitted=False,
    product_ceiling=0.901,
    copy_ceiling=0.87,
    ceilings_are_measured=False,
    vmem_bytes=16 * MIB,
    sparse_cores=4,
    links=6,
    link_bandwidth=45e9,
    torus_dimensions=3,
    network_bandwidth=6.25e9,
    usable_memory_bytes=round(30.75 * GIB),
    compiler_options=_FUSED_GATHERS,
)
_V5E_TPU = Tpu(
    generation="v5e",
    cores=1,
    matrix_units=4,
    unit_size=128,
    rows_per_cycle=1,
    clock=1.5e9,
    clock_is_fitted=False,
    product_ceiling=0.901,
    copy_ceiling=0.87,
    ceilings_are_measured=False,
    vmem_bytes=128 * MIB,
    sparse_cores=0,
    links=4,
    link_bandwidth=45e9,
    torus_dimensions=2,
    network_bandwidth=3.125e9,
    usable_memory_bytes=round(15.75 * GIB),
    compiler_options={**_FUSED_REDUCE_SCATTERS, _SCOPED_VMEM: 49152},
)
_V5P_TPU = Tpu(
    generation="v5p",
    cores=2,
    matrix_units=4,
    unit_size=128,
    rows_per_cycle=1,
    clock=1.75e9,
    clock_is_fitted=False,
    product_ceiling=0.901,
    copy_ceiling=0.87,
    ceilings_are_measured=False,
    vmem_bytes=64 * MIB,
    sparse_cores=4,
    links=6,
    link_bandwidth=90e9,
    torus_dimensions=3,
    network_bandwidth=6.25e9,
    usable_memory_bytes=round(95.74 * GIB),
    compiler_options={**_FUSED_GATHERS, **_SPARSE_CORE_REDUCTIONS, _SCOPED_VMEM: 49152},
)
_V6E_TPU = Tpu(
    generation="v6e",
    cores=1,
    matrix_units=2,
    unit_size=256,
    rows_per_cycle=2,
    clock=1.75e9,
    clock_is_fitted=True,
    product_ceiling=0.901,
    copy_ceiling=0.83,
    ceilings_are_measured=True,
    vmem_bytes=128 * MIB,
    sparse_cores=2,
    links=4,
    link_bandwidth=90e9,
    torus_dimensions=2,
    network_bandwidth=12.5e9,
    usable_memory_bytes=round(31.25 * GIB),
    compiler_options={**_FUSED_GATHERS, **_SPARSE_CORE_REDUCTIONS, _SCOPED_VMEM: 98304},
)
_7X_TPU = Tpu(
    generation="tpu7x",
    cores=1,
    matrix_units=2,
    unit_size=256,
    rows_per_cycle=2,
    clock=1.954e9,
    clock_is_fitted=True,
    product_ceiling=0.829,
    copy_ceiling=0.87,
    ceilings_are_measured=True,
    vmem_bytes=64 * MIB,
    sparse_cores=2,
    links=6,
    link_bandwidth=90e9,
    torus_dimensions=3,
    network_bandwidth=12.5e9 / 2,
    usable_memory_bytes=round(94.75 * GIB),
    compiler_options={_SCOPED_VMEM: 61440},
)
_V4 = Chip("TPU v4", 275e12, 32 * GIB, 1228e9, tpu=_V4_TPU)
_V5E = Chip("TPU v5e", 197e12, 16 * GIB, 819e9, tpu=_V5E_TPU)
_V5P = Chip("TPU v5p", 459e12, 95 * GIB, 2765e9, tpu=_V5P_TPU)
_V6E = Chip("TPU v6e", 918e12, 32 * GIB, 1638e9, tpu=_V6E_TPU)
_7X = Chip("TPU7x", 2307e12 / 2, 192 * GIB // 2, 7380e9 / 2, devices=2, tpu=_7X_TPU)

GENERATIONS: Mapping[str, Chip] = {chip.tpu.generation: chip for chip in (_V4, _V5E, _V5P, _V6E, _7X) if chip.tpu}
"""The TPUs by what Google's names of their slices begin with."""

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
