"""The state's size by hand, and the line at the edge of what fits."""

import jax
import jax.numpy as jnp
import pytest

from sc2jax.checkpoint.emergency import bytes_of_this_process, too_large_for_an_emergency, write_speed
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.storage import files_below

MIB = 2**20


def test_all_of_a_state_is_written_by_one_process_however_it_is_split():
    mesh = create_mesh(MeshConfig(data=2, fsdp=4))
    split = jax.device_put(jnp.ones((8, 16)), rules.sharding(mesh, (rules.EMBED, rules.MLP), (8, 16)))
    whole = jax.device_put(jnp.ones(6, jnp.bfloat16), rules.replicated(mesh))
    assert bytes_of_this_process({"a": split, "b": [whole, jnp.int32(1)]}) == 8 * 16 * 4 + 6 * 2 + 4


class Spread:
    """An array over 16 devices, of which this process has 4."""

    nbytes = 1600

    class sharding:  # noqa: N801
        addressable_devices = range(4)
        device_set = range(16)


def test_of_many_processes_each_writes_its_share():
    assert bytes_of_this_process([Spread(), Spread()]) == 800


@pytest.mark.parametrize(
    ("mib", "seconds", "fits"),
    [(1800, 30, True), (1801, 30, False), (0, 3, True), (0, 2.9, False), (3800, 60, True), (3801, 60, False)],
)
def test_half_as_long_again_and_three_seconds(mib, seconds, fits):
    """1,800 MiB at 100 MiB/s take 18 s; 27 with the margin, and 3 around it."""
    said = too_large_for_an_emergency(mib * MIB, 100 * MIB, seconds)
    assert (said == "") == fits


def test_what_is_said():
    assert too_large_for_an_emergency(20 * 2**30, 256 * MIB).startswith(
        "a checkpoint takes about 123 s (20.0 GiB from each host at 256 MiB/s), longer than the 30 s between"
    )


@pytest.mark.parametrize("url", [False, True])
def test_the_speed_is_measured_and_leaves_nothing(tmp_path, url, monkeypatch):
    folder = f"file://{tmp_path}/new" if url else str(tmp_path / "new")
    clock = iter([10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert write_speed(folder, MIB) == 2 * MIB
    assert files_below(folder) == []


def test_a_disk_without_room_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_speed(str(tmp_path), 1000)
    assert list(tmp_path.iterdir()) == []
