"""The cost of a call by the TPU's own compiler, for chips that are not there."""

import errno
import importlib.util
from pathlib import Path

import pytest

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan import kernels
from sc2jax.plan.kernel_call import KernelCall, SplashSettings
from sc2jax.plan.kernel_launch import Attention
from sc2jax.plan.kernels import KernelCost, kernel_cost

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)

ROWS = Attention(query_heads=4, kv_heads=2, queries=512, keys=512, window=256, head_size=128, rows=3)
PAIRS = 3 * 4 * sum(min(query + 1, 256) for query in range(512))
SPLASH = SplashSettings(block_q=256, block_kv=256, block_kv_compute=256, fused=True)


def floor(cost: KernelCost, chip: str) -> float:
    """Cycles that the matrix units need at their peak for the visible pairs, all cores at work."""
    tpu = GENERATIONS[chip].tpu
    assert tpu is not None
    return cost.flops / tpu.flops_per_cycle / tpu.cores


def test_cost_of_our_kernel_on_two_cores_and_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    call = KernelCall("window_attention_forward", ROWS, segmented=True, rotates=True)
    cost = kernel_cost(call, "v5p", str(tmp_path))
    assert cost.flops == 2 * 2 * 128 * PAIRS
    assert cost.cycles > floor(cost, "v5p")
    # Each tensor once; the angles and ids of a row's only block stay for all of its heads.
    queries, keys = 3 * 512 * 4 * 128 * 2, 3 * 512 * 2 * 128 * 2
    angles, ids, bounds, sums = 3 * 512 * 128 * 4, 3 * 512 * 4, 2 * 3 * 4, 3 * 512 * 4 * 4
    assert cost.hbm_bytes == 2 * queries + 2 * keys + angles + ids + bounds + sums
    rings = 2 * 512 * 128 * 2
    assert rings < cost.vmem_bytes < 16 * 2**20

    def compiles(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(kernels, "dump", compiles)
    assert kernel_cost(call, "v5p", str(tmp_path)) == cost
    with pytest.raises(AssertionError, match="compiled again"):
        kernel_cost(call, "v5e", str(tmp_path))
    with pytest.raises(AssertionError, match="compiled again"):
        kernel_cost(KernelCall("window_attention_forward", ROWS, True), "v5p", str(tmp_path))
    monkeypatch.setattr(kernels, "_sources_digest", lambda: "other sources")
    with pytest.raises(AssertionError, match="compiled again"):
        kernel_cost(call, "v5p", str(tmp_path))
    monkeypatch.undo()
    [kept] = tmp_path.iterdir()
    kept.write_text(kept.read_text().replace("cycles", "circles"))
    monkeypatch.setattr(kernels, "dump", compiles)
    with pytest.raises(AssertionError, match="compiled again"):
        kernel_cost(call, "v5p", str(tmp_path))


@pytest.mark.parametrize("spoil", ["damaged", "a folder", "no folder to be in", "a full disk"])
def test_a_cost_that_cannot_be_kept_or_read_is_told_all_the_same(tmp_path, monkeypatch, spoil):
    """When a kernel's cost is asked for, its step has been compiled, for minutes."""
    call = KernelCall("window_attention_forward", ROWS, segmented=True, rotates=True)
    folder = tmp_path / "kernels"
    monkeypatch.setattr(kernels, "_measured_cost", lambda *_: KernelCost(1, 2, 3, 4))
    kernel_cost(call, "v5p", str(folder))
    [kept] = folder.iterdir()
    monkeypatch.setattr(kernels, "_measured_cost", lambda *_: KernelCost(5, 6, 7, 8))
    if spoil == "damaged":
        kept.write_bytes(kept.read_bytes()[:20])
    else:
        kept.unlink()
    if spoil == "a folder":
        kept.mkdir()
    elif spoil == "no folder to be in":
        folder.rmdir()
        folder.write_text("")
    elif spoil == "a full disk":

        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(kernels.storage, "write_whole", refuse)
    assert kernel_cost(call, "v5p", str(folder)) == KernelCost(5, 6, 7, 8)
    if spoil == "damaged":
        assert '"cycles": 5' in kept.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chip", ["v5e", "v5p"])
@pytest.mark.parametrize(
    ("kernel", "products"),
    [
        ("window_attention_forward", 2),
        ("window_attention_backward", 5),
        ("splash_mha_fwd_segmented_residuals", 2),
        ("splash_mha_dkv_segmented_no_residuals", 5),
    ],
)
def test_cycles_are_those_of_the_rows_that_the_busier_core_has(kernel: str, products: int, chip: str, tmp_path: Path):
    """Heads and rows are alike, so that each adds the same to what a call takes at the start and at the end.

    Rows are what the cores of v5p share in splash's backward kernel, rows and heads in the others'. Each core has
    two rows at least: of one, the compiler leaves out the grid's dimension.
    """
    costs = []
    for rows in (4, 6, 8):
        shape = Attention(query_heads=4, kv_heads=2, queries=768, keys=768, window=300, head_size=128, rows=rows)
        splash = SPLASH if "splash" in kernel else None
        call = KernelCall(kernel, shape, segmented=True, rotates=splash is None, splash=splash)
        costs.append(kernel_cost(call, chip, str(tmp_path)))
    pairs = 4 * sum(min(query + 1, 300) for query in range(768))
    assert [cost.flops for cost in costs] == [products * 2 * 128 * rows * pairs for rows in (4, 6, 8)]
    assert costs[2].cycles - costs[1].cycles == pytest.approx(costs[1].cycles - costs[0].cycles, rel=0.02)
    assert all(cost.cycles > floor(cost, chip) for cost in costs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "queries", "keys", "window", "rows"),
    [
        (4, 1, 512, 512, 4096, 8),  # one block a row: the compiler leaves out what is always done
        (2, 2, 512, 1024, 640, 2),  # multi-head, keys before the queries
        (3, 1, 1024, 1280, 256, 1),  # one key-value head: a core has nothing to do
        (4, 2, 768, 768, 0, 1),
    ],
)
@pytest.mark.parametrize("kernel", ["window_attention_forward", "window_attention_backward"])
def test_branches_are_found_whatever_the_compiler_leaves_out(
    kernel: str, heads: int, kv_heads: int, queries: int, keys: int, window: int, rows: int, tmp_path: Path
):
    shape = Attention(heads, kv_heads, queries, keys, window, 128, rows)
    cost = kernel_cost(KernelCall(kernel, shape, segmented=True, rotates=True), "v5p", str(tmp_path))
    assert cost.cycles > floor(cost, "v5p")
