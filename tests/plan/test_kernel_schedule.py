"""The reader of the TPU compiler's schedule, on a product whose work is known and compiled by the real compiler."""

import importlib.util
from pathlib import Path

import pytest

from sc2jax.plan.kernel_compilation import dump, kernels_of
from sc2jax.plan.kernel_schedule import Branch, Kernel, MissedLoopError

ROWS, INNER, COLUMNS, BLOCK, SLICES = 512, 1024, 256, 256, 4
GRID_STEPS = (ROWS // BLOCK) * (COLUMNS // BLOCK) * (INNER // BLOCK)
WIDTH = 1024
FLOPS = 2 * ROWS * INNER * COLUMNS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)


def subject():
    """A product over a grid, with a `pl.when` at each end and a loop that stays a loop inside a step."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    def kernel(left, right, out, total):
        @pl.when(pl.program_id(2) == 0)
        def _():
            total[...] = jnp.zeros_like(total)

        def add_slice(index, carry):
            rows = pl.ds(index * (BLOCK // SLICES), BLOCK // SLICES)
            total[rows, :] += jnp.dot(left[rows, :], right[...], preferred_element_type=jnp.float32)
            return carry

        jax.lax.fori_loop(0, SLICES, add_slice, 0)

        @pl.when(pl.program_id(2) == INNER // BLOCK - 1)
        def _():
            out[...] = total[...].astype(out.dtype)

    product = pl.pallas_call(
        kernel,
        grid=(ROWS // BLOCK, COLUMNS // BLOCK, INNER // BLOCK),
        in_specs=[
            pl.BlockSpec((BLOCK, BLOCK), lambda i, _, k: (i, k)),
            pl.BlockSpec((BLOCK, BLOCK), lambda _, j, k: (k, j)),
        ],
        out_specs=pl.BlockSpec((BLOCK, BLOCK), lambda i, j, _: (i, j)),
        out_shape=jax.ShapeDtypeStruct((ROWS, COLUMNS), jnp.bfloat16),
        scratch_shapes=[pltpu.VMEM((BLOCK, BLOCK), jnp.float32)],
        name="product",
    )
    return product, (
        jax.ShapeDtypeStruct((ROWS, INNER), jnp.bfloat16),
        jax.ShapeDtypeStruct((INNER, COLUMNS), jnp.bfloat16),
    )


def triangle():
    """The sums of a block column's products up to the diagonal: a loop whose turns depend on the grid's step."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl

    def kernel(left, right, out):
        out[...] = jnp.zeros_like(out)

        def add(_, carry):
            out[...] += jnp.dot(left[...], right[...], preferred_element_type=jnp.float32)
            return carry

        jax.lax.fori_loop(0, pl.program_id(0), add, 0)

    wide = pl.BlockSpec((BLOCK, BLOCK), lambda i: (0, i))
    summed = pl.pallas_call(
        kernel,
        grid=(WIDTH // BLOCK,),
        in_specs=[pl.BlockSpec((BLOCK, BLOCK), lambda _: (0, 0)), wide],
        out_specs=wide,
        out_shape=jax.ShapeDtypeStruct((BLOCK, WIDTH), jnp.float32),
        name="triangle",
    )
    return summed, (
        jax.ShapeDtypeStruct((BLOCK, BLOCK), jnp.bfloat16),
        jax.ShapeDtypeStruct((BLOCK, WIDTH), jnp.bfloat16),
    )


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    folder = tmp_path_factory.mktemp("dump")
    dump("v5e", f"{Path(__file__)}:subject", [], folder)
    return kernels_of("v5e", folder)["product"]


ENDS = [Branch("first", GRID_STEPS * BLOCK // INNER), Branch("last", GRID_STEPS * BLOCK // INNER)]


def test_grid_and_inner_loop_are_found_with_their_trips(product: Kernel) -> None:
    counts = product.executions(GRID_STEPS, ENDS)
    executed = [counts[region] for region in product.root.walk() if counts[region][0] != "branch"]
    assert ("step", GRID_STEPS) in executed
    assert ("loop", GRID_STEPS * SLICES) in executed
    assert [pair for pair in executed if pair[0] in ("first", "last")] == [(end.name, end.times) for end in ENDS]


def test_matrix_units_are_sent_exactly_the_work_of_the_product(product: Kernel) -> None:
    # Blocks of 256 fill the 128 x 128 units of a v5e, so that no work is padding.
    schedule = product.schedule(GRID_STEPS, ENDS, FLOPS)
    assert schedule["matrix_flops"] == FLOPS
    assert schedule["cycles"] >= schedule["bundles"] > 0
    assert schedule["cycles"] * product.tpu.flops_per_cycle > FLOPS


def test_vmem_holds_two_windows_of_each_operand_and_the_scratch(product: Kernel) -> None:
    assert {number: operand.window_bytes for number, operand in product.operands.items()} == dict.fromkeys(
        range(3), BLOCK * BLOCK * 2
    )
    windows = sum(2 * operand.window_bytes for operand in product.operands.values() if not operand.in_vmem)
    assert product.vmem_bytes >= windows + BLOCK * BLOCK * 4


def test_work_that_the_regions_cannot_have_done_is_a_missed_loop(product: Kernel) -> None:
    with pytest.raises(MissedLoopError, match="FLOPs"):
        product.schedule(GRID_STEPS, ENDS, 2 * FLOPS)
    with pytest.raises(MissedLoopError, match="turns"):
        product.schedule(2 * GRID_STEPS, ENDS, FLOPS)
    with pytest.raises(MissedLoopError, match="nothing says how often"):
        product.schedule(GRID_STEPS, ENDS[:1], FLOPS)
    with pytest.raises(MissedLoopError, match="no region for"):
        product.schedule(GRID_STEPS, [*ENDS, Branch("another", 1)], FLOPS)


def test_a_branch_that_the_compiler_may_have_left_out_is_looked_for_and_missed(product: Kernel) -> None:
    first, last = ENDS
    always = Branch("always", GRID_STEPS, certain=True)
    for branches in ([always, first, last], [first, always, last], [first, last, always, always]):
        assert product.executions(GRID_STEPS, branches) == product.executions(GRID_STEPS, ENDS)
    # Two of the three have a region, and nothing tells which.
    maybe = [Branch(name, times, certain=True) for name, times in (("one", 1), ("two", 2), ("three", 3))]
    with pytest.raises(MissedLoopError, match="several ways"):
        product.executions(GRID_STEPS, maybe)
    with pytest.raises(MissedLoopError, match="nothing says how often branch"):
        product.executions(GRID_STEPS, [Branch("first", 4, loop=True), last])


def test_turns_of_a_loop_that_depend_on_the_step_come_from_outside(tmp_path: Path) -> None:
    dump("v5e", f"{Path(__file__)}:triangle", [], tmp_path)
    kernel = kernels_of("v5e", tmp_path)["triangle"]
    steps = WIDTH // BLOCK
    turns = sum(range(steps))
    branches = [Branch("any turn", steps - 1), Branch("turn", turns, loop=True)]
    assert kernel.schedule(steps, branches, 2 * BLOCK**3 * turns)["matrix_flops"] == 2 * BLOCK**3 * turns
