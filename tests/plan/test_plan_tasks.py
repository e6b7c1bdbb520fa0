"""What instructions take, worked by hand on small programs."""

import dataclasses
import itertools

import pytest
from program_texts import CARRIED, SHARD, START, WHOLE, carried_on, cycles, handed, parts_of, program

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan.interconnect import Network, Place
from sc2jax.plan.kernels import KernelCost
from sc2jax.plan.tasks import (
    ATTENTION,
    BACKWARD,
    FORWARD,
    LAYOUT,
    LOSS,
    OTHER,
    PRODUCT,
    UPDATE,
    Speed,
    Timing,
    measured_speed,
    peak_speed,
    rings_of,
)
from sc2jax.plan.tasks import parts_of as parts_of_step
from sc2jax.plan.timeline import Lane

CHIP = GENERATIONS["v5e"]
SPEED = Speed(clock=1e9, product_flops=1e12, bandwidth=1e9)
NETWORK = Network(CHIP, (16, 16), (True, True), [Place(0, chip) for chip in itertools.product(range(16), repeat=2)])
A = "bf16[512,512]{1,0:T(8,128)(2,1)}"
BYTES, FLOPS = 512 * 512 * 2, 2 * 512**3
PRODUCT_TEXT = f"%p = {A} convolution(%a, %a), dim_labels=bf_io->bf"
FORWARD_NAME = 'metadata={op_name="jit(step)/jvp()/while/body/dot_general"}'


def step(*lines: str, cost: KernelCost | None = None, speed: Speed = SPEED, **computations: str):
    body = "\n".join([f"%a = {A} parameter(0)", *lines, f"ROOT %last = {A} bitcast(%a)"])
    found = program(**computations, main=body)

    def cost_of(_: object) -> KernelCost:
        assert cost is not None
        return cost

    return Timing(found, speed, NETWORK, cost_of, parts_of_step(found)).step()


def test_cycles_count_where_they_are_above_the_roofline():
    found = step(f"{PRODUCT_TEXT}, {FORWARD_NAME}" + cycles(3_000_000))
    assert found.seconds == pytest.approx(3e-3)
    assert found.busy == {(Lane.COMPUTE, FORWARD, PRODUCT): pytest.approx(3e-3)}


def test_no_product_is_faster_than_the_peak():
    found = step(PRODUCT_TEXT + cycles(10), speed=Speed(1e9, 1e12, 1e15))
    assert found.seconds == pytest.approx(FLOPS / 1e12)


def test_no_instruction_is_faster_than_its_bytes():
    found = step(f"%n = {A} negate(%a)" + cycles(10))
    assert found.seconds == pytest.approx(2 * BYTES / 1e9)
    assert list(found.busy) == [(Lane.COMPUTE, UPDATE, OTHER)]


def test_layout_copies_are_told_apart():
    found = step(f"%copy.3 = {A} copy(%a)" + cycles(5_000_000))
    assert found.busy == {(Lane.COMPUTE, UPDATE, LAYOUT): pytest.approx(5e-3)}


@pytest.mark.parametrize(
    ("cost", "seconds"),
    [
        (KernelCost(cycles=5_000_000, flops=10, hbm_bytes=10, vmem_bytes=0), 5e-3),
        (KernelCost(cycles=5, flops=7_000_000_000, hbm_bytes=10, vmem_bytes=0), 7e-3),
        (KernelCost(cycles=5, flops=10, hbm_bytes=9_000_000, vmem_bytes=0), 9e-3),
    ],
)
def test_kernels_have_a_roofline_too(cost, seconds):
    found = step(f'%k = {A} custom-call(%a), custom_call_target="tpu_custom_call"', cost=cost)
    assert found.busy == {(Lane.COMPUTE, UPDATE, ATTENTION): pytest.approx(seconds)}


def test_a_loop_s_body_counts_as_often_as_it_turns():
    state = f"(s32[], {A})"
    body = (
        f"%s = {state} parameter(0)\n%i = s32[] get-tuple-element(%s), index=0\n"
        f"%x = {A} get-tuple-element(%s), index=1\n%n = {A} negate(%x)"
        + cycles(4_000_000)
        + "\n%one = s32[] constant(1)\n"
        f"%next = s32[] add(%i, %one)\nROOT %r = {state} tuple(%next, %n)"
    )
    condition = (
        f"%s = {state} parameter(0)\n%i = s32[] get-tuple-element(%s), index=0\n%end = s32[] constant(7)\n"
        "ROOT %c = pred[] compare(%i, %end), direction=LT"
    )
    found = step(
        "%zero = s32[] constant(0)",
        f"%t = {state} tuple(%zero, %a)",
        f"%w = {state} while(%t), condition=%cond, body=%turn",
        turn=body,
        cond=condition,
    )
    assert found.seconds == pytest.approx(7 * 4e-3)
    assert [(loop.times, loop.body.seconds) for loop, _ in found.loops] == [(7, pytest.approx(4e-3))]


GROUP = "replica_groups={{" + ",".join(map(str, range(16))) + "}}"  # along the second axis: a ring of 16
GATHERED = "bf16[8192,512]{1,0:T(8,128)(2,1)}"
RING_SECONDS = 16 * BYTES * 15 / 16 / (2 * 45e9)


def test_collectives_are_on_the_links_and_compute_waits_for_them():
    found = step(f"%g = {GATHERED} all-gather(%a), {GROUP}, dimensions={{0}}")
    assert found.busy == {(Lane.LINKS, UPDATE, "all-gather"): pytest.approx(RING_SECONDS)}
    assert found.waited == {(UPDATE, "all-gather"): pytest.approx(RING_SECONDS)}


def test_an_asynchronous_collective_is_hidden_behind_what_is_between():
    start = f"%s = ({A}, {GATHERED}) all-gather-start(%a), {GROUP}, dimensions={{0}}"
    done = f"%d = {GATHERED} all-gather-done(%s)"
    work = f"%n = {A} negate(%a)" + cycles(50_000_000)
    hidden, exposed = step(start, work, done), step(start, done, work)
    assert hidden.seconds == pytest.approx(50e-3)
    assert exposed.seconds == pytest.approx(50e-3 + RING_SECONDS)
    assert hidden.waited.get((UPDATE, "all-gather"), 0) == 0


def test_of_what_the_compiler_says_nothing_it_is_what_it_says_of_others_among_the_same_devices():
    told = ', backend_config={"collective_algorithm_config":{"emitter":"1DAllGather"}}'
    everyone = "replica_groups={{" + ",".join(map(str, range(256))) + "}}"
    whole = "bf16[131072,512]{1,0:T(8,128)(2,1)}"
    start = f"%s = ({A}, {whole}) all-gather-start(%a), {everyone}, dimensions={{0}}"
    done = f"%d = {whole} all-gather-done(%s)"
    one_ring = 256 * BYTES * 255 / 256 / (2 * 45e9)
    alone = step(start, done)
    beside = step(start, done, f"%g = {whole} all-gather(%a), {everyone}, dimensions={{0}}{told}")
    assert alone.seconds == pytest.approx(one_ring / 2), "both axes of the torus"
    assert beside.seconds == pytest.approx(2 * one_ring)


def test_a_collective_that_fusions_carry_on_goes_on_in_these_alone():
    """Much else is executed between its start and its end, and hides nothing."""
    lines = [
        f"%shard = {SHARD} parameter(0)",
        f"%whole = {WHOLE} parameter(1)",
        START,
        *carried_on("one", "s", 0, 1, 2, 3),
    ]
    lines += [f"%busy = {WHOLE} negate(%whole)" + cycles(9_000_000), *parts_of("one", 1, 2, 4, 5)]
    lines += [
        f"%d = {WHOLE} fusion({handed('one')}), kind=kCustom, calls=%ending",
        f"ROOT %last = {SHARD} bitcast(%shard)",
    ]
    found = program(add="ROOT %a = bf16[] parameter(0)", **CARRIED, main="\n".join(lines))
    assert CHIP.tpu is not None
    slow = dataclasses.replace(CHIP, tpu=dataclasses.replace(CHIP.tpu, link_bandwidth=1e6))
    network = dataclasses.replace(NETWORK, chip=slow)
    step = Timing(found, SPEED, network, lambda _: KernelCost(0, 0, 0, 0), parts_of_step(found)).step()
    gathered = 64 * 128 * 2 * 3 / 4 / 1e6  # along a line of four
    carried = (3 * 64 * 128 * 2 + 16 * 128 * 2) / 1e9
    assert step.busy[(Lane.LINKS, UPDATE, "all-gather")] == pytest.approx(gathered)
    assert step.waited[(UPDATE, "all-gather")] == pytest.approx(gathered - carried, rel=0.01)


@pytest.mark.parametrize(
    ("config", "rings"),
    [
        ('{"emitter":"1DAllGatherNonMajorDimImbalanced","debug":" group_size = 128"}', 1),
        ('{"emitter":"RotatedPincerEmitter","debug":"StrategyND{colors:3 phases:3 cores:{8 4 8}}"}', 3),
        ('{"emitter":"RotatedPincerEmitter","debug":"UniDirection1DRingStrategy{colors:2 phases:1}"}', 1),
        ('{"emitter":"RotatedPincerShortEmitter","debug":"\\nStrategyRing{colors:1 phases:1}"}', 1),
        ('{"emitter":"SinglePhaseRingSumEmitter"}', 0),
    ],
)
def test_rings_are_what_the_compiler_calls_its_strategy(config, rings):
    text = f'%g = {GATHERED} all-gather(%a), {GROUP}, backend_config={{"collective_algorithm_config":{config}}}'
    found = program(main=f"%a = {A} parameter(0)\n{text}\nROOT %last = {A} bitcast(%a)")
    assert rings_of(found.entry.instructions[1]) == rings


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("jit(step)/transpose(jvp())/while/body/closed_call/checkpoint/dot_general", BACKWARD),
        ("jit(step)/transpose(jvp())/while/body/checkpoint/rematted_computation/add", BACKWARD),
        ("jit(step)/jvp()/while/body/closed_call/dot_general", FORWARD),
        ("jit(step)/jvp()/while/body/closed_call/shard_map/window_attention_forward/pallas_call", FORWARD),
        ("jit(step)/jvp()/gather", FORWARD),
        ("jit(step)/jvp()/shard_map/cond/branch_1_fun/while/body/closed_call/sub", LOSS),
        ("jit(step)/mul", UPDATE),
        ("", UPDATE),
        ("reduce_sum", UPDATE),
    ],
)
def test_parts_of_a_step_by_the_path_of_transformations(path, part):
    found = program(main=f'ROOT %n = {A} negate(%n), metadata={{op_name="{path}"}}')
    assert parts_of_step(found)(found.entry.root) == part


def test_what_has_no_name_belongs_to_what_is_around_it():
    lines = [f"%b{number} = {A} negate(%a), {FORWARD_NAME}" for number in range(2)]
    lines += [f'%u = {A} negate(%a), metadata={{op_name="jit(step)/mul"}}', f"%n = {A} negate(%a)"]
    found = program(main="\n".join([f"%a = {A} parameter(0)", *lines, f"ROOT %last = {A} bitcast(%a)"]))
    part_of = parts_of_step(found)
    assert [part_of(each) for each in found.entry.instructions[1:5]] == [FORWARD, FORWARD, UPDATE, FORWARD]


def test_speeds_are_the_chip_s():
    tpu = CHIP.tpu
    assert tpu is not None
    assert peak_speed(CHIP, tpu) == Speed(1.5e9, 197e12, 819e9)
    capped = measured_speed(CHIP, tpu)
    assert capped.clock == 1.5e9
    assert 0.8 * 197e12 < capped.product_flops < 197e12
    assert 0.8 * 819e9 < capped.bandwidth < 819e9


def test_an_exchange_between_slices_takes_from_its_send_to_the_end_of_its_receive():
    """What is received has an instruction of its own, which stands between them and waits for nothing."""
    host = 'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"%s}'
    meeting = host % ',_xla_host_transfer_rendezvous="r",_xla_megascale_transfer_type="ALL_REDUCE"'
    found = step(
        "%token = token[] after-all()",
        f"%s = ({A}, u32[], token[]) send(%a, %token), channel_id=1, {meeting}",
        f"%r = ({A}, u32[], token[]) recv(%token), channel_id=2, {meeting}",
        PRODUCT_TEXT + cycles(1_000_000),
        f"%sent = token[] send-done(%s), {host % ''}",
        f"%received = ({A}, token[]) recv-done(%r), {host % ''}",
        speed=dataclasses.replace(SPEED, bandwidth=1e12),
    )
    seconds = NETWORK.between_slices_seconds(BYTES)
    assert found.busy[Lane.LINKS, UPDATE, "all-reduce"] == pytest.approx(seconds)
    assert found.seconds == pytest.approx(max(seconds, 1e-3))
