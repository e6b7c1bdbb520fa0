"""Which call an instruction of a program is, and what a call's grid does, against masks that are written out."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from sc2jax.kernels.window_plan import WindowPlan
from sc2jax.model.config import ModelConfig
from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan import kernel_splash, kernel_window
from sc2jax.plan.kernel_call import KernelCall, SplashSettings, UnknownKernelError
from sc2jax.plan.kernel_launch import Attention, Launch
from sc2jax.plan.kernel_schedule import Branch
from sc2jax.plan.kernels import kernel_call

BASE_15B = ModelConfig(embed_dim=6144, num_heads=48, num_kv_heads=4, context_length=4096)


@dataclasses.dataclass(frozen=True)
class Shaped:
    element_type: str
    shape: tuple[int, ...]


def arrays(text: str) -> list[Shaped]:
    """As a program writes them: "bf16[2,4096] s32[]"."""
    parts = (word.rstrip("]").split("[") for word in text.split())
    return [Shaped(kind, tuple(int(size) for size in sizes.split(",") if size)) for kind, sizes in parts]


BOUNDS = "s32[2,4] s32[2,4] "
TENSORS = "bf16[2,4096,6144] bf16[2,4096,512] bf16[2,4096,512] "
ANGLES, IDS = "f32[2,4096,128] ", "f32[2,4,8,128] "
BACKWARD = BOUNDS + TENSORS + "bf16[2,4096,6144] bf16[2,4096,6144] f32[2,48,4,8,128] " + 2 * ANGLES + IDS
RESULTS, GRADIENTS = "bf16[2,4096,6144] f32[2,48,4,8,128]", "bf16[2,4096,6144] bf16[2,4096,512] bf16[2,4096,512]"
"""Of a step of the 15B model, two rows of 4096 tokens a device, compiled for v5p."""

SPLASH_FORWARD = "s8[1,1,1] s8[1,1,1] bf16[2,4,512,128] bf16[2,2,512,128] bf16[2,2,512,128] s32[512,128]"
SPLASH_SEGMENTED = SPLASH_FORWARD.replace(" s32[512,128]", " s32[2,512,128] s32[2,8,512] s32[512,128]")
SPLASH_RESULTS = "f32[2,512,128] f32[2,512,128] f32[2,512,128] bf16[2,4,512,128] f32[2,4,512,128]"
SPLASH_BACKWARD = SPLASH_FORWARD.replace("s32[512,128]", "f32[2,4,8,512] bf16[2,4,512,128] f32[2,4,8,512] s32[8,512]")
SPLASH_GRADIENTS = "f32[2,512,128] f32[2,512,128] bf16[2,1,4,512,128] bf16[2,2,512,128] bf16[2,2,512,128]"


def noted(**sizes: int) -> str:
    """As splash attention notes them, and programs quote them."""
    numbers = ", ".join(f'\\"{name}\\": {size}' for name, size in sizes.items())
    return f'{{kernel_metadata={{\n"xprof_metadata":"{{{numbers}, \\"block_q_dq\\": null}}"\n}}}}'


LAYOUTS = {"q_layout": 1, "k_layout": 1, "v_layout": 1}
FORWARD_NOTE = noted(block_q=512, block_kv=512, block_kv_compute=256, **LAYOUTS)
BACKWARD_NOTE = noted(block_q_dkv=512, block_kv_dkv=512, block_kv_dkv_compute=512, **LAYOUTS)
SPLASH_MODEL = ModelConfig(window=256)


def test_our_kernels_are_known_by_their_operands_in_a_step():
    rows = Attention(48, 4, queries=4096, keys=4096, window=4096, head_size=128, rows=2)
    forward, results = arrays(BOUNDS + TENSORS + ANGLES + IDS), arrays(RESULTS)
    call = kernel_call("window_attention_forward.3", forward, results, BASE_15B)
    assert call == KernelCall("window_attention_forward", rows, segmented=True, rotates=True)
    call = kernel_call("window_attention_backward.1.clone", arrays(BACKWARD), arrays(GRADIENTS), BASE_15B)
    assert call == KernelCall("window_attention_backward", rows, segmented=True, rotates=True)
    plain = kernel_call("window_attention_forward", arrays(TENSORS), results, BASE_15B)
    assert plain == KernelCall("window_attention_forward", rows, segmented=False, rotates=False)


def test_gradients_of_a_single_head_are_not_taken_for_angles():
    """They have the same shape, and in float32 the same type."""
    head, number = "f32[1,256,128] ", "f32[1,1,1,2,128] "
    model = ModelConfig(embed_dim=128, num_heads=1, num_kv_heads=1, window=300)
    for rotates in (False, True):
        operands = arrays(5 * head + number + 2 * rotates * head)
        assert kernel_call("window_attention_backward.1", operands, arrays(3 * head), model).rotates == rotates
    with pytest.raises(UnknownKernelError):
        kernel_call("window_attention_backward.1", arrays(5 * head + number + head), arrays(3 * head), model)


def test_keys_before_the_queries_narrow_heads_and_types_are_read_too():
    operands = arrays("f32[1,256,512] f32[1,640,256] f32[1,640,256]")
    model = ModelConfig(embed_dim=256, num_heads=4, num_kv_heads=2, window=300)
    call = kernel_call("window_attention_forward.1", operands, arrays("f32[1,256,512] f32[1,4,2,1,128]"), model)
    assert call.attention == Attention(4, 2, queries=256, keys=640, window=300, head_size=64, rows=1, dtype="float32")


def test_splash_attention_is_known_by_its_name_shapes_and_notes():
    rows = Attention(4, 2, queries=512, keys=512, window=256, head_size=128, rows=2)
    forward = kernel_call(
        "splash_mha_fwd_residuals.1", arrays(SPLASH_FORWARD), arrays(SPLASH_RESULTS), SPLASH_MODEL, FORWARD_NOTE
    )
    assert forward == KernelCall("splash_mha_fwd_residuals", rows, False, splash=SplashSettings(512, 512, 256))
    name = "splash_mha_fwd_segmented_residuals"
    segmented = kernel_call(name, arrays(SPLASH_SEGMENTED), arrays(SPLASH_RESULTS), SPLASH_MODEL, FORWARD_NOTE)
    assert segmented == KernelCall(name, rows, True, splash=SplashSettings(512, 512, 256))
    name = "splash_mha_dkv_no_residuals"
    fused = kernel_call(name, arrays(SPLASH_BACKWARD), arrays(SPLASH_GRADIENTS), SPLASH_MODEL, BACKWARD_NOTE)
    assert fused == KernelCall(name, rows, False, splash=SplashSettings(512, 512, 512, fused=True))
    apart = arrays(SPLASH_GRADIENTS.replace("bf16[2,1,4,512,128] ", ""))
    split = kernel_call(name, arrays(SPLASH_BACKWARD), apart, SPLASH_MODEL, BACKWARD_NOTE)
    assert split.splash == SplashSettings(512, 512, 512, fused=False)
    in_parts = arrays("f32[2,512,128] " + SPLASH_GRADIENTS)  # the sum of a query block's gradients over the parts
    note = BACKWARD_NOTE.replace('compute\\": 512', 'compute\\": 256')
    parts = kernel_call(name, arrays(SPLASH_BACKWARD), in_parts, SPLASH_MODEL, note)
    assert parts.splash == SplashSettings(512, 512, 256, fused=True)


@pytest.mark.parametrize("fused", [True, False])
def test_splash_attention_over_a_single_row_has_no_dimension_for_it(fused: bool):
    gradients = SPLASH_GRADIENTS if fused else SPLASH_GRADIENTS.replace("bf16[2,1,4,512,128] ", "")
    operands, results = (arrays(text.replace("[2,", "[")) for text in (SPLASH_BACKWARD, gradients))
    call = kernel_call("splash_mha_dkv_no_residuals.4", operands, results, SPLASH_MODEL, BACKWARD_NOTE)
    assert call.attention == Attention(4, 2, queries=512, keys=512, window=256, head_size=128, rows=1)
    assert call.splash == SplashSettings(512, 512, 512, fused=fused)


@pytest.mark.parametrize(
    ("name", "operands", "results", "note", "says"),
    [
        ("decode_attention.7", "bf16[8,48,128]", "", "", "known are window_attention_forward"),
        ("splash_mqa_fwd_residuals", SPLASH_FORWARD, SPLASH_RESULTS, FORWARD_NOTE, "make_splash_mha"),
        ("window_attention_forward.1", TENSORS.replace("512] bf16", "256] bf16"), RESULTS, "", "would have"),
        ("window_attention_backward.1", BACKWARD.replace("48,4,8", "48,8,4"), GRADIENTS, "", "would have"),
        ("window_attention_backward.1", BACKWARD.replace(IDS, ""), GRADIENTS, "", "would have"),
        ("splash_mha_fwd_residuals", SPLASH_FORWARD, SPLASH_RESULTS, BACKWARD_NOTE, "nothing of block_q"),
        (
            "splash_mha_fwd_residuals",
            SPLASH_FORWARD,
            SPLASH_RESULTS,
            FORWARD_NOTE.replace('k_layout\\": 1', 'k_layout\\": 2'),
            "last dimension",
        ),
        ("splash_mha_fwd_residuals", SPLASH_FORWARD + " f32[8,4]", SPLASH_RESULTS, FORWARD_NOTE, "7 operands"),
        ("splash_mha_fwd_residuals", SPLASH_FORWARD, "f32[2,512,128]", FORWARD_NOTE, "1 results"),
        ("splash_mha_fwd_residuals", SPLASH_FORWARD.replace("[2,4,", "["), SPLASH_RESULTS, FORWARD_NOTE, "rows, heads"),
        (
            "splash_mha_fwd_residuals",
            SPLASH_FORWARD.replace("s8[1,1,1]", "s8[1,2,2]"),
            SPLASH_RESULTS,
            FORWARD_NOTE,
            r"\(1, 1\)",
        ),
    ],
)
def test_a_call_that_is_not_described_is_refused_by_name(name: str, operands: str, results: str, note: str, says: str):
    with pytest.raises(UnknownKernelError, match=rf"{name}\(.*{says}"):
        kernel_call(name, arrays(operands), arrays(results), SPLASH_MODEL if "splash" in name else BASE_15B, note)


SHAPES = [
    Attention(6, 3, queries=16, keys=16, window=5, head_size=8),
    Attention(2, 1, queries=8, keys=24, window=9, head_size=8, rows=3),
    Attention(2, 2, queries=16, keys=16, window=0, head_size=8),
    Attention(2, 2, queries=8, keys=16, window=40, head_size=8, rows=2),
]


def mask(shape: Attention) -> np.ndarray:
    """(T, S): which keys a query sees, pair by pair."""
    seen = np.zeros((shape.queries, shape.keys), bool)
    for query in range(shape.queries):
        for key in range(shape.keys):
            distance = shape.keys - shape.queries + query - key
            seen[query, key] = distance >= 0 and (shape.window == 0 or distance < shape.window)
    return seen


def blocks(seen: np.ndarray, size_q: int, size_kv: int) -> np.ndarray:
    """(T / size_q, S / size_kv): the mean of a block, 0 without a visible pair and 1 where all are."""
    return seen.reshape(seen.shape[0] // size_q, size_q, seen.shape[1] // size_kv, size_kv).mean((1, 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_visible_pairs_and_blocks_are_those_of_the_mask(shape: Attention):
    seen, heads = mask(shape), shape.rows * shape.query_heads
    assert shape.visible_pairs == heads * seen.sum()
    assert shape.blocks_needed(4, 8) == heads * (blocks(seen, 4, 8) > 0).sum()
    assert shape.blocks_needed(8, 4) == heads * (blocks(seen, 8, 4) > 0).sum()


PLANNED = [
    (Attention(4, 2, queries=512, keys=512, window=256, head_size=128), 128),
    (Attention(4, 2, queries=512, keys=512, window=300, head_size=128, rows=2), 128),
    (Attention(4, 1, queries=256, keys=768, window=400, head_size=128), 128),
    (Attention(4, 4, queries=512, keys=512, window=0, head_size=128), 128),
    (Attention(4, 4, queries=256, keys=256, window=64, head_size=128), 256),
]


@pytest.mark.parametrize(("shape", "block"), PLANNED)
@pytest.mark.parametrize("segmented", [False, True])
def test_branches_of_our_kernels_run_as_often_as_the_mask_has_such_blocks(
    shape: Attention, block: int, segmented: bool
):
    plan = WindowPlan(block, shape.keys // block, shape.queries // block, shape.window)
    heads, seen = shape.rows * shape.query_heads, blocks(mask(shape), block, block)
    distances = plan.offset + np.arange(len(seen))[:, None] - np.arange(seen.shape[1])
    for describe in (kernel_window.forward_call, kernel_window.backward_call):
        launch = describe(shape, plan, rotates=True, segmented=segmented).launches[0]
        times = {branch.name: branch.times for branch in launch.branches}
        visits = times["full blocks"] if plan.full else 0
        assert visits == heads * ((seen == 1) & (distances > 0) & (distances <= plan.full)).sum()
        assert times["query block"] == heads * len(seen)
        edges = {name: count for name, count in times.items() if name.startswith("edge") and "segments" not in name}
        assert sum(edges.values()) == heads * ((seen > 0) & (distances > plan.full)).sum()
        assert visits + sum(edges.values()) + heads * len(seen) == heads * (seen > 0).sum()
        assert times["fill"] == shape.rows * shape.kv_heads * plan.key_blocks
        if segmented:  # a row of one segment compares nothing
            assert {times[name] for name in times if name.endswith("segments")} == {0}


def copies(launch: Launch, number: int) -> list[tuple[int, ...]]:
    """The blocks that an operand's window is at, one after the other without repetition."""
    steps = math.prod(launch.grid)
    index = list(zip(*(np.broadcast_to(part, steps).tolist() for part in launch.operands[number]), strict=True))
    return [one for one, before in zip(index, [None, *index[:-1]], strict=True) if one != before]


@pytest.mark.parametrize(("shape", "block"), PLANNED)
def test_our_kernels_move_each_block_of_queries_and_of_keys_once(shape: Attention, block: int):
    plan = WindowPlan(block, shape.keys // block, shape.queries // block, shape.window)
    queries = shape.rows * shape.query_heads * plan.query_blocks
    keys = shape.rows * shape.kv_heads * plan.key_blocks
    for describe, by_query, by_key in (
        (kernel_window.forward_call, [2, 7, 8], [3, 4]),
        (kernel_window.backward_call, [2, 5, 6, 7, 11], [3, 4, 12, 13]),
    ):
        launch = describe(shape, plan, rotates=True, segmented=True).launches[0]
        for operands, number in ((by_query, queries), (by_key, keys)):
            for operand in operands:
                moved = copies(launch, operand)
                assert len(moved) == len(set(moved)) == number, (describe, operand)


@pytest.mark.parametrize("segmented", [False, True])
def test_splash_runs_a_block_for_each_that_holds_a_visible_pair(segmented: bool):
    shape = Attention(4, 2, queries=512, keys=512, window=200, head_size=128, rows=3)
    seen, heads = blocks(mask(shape), 128, 256), 3 * 4
    settings = SplashSettings(128, 256, 128, fused=True)
    calls = [
        kernel_splash.forward_call(shape, settings, segmented, saves=True),
        kernel_splash.backward_call(shape, settings, segmented),
        kernel_splash.backward_call(shape, dataclasses.replace(settings, fused=False), segmented),
    ]
    launches = [launch for call in calls for launch in call.launches]
    assert [launch.flops / launch.visible_flops for launch in launches] == pytest.approx(
        [heads * (seen > 0).sum() * 128 * 256 / shape.visible_pairs] * 4
    )
    assert [launch.visible_flops for launch in launches] == [
        products * 2 * 128 * heads * mask(shape).sum() for products in (2, 5, 4, 3)
    ]
    for launch in launches:
        times = {branch.name: branch.times for branch in launch.branches}
        assert times["block"] == heads * (seen > 0).sum()
        ends = 3 * 2 * 2 if "dkv" in launch.kernel else heads * 4  # a key block of a kv head; a query block of a head
        assert times["first"] == times["last"] == ends


@pytest.mark.parametrize(
    ("grid", "parallel", "steps"),
    [((3, 3, 4), 2, 20), ((1, 3, 4), 2, 8), ((1, 1, 4), 2, 4), ((5, 3, 4), 2, 32), ((3, 2, 4), 1, 16), ((2, 6), 0, 12)],
)
def test_the_parallel_part_of_a_grid_is_halved(grid: Sequence[int], parallel: int, steps: int):
    """As the compiler's own loops turn on v5p: their ends were 22, 10, 6 and 34, with two of the pipeline."""

    class Listing:
        tpu = GENERATIONS["v5p"].tpu

        def schedule(self, steps, branches, flops, copies):
            return {"steps": steps, "branch": branches[0].times, "flops": flops, "copies": copies[2]}

    whole = math.prod(grid)
    moving = (np.arange(whole),)
    launch = Launch("kernel", tuple(grid), parallel, [Branch("branch", 2 * whole)], {2: moving}, {}, 3 * whole, 0)
    found = launch.schedule(Listing())  # pyright: ignore[reportArgumentType]
    assert found == {"steps": steps, "branch": 2 * steps, "flops": 3 * steps, "copies": steps}
