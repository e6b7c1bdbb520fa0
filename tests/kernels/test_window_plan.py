"""The plan of visited blocks and pieces against the visible pairs themselves, counted one by one."""

import numpy as np
import pytest

from sc2jax.kernels.window_plan import WindowPlan


@pytest.mark.parametrize("block", [128, 512])
@pytest.mark.parametrize(
    "window", [0, 1, 2, 127, 128, 129, 130, 255, 258, 386, 511, 512, 513, 514, 767, 1023, 1026, 1538, 10**6]
)
@pytest.mark.parametrize("by_query", [True, False])
def test_exactly_the_pieces_with_a_visible_pair_are_computed(block, window, by_query):
    plan = WindowPlan(block, 4, 4, window)
    edge = plan.edge
    positions = np.arange(4 * block)
    distance = positions[:, None] - positions[None]
    visible = (distance >= 0) & ((distance < window) | (window == 0))
    for i in range(plan.key_blocks):
        for j in range(i + 1):
            pairs = visible[i * block : (i + 1) * block, j * block : (j + 1) * block]
            assert pairs.all() == (1 <= i - j <= plan.full)
            if not 1 <= i - j <= plan.full:
                computed = np.zeros((block // edge, block // edge), bool)
                for strip, first, last in plan.pieces(i - j, by_query) if i - j <= plan.reach else []:
                    (computed if by_query else computed.T)[strip // edge, first // edge : last // edge] = True
                needed = pairs.reshape(block // edge, edge, -1, edge).any(axis=(1, 3))
                np.testing.assert_array_equal(computed, needed)
