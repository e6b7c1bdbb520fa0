"""The chips' constants against other statements of the same, and the names under which JAX knows them."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax._src.pallas.mosaic import tpu_info
from jax.experimental import topologies

from sc2jax.parallel.chips import GENERATIONS, MIB, chip_of, compiler_options_of


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
def test_names_are_those_that_the_tpu_runtime_gives(topology, cores, name, tpu_compiler):
    """As libtpu says them for chips that are not here."""
    devices = topologies.get_topology_desc(topology, "tpu", chip_config_name=cores).devices
    chip = chip_of(devices[0].device_kind)
    assert chip is not None and chip.name == name
    assert len(devices) == 4 * chip.devices


TOPOLOGIES = {
    "v4": ("v4:2x2x1", "megacore"),
    "v5e": ("v5e:2x2", "default"),
    "v5p": ("v5p:2x2x1", "megacore"),
    "v6e": ("v6e:2x2", "default"),
    "tpu7x": ("tpu7x:2x2x1", "default"),
}


@pytest.fixture
def place(tpu_compiler):
    """Of an array on a device of a generation that is not here."""

    def placement(generation: str) -> jax.sharding.Sharding:
        topology, cores = TOPOLOGIES[generation]
        devices = topologies.get_topology_desc(topology, "tpu", chip_config_name=cores).devices
        return jax.sharding.SingleDeviceSharding(devices[0])

    return placement


def tpu_of(generation):
    tpu = GENERATIONS[generation].tpu
    assert tpu is not None
    return tpu


def test_generations_are_found_by_their_names():
    assert list(GENERATIONS) == list(TOPOLOGIES)
    for kind, generation in (("TPU v4", "v4"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v6 lite", "v6e")):
        assert chip_of(kind) is GENERATIONS[generation]
    assert chip_of("TPU7x") is GENERATIONS["tpu7x"]
    assert all(tpu_of(generation).generation == generation for generation in GENERATIONS)
    nvidia = chip_of("NVIDIA L4")
    assert nvidia is not None and nvidia.tpu is None


@pytest.mark.parametrize("generation", ["v4", "v5e", "v5p", "v6e"])
def test_the_clock_makes_the_published_peak(generation):
    chip, tpu = GENERATIONS[generation], tpu_of(generation)
    assert tpu.clock * tpu.cores * tpu.flops_per_cycle == pytest.approx(chip.peak_flops, rel=3e-3)
    assert tpu.clock_is_fitted == (generation == "v6e")


def test_the_fitted_clock_lies_below_that_of_the_peak():
    """And gives Google's 950.13 TFLOP/s for 16384^3 from the compiler's 18,092,262 cycles (perf/tpu_clocks.py)."""
    chip, tpu = GENERATIONS["tpu7x"], tpu_of("tpu7x")
    assert tpu.clock_is_fitted
    assert 0.85 * chip.peak_flops < tpu.clock * tpu.flops_per_cycle < chip.peak_flops
    assert tpu.clock == pytest.approx(18_092_262 / (2 * 16384**3 / 950.1287e12), rel=1e-3)


def test_v6e_takes_the_time_that_google_measured():
    """1.328756 ms for 8192^3, for which the compiler counts 2,337,656 cycles (perf/tpu_clocks.py)."""
    assert 2_337_656 / tpu_of("v6e").clock == pytest.approx(1.328756e-3, rel=6e-3)


VERSIONS = {
    "v4": tpu_info.ChipVersion.TPU_V4,
    "v5e": tpu_info.ChipVersion.TPU_V5E,
    "v5p": tpu_info.ChipVersion.TPU_V5P,
    "v6e": tpu_info.ChipVersion.TPU_V6E,
    "tpu7x": tpu_info.ChipVersion.TPU_7X,
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_units_and_memories_are_those_that_jax_states(generation):
    tpu = tpu_of(generation)
    stated = tpu_info.get_tpu_info_for_chip(VERSIONS[generation], tpu.cores)
    assert (tpu.matrix_units, tpu.unit_size) == (stated.num_mxus, stated.mxu_column_size)
    assert tpu.vmem_bytes == stated.vmem_capacity_bytes
    if generation != "v4":  # of whose SparseCores jax says nothing
        assert tpu.sparse_cores == (stated.sparse_core.num_cores if stated.sparse_core else 0)


@pytest.mark.parametrize(
    ("generation", "gb_both_ways", "links", "axes", "sparse_cores_a_chip"),
    [
        ("v4", 600, 6, 3, 4),
        ("v5e", 400, 4, 2, 0),
        ("v5p", 1200, 6, 3, 4),
        ("v6e", 800, 4, 2, 2),
        ("tpu7x", 1200, 6, 3, 4),
    ],
)
def test_links_carry_nine_tenths_of_what_googles_pages_state(
    generation, gb_both_ways, links, axes, sparse_cores_a_chip
):
    chip, tpu = GENERATIONS[generation], tpu_of(generation)
    assert (tpu.links, tpu.torus_dimensions) == (links, axes) and links == 2 * axes
    assert 2 * tpu.links * tpu.link_bandwidth == pytest.approx(0.9e9 * gb_both_ways)
    assert tpu.sparse_cores * chip.devices == sparse_cores_a_chip


@pytest.mark.parametrize(
    ("generation", "gigabits_a_chip"),
    [("v4", 8 * 25 / 4), ("v5e", 6400 / 256), ("v5p", 50), ("v6e", 25_600 / 256), ("tpu7x", 100)],
)
def test_the_network_between_slices_is_that_of_googles_pages(generation, gigabits_a_chip):
    assert tpu_of(generation).network_bandwidth * GENERATIONS[generation].devices * 8 == gigabits_a_chip * 1e9


@pytest.mark.parametrize(
    ("generation", "teraflops", "gb_per_second"), [("v6e", 827.47, 1359.6), ("tpu7x", 956.38, 3210.48)]
)
def test_ceilings_are_what_google_measured(generation, teraflops, gb_per_second):
    chip, tpu = GENERATIONS[generation], tpu_of(generation)
    assert tpu.ceilings_are_measured
    assert tpu.product_ceiling == pytest.approx(teraflops * 1e12 / chip.peak_flops, abs=5e-4)
    assert tpu.copy_ceiling == pytest.approx(gb_per_second * 1e9 / chip.memory_bandwidth, abs=5e-4)


def test_where_nothing_was_measured_the_ceilings_are_the_best_of_what_was():
    tpus = [tpu_of(generation) for generation in GENERATIONS]
    measured, others = ([tpu for tpu in tpus if tpu.ceilings_are_measured == is_so] for is_so in (True, False))
    assert [tpu.generation for tpu in others] == ["v4", "v5e", "v5p"]
    for name in ("product_ceiling", "copy_ceiling"):
        assert {getattr(tpu, name) for tpu in others} == {max(getattr(tpu, name) for tpu in measured)}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_usable_memory_is_what_the_compiler_says_it_has(generation, place):
    too_large = jax.ShapeDtypeStruct((1 << 30, 128), jnp.float32, sharding=place(generation))
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: x + 1).lower(too_large).compile()
    stated = re.search(r"exceeds available HBM \(([\d.]+)G\)", str(error.value))
    assert stated is not None
    assert tpu_of(generation).usable_memory_bytes / 2**30 == pytest.approx(float(stated[1]), abs=1e-6)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_compiler_knows_every_option(generation, place):
    options = dict(tpu_of(generation).compiler_options)
    jax.jit(lambda: jnp.zeros(()), out_shardings=place(generation), compiler_options=options).lower().compile()


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_collective_is_made_asynchronous_in_one_way_at_most(generation):
    options = tpu_of(generation).compiler_options
    for collective in ("all_gather", "reduce_scatter", "all_reduce"):
        fused = options.get(f"xla_tpu_enable_async_collective_fusion_fuse_{collective}", False)
        offloaded = options.get(f"xla_tpu_enable_sparse_core_collective_offload_{collective}", False)
        assert not (fused and offloaded)
        assert offloaded == options.get(f"xla_tpu_enable_{collective}_offload_tracing", False)
        assert not offloaded or tpu_of(generation).sparse_cores


def test_reduce_scatters_are_fused_where_no_sparse_core_does_them():
    """With the compiler's own 16 MiB of VMEM a 7B step then did not compile."""
    fused = {"xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter", "xla_enable_async_reduce_scatter_fusion"}
    for generation in GENERATIONS:
        tpu = tpu_of(generation)
        assert len(fused & set(tpu.compiler_options)) == (2 if generation == "v5e" else 0)
    assert not tpu_of("v5e").sparse_cores


@pytest.mark.parametrize(("generation", "mib"), [("v5e", 48), ("v5p", 48), ("v6e", 96), ("tpu7x", 60)])
def test_an_operation_may_take_most_of_the_vmem(generation, mib):
    assert tpu_of(generation).compiler_options["xla_tpu_scoped_vmem_limit_kib"] == mib * 1024
    assert mib * MIB < tpu_of(generation).vmem_bytes


def test_options_are_changed_by_name():
    own = GENERATIONS["v5p"].tpu
    assert own is not None
    assert compiler_options_of("TPU v5") == dict(own.compiler_options)
    changed = compiler_options_of(
        "TPU v5", ["xla_tpu_scoped_vmem_limit_kib=65536", "xla_enable_async_all_gather=", "xla_a=b=c", "xla_none="]
    )
    expected = {**own.compiler_options, "xla_tpu_scoped_vmem_limit_kib": "65536", "xla_a": "b=c"}
    del expected["xla_enable_async_all_gather"]
    assert changed == expected


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H100 80GB HBM3", "TPU v99"])
def test_other_devices_have_no_options(kind):
    assert compiler_options_of(kind, ["xla_tpu_scoped_vmem_limit_kib=65536"]) == {}
