"""The filters of system calls, by an interpreter of their own language: what the kernel would decide."""

import ctypes
import errno
import platform
import struct
from collections.abc import Sequence

import pyseccomp
import pytest

from sc2jax.evaluation.sandbox import system_calls

ALLOW, KILL = 0x7FFF0000, 0x80000000
X86_64, I386 = 0xC000003E, 0x40000003
OWN = 4321

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the calls are written down for x86-64")


def refused(number: int) -> int:
    return 0x00050000 | number


def run_filter(program: bytes, data: bytes) -> int:
    """Runs a classic BPF program over a call's `seccomp_data`, as linux/filter.h and seccomp(2) describe it."""
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        match code:
            case 0x20:  # ld [k]
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x54:  # and #k
                accumulator &= value
            case 0x05:  # ja
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x25:
                at += yes if accumulator > value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                return value
            case _:
                raise AssertionError(f"code {code:#x}")


def decide(programs: Sequence[bytes], number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What comes of a call: the action of the highest precedence, of those of one the filter's that came last."""
    values = [each & (2**64 - 1) for each in arguments] + [0] * (6 - len(arguments))
    data = struct.pack("=IIQ6Q", number, architecture, 0, *values)
    actions = [run_filter(program, data) for program in reversed(programs)]
    return min(actions, key=lambda action: ctypes.c_int32(action & 0xFFFF0000).value)


def filters(own_container: bool) -> list[bytes]:
    programs = system_calls.compile_filters(own_container=own_container)
    mark, own = (each.to_bytes(4, "little") for each in (system_calls.OWN_PROCESS_MARK, OWN))
    assert any(mark in program for program in programs) != own_container
    return [program.replace(mark, own) for program in programs]


ENOSYS, EPERM = refused(errno.ENOSYS), refused(errno.EPERM)
GARBAGE = 0x1_0000_0000
"""A bit that the kernel does not look at, where it takes an int."""

EVERYWHERE = [
    ("read", (0,), ALLOW),
    ("openat", (), ALLOW),
    ("clone3", (), ENOSYS),
    ("splice", (), ENOSYS),
    ("clone", (0x00020011,), KILL),
    ("clone", (0x10000011,), KILL),
    ("clone", (0x20000000 | 0x00010000,), KILL),
    ("clone", (0x003D0F00,), ALLOW),  # a thread of glibc's
    ("unshare", (), KILL),
    ("ptrace", (), KILL),
    ("socket", (1, 1), EPERM),
    ("connect", (), EPERM),
    ("socketpair", (1, 1), ALLOW),
    ("socketpair", (1, 1 | 0x80000), ALLOW),
    ("socketpair", (1, 2), ENOSYS),
    ("socketpair", (2, 1), ENOSYS),
    ("prlimit64", (0, 7, 0x1000), ALLOW),
    ("prlimit64", (0, 4, 0), ALLOW),
    ("prlimit64", (0, 4, 0x1000), EPERM),
    ("prlimit64", (0, 4 | GARBAGE, 0x1000), EPERM),
    ("prlimit64", (1, 7, 0x1000), ENOSYS),
    ("setrlimit", (4,), EPERM),
    ("setrlimit", (7,), ALLOW),
    ("setpriority", (0, 0), ALLOW),
    ("setpriority", (0, 1), ENOSYS),
    ("setpriority", (2, 0), ENOSYS),
    ("sched_setaffinity", (0,), ALLOW),
    ("sched_setaffinity", (1,), ENOSYS),
    ("prctl", (15,), ALLOW),
    ("prctl", (1, 0), ENOSYS),
    ("prctl", (4, 0), ENOSYS),
    ("ioctl", (0, 0x5401), ALLOW),
    ("ioctl", (0, 0x541B | GARBAGE), ALLOW),
    ("ioctl", (0, 0x5412), ENOSYS),  # TIOCSTI
    ("ioctl", (0, 0x5412 | GARBAGE), ENOSYS),
    ("ioctl", (0, 0x40086602), ENOSYS),  # FS_IOC_SETFLAGS
    ("ioctl", (0, 0x401C5820), ENOSYS),  # FS_IOC_FSSETXATTR
    ("ioctl", (0, 0x8912), ENOSYS),  # SIOCGIFCONF
    ("fcntl", (0, 3), ALLOW),
    ("fcntl", (0, 6), ALLOW),  # F_SETLK
    ("fcntl", (0, 1030), ALLOW),  # F_DUPFD_CLOEXEC
    ("fcntl", (0, 8), ENOSYS),  # F_SETOWN
    ("fcntl", (0, 10 | GARBAGE), ENOSYS),  # F_SETSIG
    ("fcntl", (0, 15), ENOSYS),  # F_SETOWN_EX
    ("fcntl", (0, 1024), ENOSYS),  # F_SETLEASE
    ("fcntl", (0, 1026), ENOSYS),  # F_NOTIFY
    ("fcntl", (0, 1036), ENOSYS),  # F_SET_RW_HINT
    ("io_uring_setup", (), EPERM),
    ("memfd_create", (), EPERM),
    ("keyctl", (), KILL),
]
IN_A_CONTAINER = [
    ("clone", (17,), ALLOW),
    ("vfork", (), ALLOW),
    ("execve", (), ALLOW),
    ("kill", (1, 9), ALLOW),
    ("chmod", (), ALLOW),
    ("unlink", (), ALLOW),
    ("getxattr", (), ALLOW),
]
ALONE = [
    ("clone", (17,), EPERM),
    ("vfork", (), EPERM),
    ("execve", (), EPERM),
    ("kill", (OWN, 9), ALLOW),
    ("kill", (OWN + 1, 0), EPERM),
    ("kill", (-1, 9), EPERM),
    ("kill", (0, 9), EPERM),
    ("tgkill", (OWN, OWN, 6), ALLOW),
    ("tgkill", (OWN + 1, OWN, 6), EPERM),
    ("tkill", (OWN, 6), EPERM),
    ("pidfd_send_signal", (), EPERM),
    ("chmod", (), EPERM),
    ("utimensat", (), EPERM),
    ("setxattr", (), EPERM),
    ("lgetxattr", (), EPERM),
    ("flistxattr", (), EPERM),
    ("truncate", (), EPERM),
    ("unlink", (), EPERM),
]


@pytest.mark.parametrize(("own_container", "more"), [(True, IN_A_CONTAINER), (False, ALONE)])
def test_calls_are_decided_as_they_should(own_container: bool, more: list[tuple[str, tuple[int, ...], int]]) -> None:
    programs = filters(own_container)
    for name, arguments, expected in [*EVERYWHERE, *more]:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        assert number >= 0
        assert decide(programs, number, *arguments) == expected, (name, arguments)


@pytest.mark.parametrize("own_container", [True, False])
def test_calls_of_other_architectures_kill(own_container: bool) -> None:
    for program in filters(own_container):
        for number in (0, 4, 20, 120):
            assert decide([program], number, architecture=I386) == KILL
        assert decide([program], 0x40000000 | 39) == KILL


@pytest.mark.parametrize("own_container", [True, False])
def test_calls_that_a_newer_kernel_adds_are_refused(own_container: bool) -> None:
    programs = filters(own_container)
    assert {decide(programs, number) for number in range(470, 2000)} == {ENOSYS}


def test_no_call_is_named_twice() -> None:
    groups = [value.split() for name, value in vars(system_calls).items() if name.isupper() and isinstance(value, str)]
    names = [name for group in groups for name in group]
    assert len(groups) >= 8
    assert sorted(set(names)) == sorted(names)
