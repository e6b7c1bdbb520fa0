"""The text of an optimized program: arrays in memory, instructions with all that they say, and errors."""

import json

import pytest
from program_texts import HEADER, cycles, program_text

from sc2jax.plan.hlo_text import Array, MemorySpace, ProgramTextError, read_computations


def read(*lines: str):
    """The instructions of a text's one computation by name."""
    (computation,) = read_computations(program_text(main="\n".join(lines)))
    return computation.by_name


def array(text: str) -> Array:
    (found,) = read(f"ROOT %p = {text} parameter(0)")["p"].results
    return found


@pytest.mark.parametrize(
    ("text", "plain", "padded"),
    [
        ("f32[]", 4, 4),
        ("f32[]{:T(128)}", 4, 4 * 128),
        ("bf16[6144]{0:T(1024)(128)(2,1)}", 2 * 6144, 2 * 6144),
        ("bf16[6145]{0:T(1024)(128)(2,1)}", 2 * 6145, 2 * 7 * 1024),
        ("bf16[4,24576,48]{1,2,0:T(8,128)(2,1)}", 2 * 4 * 24576 * 48, 2 * 4 * 24576 * 48),
        ("bf16[4,24576,48]{2,1,0:T(8,128)(2,1)}", 2 * 4 * 24576 * 48, 2 * 4 * 24576 * 128),
        ("f32[4,48]{1,0:T(4,128)}", 4 * 4 * 48, 4 * 4 * 128),
        ("pred[3,5]{0,1:T(4,128)(4,1)}", 15, 8 * 128),
        ("s4[3,5]{1,0:E(4)}", 8, 8),
        ("token[]", 0, 0),
    ],
)
def test_bytes_with_and_without_whole_tiles(text, plain, padded):
    found = array(text)
    assert (found.bytes, found.padded_bytes) == (plain, padded)


def test_memory_spaces():
    spaces = {"": "HBM", "T(8,128)": "HBM", "S(1)": "VMEM", "T(8,128)S(5)": "HOST", "S(2)": "SEMAPHORE", "S(4)": "SMEM"}
    spaces["T(1,128)S(1)SC(1:8192)"] = "VMEM"
    for layout, name in spaces.items():
        assert array(f"f32[8,128]{{1,0:{layout}}}" if layout else "f32[8,128]{1,0}").space is MemorySpace[name]


@pytest.mark.parametrize("text", ["f33[8]", "f32[8]{0:S(3)}", "f32[8]{0:Q(3)}", "f32[8]{1}", "f32[<=8]"])
def test_arrays_that_are_not_understood_are_errors_with_their_line(text):
    with pytest.raises(ProgramTextError, match=rf"line {HEADER.count(chr(10)) + 2}: .*p = "):
        array(text)


def test_padding_is_the_compilers(tpu_programs):
    """The compiler's own size of the arguments, some of odd shapes, as it allocates them."""
    for name, compiled in tpu_programs.items():
        entry = next(each for each in read_computations(compiled["text"]) if each.is_entry)
        padded = sum(array.padded_bytes for each in entry.parameters for array in each.results)
        assert padded == compiled["argument_bytes"], name


def test_instruction():
    line = (
        "ROOT %f.1 = (f32[8]{0:S(1)}, (bf16[2]{0}, /*index=2*/u32[]{:S(2)})) fusion(%a, %b, /*index=2*/%a), "
        "kind=kLoop, calls=%inner.2, dimensions={0,2}, channel_id=7, "
        "replica_groups=mesh['x'=2,'y'=1], device_ids=([2]) {'x'}, "
        "metadata={op_name=\"jit(f)/state[\\'w\\']/dot\" stack_frame_id=3}" + cycles(123)
    )
    found = read("%a = f32[8]{0} parameter(0)", "%b = f32[8]{0} parameter(1)", line)["f.1"]
    assert (found.name, found.opcode, found.operands, found.is_root) == ("f.1", "fusion", ("a", "b", "a"), True)
    assert [each.space.name for each in found.results] == ["VMEM", "HBM", "SEMAPHORE"]
    assert [each.element_type for each in found.results] == ["f32", "bf16", "u32"]
    assert isinstance(found.result, tuple) and isinstance(found.result[1], tuple)
    assert found.called == {"calls": ("inner.2",)}
    assert (found.estimated_cycles, found.channel_id, found.dimensions) == (123, 7, (0, 2))
    assert found.replica_groups == ((0, 1),)
    assert found.op_name == "jit(f)/state['w']/dot"
    assert found.attributes["kind"] == "kLoop"
    assert found.line == HEADER.count("\n") + 4


def test_what_an_instruction_does_not_have():
    found = read("ROOT %c = f32[2,2]{1,0} constant({ { 1, 2 }, { 3, 4 } })")["c"]
    assert (found.argument, found.operands) == ("{ { 1, 2 }, { 3, 4 } }", ())
    assert (found.estimated_cycles, found.custom_call_target, found.channel_id, found.index) == (None, None, None, None)
    assert (found.op_name, found.called, found.dimensions) == ("", {}, ())
    assert (found.replica_groups, found.source_target_pairs) == ((), ())


def test_roles_of_called_computations():
    found = read(
        "%p = (s32[]) parameter(0)",
        "%w = (s32[]) while(%p), condition=%c.1, body=%b.1",
        "ROOT %x = (s32[]) conditional(%p), branch_computations={%one, %two.clone}",
    )
    assert found["w"].called == {"condition": ("c.1",), "body": ("b.1",)}
    assert found["x"].called == {"branch_computations": ("one", "two.clone")}


def test_metadata_of_a_kernel_over_several_lines(tpu_programs):
    """It holds what looks like the end of a computation, and like an instruction."""
    computations = read_computations(tpu_programs["kernel"]["text"])
    entry = next(each for each in computations if each.is_entry)
    kernel = next(each for each in entry.instructions if each.custom_call_target == "tpu_custom_call")
    assert '"a":"}}\\n%x = f32[] "' in kernel.attributes["frontend_attributes"]
    assert kernel.op_name.endswith("pallas_call")
    assert kernel.backend_config["custom_call_config"]["body"]
    assert kernel.operands == (entry.parameters[0].name,)
    assert entry.operands(entry.root)[0] is kernel


def test_every_line_that_defines_something_is_read(tpu_programs):
    for name, compiled in tpu_programs.items():
        computations = read_computations(compiled["text"])
        defined = sum(line.startswith(("  %", "  ROOT %")) for line in compiled["text"].split("\n"))
        assert sum(len(each.instructions) for each in computations) == defined, name
        assert compiled["text"].count("\n%") + 1 == len(computations)
        cycles = compiled["text"].count('"estimated_cycles":')
        assert sum(i.estimated_cycles is not None for each in computations for i in each.instructions) == cycles


def test_program_of_the_cpu():
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(lambda x: jnp.sin(x) @ x).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32)).compile()
    text = compiled.as_text()
    assert text
    entry = next(each for each in read_computations(text) if each.is_entry)
    assert [array.shape for array in entry.root.results] == [(8, 8)]
    assert [array.padded_bytes for array in entry.parameters[0].results] == [4 * 8 * 8]


def test_computation():
    (found,) = read_computations(
        program_text(
            main="""%one = f32[] parameter(1)
            %zero = f32[] parameter(0)
            %sum = f32[] add(%zero, %zero)
            ROOT %all = f32[] add(%sum, %one)"""
        )
    )
    assert found.is_entry and found.root.name == "all"
    assert [each.name for each in found.parameters] == ["zero", "one"]
    assert [each.name for each in found.operands(found.root)] == ["sum", "one"]
    assert {name: [each.name for each in users] for name, users in found.users.items()} == {
        "one": ["all"],
        "zero": ["sum"],
        "sum": ["all"],
        "all": [],
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no scheduled HloModule"),
        ("HloModule jit_f, entry_computation_layout={}\n", "no scheduled HloModule"),
        (HEADER, "no computation"),
        (program_text(main="ROOT %a = f32[] parameter(0)").removesuffix("}\n"), "ends inside %main"),
        (program_text(main="%a = f32[] parameter(0)"), "not one ROOT"),
        (program_text(main="%a = f32[] parameter(0)\nROOT %a = f32[] parameter(1)"), "one name twice"),
        (program_text(main="ROOT %a = f32[] negate(%b)"), "reads %b, which is not there"),
        (program_text(main="ROOT %a = f32[] negate(f32[] %b)"), "operands that are not names"),
        (program_text(main="ROOT %a = f32[] negate(%a"), r"no '\)'"),
        (program_text(main="ROOT %a = f32[] negate(%a), kind=(]"), "brackets that do not match"),
        (program_text(main="ROOT %a = f32[] negate(%a) kind"), "not understood"),
        (program_text(main="what is this\nROOT %a = f32[] parameter(0)"), "no instruction"),
    ],
)
def test_texts_that_are_not_understood_are_errors(text, what):
    with pytest.raises(ProgramTextError, match=what):
        read_computations(text)


def test_errors_of_an_instruction_name_it_with_line_and_text():
    (found,) = read('ROOT %a.1 = f32[] parameter(0), replica_groups=?, backend_config={"a":}').values()
    for attribute in ("replica_groups", "backend_config"):
        with pytest.raises(ProgramTextError, match=r"line \d+, parameter %a.1 of %main: .*ROOT %a.1 = f32"):
            getattr(found, attribute)


def test_backend_config_may_be_a_string():
    (found,) = read(f"ROOT %a = f32[] parameter(0), backend_config={json.dumps(json.dumps({'n': 1}))}").values()
    assert found.backend_config == {"n": 1}


def test_frontend_attribute():
    (found,) = read('ROOT %a = f32[] parameter(0), frontend_attributes={x_name="no",name="yes"}').values()
    assert found.frontend_attribute("name") == "yes"
    assert found.frontend_attribute("other") is None
