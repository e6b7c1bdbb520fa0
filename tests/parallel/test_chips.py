"""The chips' constants against other statements of the same, and the names under which JAX knows them."""

import jax
import pytest
from jax.experimental import topologies
from tpu_compiler import ENVIRONMENT

from sc2jax.parallel.chips import chip_of


@pytest.mark.parametrize("kind", ["cpu", "", "TPU", "TPU v99", "NVIDIA GeForce RTX 4090", "Tesla V100-SXM2-16GB"])
def test_of_other_devices_nothing_is_known(kind):
    assert chip_of(kind) is None


def test_of_this_machine_nothing_is_known():
    assert chip_of(jax.devices("cpu")[0].device_kind) is None


@pytest.mark.parametrize(
    ("kind", "teraflops_a_chip", "gib_a_chip", "gb_per_second_a_chip"),
    [
        ("TPU v4", 275, 32, 1228),
        ("TPU v5 lite", 197, 16, 819),
        ("TPU v5", 459, 95, 2765),
        ("TPU v6 lite", 918, 32, 1638),
        ("TPU7x", 2307, 192, 7380),
        ("Tesla T4", 65, 16, 320),
        ("NVIDIA L4", 242 / 2, 24, 300),  # from here on datasheets count products of sparse matrices as if dense
        ("NVIDIA A100-SXM4-40GB", 624 / 2, 40, 1555),
        ("NVIDIA A100-SXM4-80GB", 624 / 2, 80, 2039),
        ("NVIDIA A100-PCIE-40GB", 624 / 2, 40, 1555),
        ("NVIDIA A100 80GB PCIe", 624 / 2, 80, 1935),
        ("NVIDIA H100 PCIe", 1513 / 2, 80, 2000),
        ("NVIDIA H100 NVL", 1671 / 2, 94, 3900),
        ("NVIDIA H100 80GB HBM3", 1979 / 2, 80, 3350),
        ("NVIDIA H200", 1979 / 2, 141, 4800),
    ],
)
def test_constants_are_those_of_the_datasheets(kind, teraflops_a_chip, gib_a_chip, gb_per_second_a_chip):
    chip = chip_of(kind)
    assert chip is not None
    assert chip.peak_flops * chip.devices == pytest.approx(teraflops_a_chip * 1e12, rel=1e-3)
    assert chip.memory_bytes * chip.devices == gib_a_chip * 2**30
    assert chip.memory_bandwidth * chip.devices == pytest.approx(gb_per_second_a_chip * 1e9)
    assert chip.has_bfloat16 == (kind != "Tesla T4")


@pytest.mark.parametrize(
    ("topology", "cores", "name"),
    [("v4:2x2x1", "megacore", "TPU v4"), ("v5e:2x2", "default", "TPU v5e"), ("v5p:2x2x1", "megacore", "TPU v5p"),
     ("v6e:2x2", "default", "TPU v6e"), ("tpu7x:2x2x1", "default", "TPU7x")],
)  # fmt: skip
def test_names_are_those_that_the_tpu_runtime_gives(topology, cores, name, monkeypatch):
    """As libtpu says them for chips that are not here."""
    pytest.importorskip("libtpu")
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    devices = topologies.get_topology_desc(topology, "tpu", chip_config_name=cores).devices
    chip = chip_of(devices[0].device_kind)
    assert chip is not None and chip.name == name
    assert len(devices) == 4 * chip.devices
