"""Slices against the tables of Google's pages and against what libtpu says of the same topology."""

import importlib.util
import math
import platform
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies

from sc2jax.errors import UserError
from sc2jax.parallel.chips import GENERATIONS, chip_of
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.plan.environment import ENVIRONMENT, require_environment
from sc2jax.plan.slices import Slice, find_slice

# "Configurations" of cloud.google.com/tpu/docs/v5p: topology, cores, chips, hosts; the names count cores.
V5P_TABLE = """
2x2x1 8 4 1
2x2x2 16 8 2
2x4x4 64 32 8
4x4x4 128 64 16
4x4x8 256 128 32
4x8x8 512 256 64
8x8x8 1024 512 128
8x8x16 2048 1024 256
8x16x16 4096 2048 512
16x16x16 8192 4096 1024
16x16x24 12288 6144 1536
"""

# Of .../v6e, whose table counts machines of four chips, beside one of eight and one of one; v5e has the same shapes.
V6E_TABLE = """
1x1 1 1
2x2 4 1
2x4 8 1
4x4 16 4
4x8 32 8
8x8 64 16
8x16 128 32
16x16 256 64
"""


TWO_CORES = [(generation, *row.split()) for generation in ("v4", "v5p") for row in V5P_TABLE.strip().splitlines()]


@pytest.mark.parametrize(("generation", "topology", "cores", "chips", "hosts"), TWO_CORES[:-12] + TWO_CORES[-11:])
def test_generations_of_two_cores_are_named_as_in_googles_table(generation, topology, cores, chips, hosts):
    """But for the last row, since a v4 pod has 4096 chips."""
    found = find_slice(f"{generation}-{cores}")
    assert found == find_slice(f"{generation}:{topology}")
    assert (found.chips, found.devices, found.hosts) == (int(chips), int(chips), int(hosts))
    assert found.chip is GENERATIONS[generation]
    assert (found.name, found.topology) == (f"{generation}-{cores}", f"{generation}:{topology}")


@pytest.mark.parametrize("row", V6E_TABLE.strip().splitlines())
@pytest.mark.parametrize("generation", ["v5e", "v6e"])
def test_flat_generations_are_named_as_in_googles_table(generation, row):
    topology, chips, hosts = row.split()
    found = find_slice(f"{generation}-{chips}")
    assert found == find_slice(f"{generation}:{topology}")
    assert (found.chips, found.devices, found.hosts) == (int(chips), int(chips), int(hosts))
    assert (found.name, found.topology) == (f"{generation}-{chips}", f"{generation}:{topology}")


def test_v5e_has_a_second_name():
    assert find_slice("v5litepod-256") == find_slice("v5e-256") == find_slice("v5litepod:16x16")


@pytest.mark.parametrize(
    ("name", "extents", "chips", "devices", "hosts"),
    [
        ("tpu7x-8", (2, 2, 1), 4, 8, 1),
        ("tpu7x-256", (4, 4, 8), 128, 256, 32),
        ("tpu7x-18432", (16, 24, 24), 9216, 18432, 2304),
    ],
)
def test_tpu7x_counts_devices_two_a_chip(name, extents, chips, devices, hosts):
    found = find_slice(name)
    assert (found.extents, found.chips, found.devices, found.hosts) == (extents, chips, devices, hosts)


@pytest.mark.parametrize(
    ("name", "extents"),
    [("v5p-384", (4, 4, 12)), ("v5p-1152", (4, 12, 12)), ("v5p-1408", (4, 4, 44)), ("v5p-2304", (8, 12, 12)),
     ("v5p-3072", (8, 12, 16)), ("v4-32", (2, 2, 4))],
)  # fmt: skip
def test_a_number_of_cubes_stands_for_the_most_cubic_of_their_shapes(name, extents):
    assert find_slice(name).extents == extents


def test_a_slice_of_another_shape_has_its_topology_for_a_name():
    found = find_slice("v5p:4x4x16")
    assert (found.chips, found.name) == (256, "v5p:4x4x16")


@pytest.mark.parametrize(
    ("name", "wraps"),
    [
        ("v5e:16x16", (True, True)),
        ("v6e:8x16", (False, True)),
        ("v6e:8x8", (False, False)),
        ("v4:4x4x4", (True, True, True)),
        ("v5p:4x4x8", (True, True, True)),
        ("tpu7x:4x8x8", (True, True, True)),
        ("v5p:2x4x4", (False, False, False)),
        ("v5p:2x2x4", (False, False, False)),
    ],
)
def test_axes_are_rings_as_the_scaling_book_says(name, wraps):
    """A full axis of 16 in a pod without optical switches, all axes of whole cubes, none of less than a cube."""
    assert find_slice(name).wraps == wraps


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5p-500", "there is no slice v5p-500; the nearest are v5p-384 and v5p-512"),
        ("v5p-511", "there is no slice v5p-511; the nearest are v5p-384 and v5p-512"),
        ("V5P-512", "there is no slice 'V5P-512'; did you mean v5p-512?"),
        (" TPU7x:4X4X8 ", "there is no slice ' TPU7x:4X4X8 '; did you mean tpu7x-256?"),
        ("V5P-511", "there is no slice v5p-511; the nearest are v5p-384 and v5p-512"),
        ("v5p-4", "there is no slice v5p-4; the nearest is v5p-8"),
        ("v5p-12289", "there is no slice v5p-12289; the nearest is v5p-12288"),
        ("v4-8320", "there is no slice v4-8320; the nearest is v4-8192"),
        ("v5e-512", "there is no slice v5e-512; the nearest is v5e-256"),
        ("tpu7x-9", "there is no slice tpu7x-9; the nearest are tpu7x-8 and tpu7x-16"),
        ("v5p:8x4x8", "there is no slice v5p:8x4x8; the nearest are v5p:4x8x8 and v5p:4x4x20"),
        ("v5p:4x8", "there is no slice v5p:4x8; the nearest are v5p:2x4x4 and v5p:4x4x4"),
        ("v5p:4x4x6", "there is no slice v5p:4x4x6; the nearest are v5p:4x4x4 and v5p:4x4x8"),
        ("v5p:16x16x28", "there is no slice v5p:16x16x28; the nearest is v5p:16x16x24"),
        ("v6e:1x2x3", "there is no slice v6e:1x2x3; the nearest are v6e:2x2 and v6e:2x4"),
        ("v6e:16x8", "there is no slice v6e:16x8; the nearest are v6e:8x16 and v6e:16x16"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_with_the_nearest(name, message):
    with pytest.raises(UserError) as error:
        find_slice(name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name",
    ["", "v5p", "v5p-", "v5p-0", "v5p-08", "v5p-8x", "v5-8", "v7x-8", "5p-8", "v5p:", "v5p:4", "v5p:4x4x4x4",
     "v5p:0x4x4", "v5p-1\u0666", "v5p-" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_name_of_a_slice_is_refused_with_those_of_all_generations(name):
    with pytest.raises(
        UserError, match=r"there is no slice '.*v4-8192, v5e-256, v5p-12288, v6e-256, tpu7x-18432.*v5p:"
    ):
        find_slice(name)


@pytest.mark.parametrize("name", ["v4-64", "v5p-128", "v5p:2x2x2", "v5e-1", "v5e-8", "v6e-128", "tpu7x-8", "tpu7x-128"])
def test_libtpu_has_the_devices_and_hosts_that_the_slice_says(name, tpu_compiler):
    found = find_slice(name)
    devices = found.devices_of()
    assert len(devices) == found.devices
    assert len({device.process_index for device in devices}) == found.hosts
    assert all(chip_of(device.device_kind) is found.chip for device in devices)
    corner = tuple(max(device.coords[axis] for device in devices) + 1 for axis in range(len(found.extents)))
    assert corner == found.extents


@pytest.mark.parametrize("name", ["v5p-128", "v6e-16", "tpu7x-16"])
def test_several_slices_make_a_mesh_whose_first_axis_is_the_slices(name, tpu_compiler):
    found = find_slice(name)
    devices = found.devices_of(slices=2)
    assert len(devices) == 2 * found.devices
    assert {device.slice_index for device in devices} == {0, 1}
    mesh = create_mesh(MeshConfig(slices=2), devices)
    assert [{device.slice_index for device in part.flat} for part in mesh.devices] == [{0}, {1}]
    with pytest.raises(UserError, match=r"in 2 slices; set mesh\.slices to 2"):
        create_mesh(MeshConfig(), devices)


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("v5p-512", ("v5p:4x8x8", "megacore", (2, 2, 1), (True, True, True))),
        ("v4-16", ("v4:2x2x2", "megacore", (2, 2, 1), (False, False, False))),
        ("v6e-128", ("v6e:8x16", "default", (2, 2, 1), (False, True, False))),
        ("v5e-8", ("v5e:2x4", "default", (2, 4, 1), (False, False, False))),
        ("tpu7x-256", ("tpu7x:4x4x8", "default", (2, 2, 1), (True, True, True))),
    ],
)
def test_libtpu_is_told_the_long_form(name, described, tpu_compiler, monkeypatch):
    told = []

    def describe(topology, platform, **options):
        told.append((topology, platform, options))
        return types.SimpleNamespace(devices=[])

    monkeypatch.setattr(topologies, "get_topology_desc", describe)
    find_slice(name).devices_of(slices=3)
    topology, config, bounds, wrap = described
    options = {"chip_config_name": config, "chips_per_host_bounds": bounds, "num_slices": 3, "wrap": wrap}
    assert told == [(topology, "tpu", options)]


def test_what_is_a_ring_reaches_the_compiler(tpu_compiler, monkeypatch):
    """Which writes the rings of a collective that the SparseCores do into the program."""

    def gathering_program(part: Slice) -> str:
        mesh = jax.sharding.Mesh(np.array(part.devices_of()), ("x",))
        spread, whole = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("x",), ()))
        array = jax.ShapeDtypeStruct((1 << 20,), jnp.float32, sharding=spread)
        return str(jax.jit(lambda x: x, out_shardings=whole).lower(array).compile().as_text())

    cube = find_slice("tpu7x-128")
    rings = gathering_program(cube)
    monkeypatch.setattr(Slice, "wraps", (False, False, False))
    assert rings != gathering_program(cube)


def test_without_the_compiler_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "sc2jax\[plan\]" on Linux on x86-64'):
        find_slice("v5e-1").devices_of()


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "aarch64"), ("darwin", "x86_64")])
def test_on_another_system_the_message_says_which_it_must_be(system, machine, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UserError, match=rf"on Linux on x86-64, the only system.*\(this is {system} on {machine}\)"):
        find_slice("v5e-1").devices_of()


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_an_environment_that_lacks_a_variable_is_a_fault_of_the_caller(missing, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    require_environment()
    monkeypatch.setenv(missing, "other")
    with pytest.raises(RuntimeError, match=missing):
        require_environment()
    monkeypatch.delenv(missing)
    with pytest.raises(RuntimeError, match=missing):
        require_environment()
    if importlib.util.find_spec("libtpu"):
        with pytest.raises(RuntimeError, match=missing):
            find_slice("v5e-1").devices_of()


def test_slices_are_found_before_jax_is_imported():
    """Whose import the environment must precede."""
    code = (
        "import sys; from sc2jax.plan.slices import find_slice; find_slice('v5p-8').wraps; print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_name_is_its_slices_name():
    for generation in GENERATIONS:
        for size in (8, 16, 128, 256):
            found = find_slice(f"{generation}-{size}")
            assert found.name == f"{generation}-{size}"
            assert found.chips == math.prod(found.extents)
