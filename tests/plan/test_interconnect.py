"""How long collectives take on links, worked by hand."""

import itertools

import pytest

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan.interconnect import HOP_SECONDS, Network, Place

CHIP = GENERATIONS["v5p"]
LINK = 90e9  # bytes a second, one way
BYTES = 900_000_000


def network(extents=(4, 8, 8), wraps=True, slices=1, chip=CHIP, copies=1) -> Network:
    places = [
        Place(index, coordinates)
        for index in range(slices)
        for coordinates in itertools.product(*map(range, extents))
        for _ in range(copies)
    ]
    return Network(chip, extents, (wraps,) * len(extents), places)


def along(extents, axis) -> list[list[int]]:
    """The devices of each line along an axis, numbered as above."""
    numbers = {place: number for number, place in enumerate(itertools.product(*map(range, extents)))}
    others = itertools.product(*(range(extent) for other, extent in enumerate(extents) if other != axis))
    return [[numbers[(*rest[:axis], step, *rest[axis:])] for step in range(extents[axis])] for rest in others]


def test_a_ring_gathers_over_two_links():
    found = network().seconds("all-gather", BYTES, along((4, 8, 8), 1))
    assert found == pytest.approx(BYTES * 7 / 8 / (2 * LINK))


def test_a_line_is_half_as_fast_as_a_ring():
    lines = network(wraps=False).seconds("all-gather", BYTES, along((4, 8, 8), 1))
    halves = [line[:4] for line in along((4, 8, 8), 1)]
    assert lines == pytest.approx(BYTES * 7 / 8 / LINK)
    assert network().seconds("all-gather", BYTES, halves) == pytest.approx(BYTES * 3 / 4 / LINK)


def test_the_whole_torus_has_all_of_its_links_unless_the_compiler_takes_one_ring():
    everyone = [list(range(256))]
    found = network().seconds("reduce-scatter", BYTES, everyone)
    assert found == pytest.approx(BYTES * 255 / 256 / (6 * LINK))
    assert network().seconds("reduce-scatter", BYTES, everyone, rings=1) == pytest.approx(3 * found)
    assert network().seconds("reduce-scatter", BYTES, everyone, rings=2) == pytest.approx(1.5 * found)


@pytest.mark.parametrize(("kind", "rounds"), [("all-gather", 1), ("all-reduce", 2), ("all-to-all", 0.25)])
def test_kinds_pass_the_data_more_or_less_often(kind, rounds):
    found = network().seconds(kind, BYTES, along((4, 8, 8), 2))
    assert found == pytest.approx(rounds * BYTES * 7 / 8 / (2 * LINK))


def test_what_is_small_takes_as_long_as_the_way():
    assert network().seconds("all-gather", 4, along((4, 8, 8), 1)) == pytest.approx(4 * HOP_SECONDS)
    assert network().seconds("all-reduce", 4, [list(range(256))]) == pytest.approx(2 * (2 + 4 + 4) * HOP_SECONDS)
    ring = network().seconds("all-gather", 4, [list(range(256))], rings=1)
    assert ring == pytest.approx(128 * HOP_SECONDS), "halfway around a ring through all places"


def test_the_slowest_group_counts_and_one_of_one_takes_nothing():
    groups = [*along((4, 8, 8), 0), *along((4, 8, 8), 1)]
    assert network().seconds("all-gather", BYTES, groups) == pytest.approx(BYTES * 7 / 8 / (2 * LINK))
    assert network().seconds("all-gather", BYTES, [[3], [4]]) == 0


def test_devices_of_a_chip_share_its_links():
    chip = GENERATIONS["tpu7x"]
    pairs = network((4, 4, 4), chip=chip, copies=2)
    ring = [2 * device + core for device in along((4, 4, 4), 0)[0] for core in range(2)]
    assert chip.tpu is not None
    assert pairs.seconds("all-gather", BYTES, [ring]) == pytest.approx(BYTES * 7 / 8 / chip.tpu.link_bandwidth)
    assert pairs.seconds("all-gather", BYTES, [[0, 1]]) == pytest.approx(BYTES / 2 / chip.memory_bandwidth)


def test_between_slices_each_device_sends_its_share_over_the_network():
    two = network(slices=2)
    across = [[device, device + 256] for device in range(256)]
    assert CHIP.tpu is not None
    assert two.seconds("all-reduce", BYTES, across) == pytest.approx(BYTES / CHIP.tpu.network_bandwidth)
    inside = two.seconds("all-reduce", BYTES, [list(range(256))])
    everyone = two.seconds("all-reduce", BYTES, [list(range(512))])
    assert everyone == pytest.approx(inside + BYTES / 256 / CHIP.tpu.network_bandwidth)


def test_a_permute_takes_one_link_and_the_shorter_way():
    line = along((4, 8, 8), 1)[0]
    found = network().permute_seconds(BYTES, [(line[0], line[7]), (line[7], line[0]), (3, 3)])
    assert found == pytest.approx(BYTES / LINK + HOP_SECONDS)
    assert network(wraps=False).permute_seconds(BYTES, [(line[0], line[7])]) == pytest.approx(
        BYTES / LINK + 7 * HOP_SECONDS
    )
    assert network(slices=2).permute_seconds(BYTES, [(0, 256)]) == pytest.approx(BYTES / 6.25e9)
    assert network().permute_seconds(BYTES, []) == 0
    assert network(slices=2).between_slices_seconds(BYTES) == pytest.approx(BYTES / 6.25e9)


def test_chips_of_a_flat_torus_have_a_third_coordinate():
    """As JAX gives them."""
    places = [Place(0, (x, y, 0)) for x in range(16) for y in range(16)]
    flat = Network(GENERATIONS["v6e"], (16, 16), (True, True), places)
    # From (0, 0) to (2, 15): two and, the shorter way around, one.
    assert flat.permute_seconds(BYTES, [(0, 2 * 16 + 15)]) == pytest.approx(BYTES / 90e9 + 3 * HOP_SECONDS)
    rows = [[x * 16 + y for y in range(16)] for x in range(16)]
    assert flat.seconds("all-gather", BYTES, rows) == pytest.approx(BYTES * 15 / 16 / (2 * 90e9))
