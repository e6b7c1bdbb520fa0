"""Texts of programs in the TPU compiler's form, from the lines of their computations."""

from sc2jax.plan.hlo import Program, read_program

HEADER = 'HloModule jit_step, is_scheduled=true, entry_computation_layout={()->f32[]}\n\nFileNames\n1 "a.py"\n\n'


def cycles(number: int) -> str:
    """The end of an instruction for which the compiler estimates cycles."""
    return f', backend_config={{"window_config":{{"estimated_cycles":"{number}"}}}}'


def program_text(**computations: str) -> str:
    """A text of computations by name, `main` being the entry; two blanks before each line are added."""
    parts = []
    for name, body in computations.items():
        lines = "\n".join(f"  {line.strip()}" for line in body.strip().split("\n"))
        parts.append(f"{'ENTRY ' if name == 'main' else ''}%{name} (p: f32[]) -> f32[] {{\n{lines}\n}}\n")
    return HEADER + "\n".join(parts)


def program(**computations: str) -> Program:
    """What is read from such a text."""
    return read_program(program_text(**computations))


SHARD, WHOLE = "bf16[16,128]{1,0:T(8,128)(2,1)}", "bf16[64,128]{1,0:T(8,128)(2,1)}"
GROUPS = "replica_groups={{0,1,2,3},{4,5,6,7}}"

SEMAPHORE, NUMBERS = "u32[]{:S(2)}", "s32[2]{0:S(4)}"
STARTED = f"({SHARD}, {WHOLE}, {NUMBERS}, {SEMAPHORE})"
GATHER = f"{WHOLE} all-gather(%x), {GROUPS}, dimensions={{0}}"
CARRIED = {
    "starting": f"""%x = {SHARD} parameter(0)
    %g = {GATHER}
    ROOT %s = {STARTED} custom-call(%g), custom_call_target="AsyncCollectiveStart\"""",
    "carrying": f"""%work = {WHOLE} parameter(4)
    %n = {WHOLE} negate(%work)
    %x = {SHARD} parameter(0)
    %buffer = {WHOLE} parameter(1)
    %g = {GATHER}
    %number = {NUMBERS} parameter(2)
    %sem = {SEMAPHORE} parameter(3)
    ROOT %t = ({WHOLE}, {SHARD}, {WHOLE}, {WHOLE}, {NUMBERS}, {SEMAPHORE}) tuple(%n, %x, %buffer, %g, %number, %sem)""",
    "ending": f"""%x = {SHARD} parameter(0)
    %buffer = {WHOLE} parameter(1)
    %g = {GATHER}
    %number = {NUMBERS} parameter(2)
    %sem = {SEMAPHORE} parameter(3)
    ROOT %d = {WHOLE} custom-call(%x, %buffer, %g, %number, %sem), custom_call_target="AsyncCollectiveDone\"""",
}


def parts_of(giver: str, *indices: int) -> list[str]:
    """The four buffers that one fusion hands to the next."""
    kinds = zip("abcd", (SHARD, WHOLE, NUMBERS, SEMAPHORE), indices, strict=True)
    return [f"%{giver}.{name} = {kind} get-tuple-element(%{giver}), index={index}" for name, kind, index in kinds]


def handed(giver: str) -> str:
    """These buffers as operands."""
    return ", ".join(f"%{giver}.{name}" for name in "abcd")


def carried_on(name: str, giver: str, *indices: int) -> list[str]:
    """A fusion of other work that carries a collective on, in 500 cycles."""
    config = '{"window_config":{"estimated_cycles":"500"},"continuation_config":{"operand_original_start":"4"}}'
    return [
        *parts_of(giver, *indices),
        f"%{name} = ({WHOLE}, {SHARD}, {WHOLE}, {WHOLE}, {NUMBERS}, {SEMAPHORE}) fusion({handed(giver)}, %whole), "
        f"kind=kOutput, calls=%carrying, backend_config={config}",
    ]


START = f"%s = {STARTED} fusion(%shard), kind=kCustom, calls=%starting"
