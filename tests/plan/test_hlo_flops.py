"""Operations of products: by brute force over every place of a window, by the compiler's own count, and by hand."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from program_texts import program

from sc2jax.plan.hlo import read_program
from sc2jax.plan.hlo_flops import flops_of
from sc2jax.plan.hlo_text import ProgramTextError


def root_flops(line: str, left: str, right: str = "f32[1]", **more: str) -> int:
    found = program(main=f"%l = {left} parameter(0)\n%r = {right} parameter(1)\nROOT %u = {line}", **more)
    return flops_of(found, found.entry.root)


def convolution(result: str, left: str, right: str, attributes: str) -> int:
    return root_flops(f"{result} convolution(%l, %r), {attributes}", left, right)


def test_a_matrix_product():
    assert convolution("bf16[8,32]", "bf16[8,16]", "bf16[16,32]", "dim_labels=bf_io->bf") == 2 * 8 * 16 * 32
    assert convolution("bf16[8,32]", "bf16[16,8]", "bf16[32,16]", "dim_labels=fb_oi->bf") == 2 * 8 * 16 * 32


def test_a_product_summed_over_two_dimensions():
    """As in a gradient: the second summed dimension is a window over the whole of it."""
    found = convolution("bf16[24,6,1]", "bf16[2,8,24]", "bf16[2,8,6]", "window={size=2}, dim_labels=0fb_0io->bf0")
    assert found == 2 * 2 * 8 * 24 * 6


def test_heads_as_outputs_of_a_window_over_padding():
    """Each of 48 outputs meets one place that is inside; the other 47 are padding."""
    attributes = "window={size=1x48 pad=0_0x47_47 rhs_reversal=0x1}, dim_labels=0bf1_1oi0->0b1f"
    found = convolution("bf16[2,64,48,128]", "bf16[2,64,256,1]", "bf16[48,128,256,1]", attributes)
    assert found == 2 * (2 * 64) * 256 * (48 * 128)


paddings = st.integers(-2, 5)


@given(
    st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), paddings, paddings, st.integers(1, 4), st.integers(1, 3)
)
def test_places_of_a_window_by_brute_force(length, size, stride, low, high, dilation, step):
    outputs = ((length - 1) * dilation + 1 + low + high - ((size - 1) * step + 1)) // stride + 1
    assume(outputs > 0)
    inside = set(range(0, (length - 1) * dilation + 1, dilation))
    places = itertools.product(range(outputs), range(size))
    met = sum(output * stride + place * step - low in inside for output, place in places)
    window = f"size={size} stride={stride} pad={low}_{high} lhs_dilate={dilation} rhs_dilate={step}"
    found = convolution(
        f"f32[3,{outputs},7]", f"f32[3,{length},5]", f"f32[{size},5,7]", f"window={{{window}}}, dim_labels=b0f_0io->b0f"
    )
    assert found == 2 * 3 * 5 * 7 * met


def test_groups_of_features_and_of_the_batch():
    """Four groups of features: each output is a sum over 2 of the 8. Three of the batch: each takes 2 of the 6."""
    features = convolution("f32[6,12]", "f32[6,8]", "f32[2,12]", "dim_labels=bf_io->bf, feature_group_count=4")
    assert features == 2 * 6 * 2 * 12
    batch = convolution("f32[2,12]", "f32[6,8]", "f32[8,12]", "dim_labels=bf_io->bf, batch_group_count=3")
    assert batch == 2 * 2 * 8 * 12


def test_dot():
    dimensions = "lhs_batch_dims={0}, lhs_contracting_dims={1,3}, rhs_batch_dims={0}, rhs_contracting_dims={1,2}"
    line = f"f32[3,5,7] dot(%l, %r), {dimensions}"
    assert root_flops(line, "f32[3,4,5,6]", "f32[3,4,6,7]") == 2 * (3 * 5 * 7) * (4 * 6)


PRODUCT = """%x = f32[4,8] parameter(0)
    %w = f32[8,8] parameter(1)
    ROOT %c = f32[4,8] convolution(%x, %w), dim_labels=bf_io->bf"""


def test_products_inside_of_fusions_and_of_what_these_call():
    found = root_flops(
        "f32[4,8] fusion(%l, %r), kind=kOutput, calls=%outer",
        "f32[4,8]",
        "f32[8,8]",
        inner=PRODUCT,
        outer="""%x = f32[4,8] parameter(0)
        %w = f32[8,8] parameter(1)
        %once = f32[4,8] fusion(%x, %w), kind=kOutput, calls=%inner
        ROOT %again = f32[4,8] convolution(%once, %w), dim_labels=bf_io->bf""",
    )
    assert found == 2 * (2 * 4 * 8 * 8)


def test_a_loop_counts_its_turns_and_what_is_no_product_nothing(tpu_programs):
    found = read_program(tpu_programs["layers"]["text"])
    (loop,) = (each for each in found.entry.instructions if each.opcode == "while")
    assert flops_of(found, loop) == 5 * 2 * 256 * 128 * 128
    assert sum(times * flops_of(found, each) for each, times in found.executions()) == flops_of(found, loop)
    assert flops_of(found, found.entry.root) == 0


def test_products_are_counted_as_the_compiler_does(tpu_programs):
    """Nothing else in these programs computes, so that its count is of the products alone."""
    counted = {name: compiled for name, compiled in tpu_programs.items() if name.startswith("product: ")}
    assert len(counted) > 8
    for name, compiled in counted.items():
        found = read_program(compiled["text"])
        assert sum(times * flops_of(found, each) for each, times in found.executions()) == compiled["flops"] > 0, name


def test_products_of_einsums_by_hand(tpu_programs):
    by_hand = {
        "matrices": 2 * 384 * 256 * 640,
        "batch": 2 * 3 * 128 * 256 * 384,
        "attention's output": 2 * (2 * 128) * (4 * 128) * 256,
        "weight gradient": 2 * (2 * 128) * 256 * (4 * 128),
    }
    for name, expected in by_hand.items():
        found = read_program(tpu_programs[f"product: {name}"]["text"])
        assert sum(times * flops_of(found, each) for each, times in found.executions()) == expected, name


def test_a_sharded_gradient(tpu_programs):
    """Each of four devices computes forward and the weight's gradient for 256 rows; the input has no gradient."""
    found = read_program(tpu_programs["sharded"]["text"])
    assert sum(times * flops_of(found, each) for each, times in found.executions()) == 2 * (2 * 256 * 512 * 512)


@pytest.mark.parametrize(
    "line",
    [
        'f32[8] custom-call(%l), custom_call_target="tpu_custom_call"',
        "f32[8] fft(%l), fft_type=FFT",
        "f32[8,8] convolution(%l, %r), dim_labels=bf_io",
        "f32[8,8] convolution(%l, %r), window={size=2}, dim_labels=bf_io->bf",
        "f32[8,8] convolution(%l, %r), window={sizes=2}, dim_labels=bf_io->bf",
        "f32[8,8,1] convolution(%l, %r), window={size=3}, dim_labels=bf0_io0->bf0",
    ],
)
def test_products_that_are_not_understood_are_errors(line):
    three = "f32[8,8,2]" if "bf0" in line else "f32[8,8]"
    with pytest.raises(ProgramTextError, match=r"line \d+, [\w-]+ %u of %main"):
        root_flops(line, three, three)
