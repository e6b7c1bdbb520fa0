"""The system calls that Python has no function for, by ctypes: namespaces, mounts, capabilities, seccomp, Landlock.

It runs in the sandbox's own processes and needs the standard library alone. Numbers and layouts are those of the
kernel's headers (uapi/linux); the calls newer than 2019 have one number on every architecture.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Mapping, Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_SECCOMP_MODE_FILTER = 2
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLOSE_RANGE = 436
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_OLD_NUMBERS = {  # clone, pivot_root, capset, keyctl
    "x86_64": (56, 155, 126, 250),
    "aarch64": (220, 41, 91, 219),
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def supported_machine() -> bool:
    """Whether the numbers of this processor's older system calls are known."""
    return platform.machine() in _OLD_NUMBERS


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(what: str, number: int, *arguments: int | bytes | ctypes.Array | None) -> int:
    # A plain int would be passed as 32 bits.
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *values), what)


def _numbers() -> tuple[int, int, int, int]:
    return _OLD_NUMBERS[platform.machine()]


def fork_into(namespaces: int) -> int:
    """Forks a child that is the first process of new namespaces; 0 in the child, as `os.fork`.

    The process must have one thread. Python is not told of the fork, so the child's first own child (`os.fork`) is the
    one that may run any program.
    """
    sigchld = 17
    return _call("clone", _numbers()[0], namespaces | sigchld, 0, 0, 0, 0)


def unshare(namespaces: int) -> None:
    """Moves this process into new namespaces."""
    _checked(_libc.unshare(namespaces), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    strings = [text.encode() or None for text in (source, target, kind)]
    what = f"mount {source or kind} on {target}"
    _checked(_libc.mount(*strings, ctypes.c_ulong(flags), options.encode() or None), what)


def restrict_mounts(target: str, attributes: int) -> None:
    """Adds attributes (MS_RDONLY, MS_NOSUID, MS_NODEV have these numbers here too) to all mounts from `target` on."""
    attr = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    _call(f"mount_setattr {target}", _MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attr, 32)


def unmount_detached(target: str) -> None:
    """umount2(2) of what may be in use."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Makes a mounted folder the root, and lets the old one go."""
    os.chdir(new_root)
    _call(f"pivot_root {new_root}", _numbers()[1], b".", b".")  # the old root lies over the new one: pivot_root(2)
    unmount_detached(".")
    os.chdir("/")


def clone_tree(path: str) -> int:
    """A descriptor of a copy of the mounts at a path, which stays when the path is covered."""
    return _call(f"open_tree {path}", _OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | _AT_RECURSIVE)


def attach_tree(tree: int, target: str) -> None:
    """Mounts such a copy."""
    _call(f"move_mount {target}", _MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def prctl(option: int, value: int, pointer: ctypes.Array | ctypes.Structure | None = None) -> None:
    """prctl(2)."""
    third = ctypes.byref(pointer) if pointer is not None else None
    result = _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), third, None, None)
    _checked(result, f"prctl {option}")


def drop_capabilities() -> None:
    """Gives up every capability; whoever is not root and gains no privileges (`install_filters`) regains none."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)  # _LINUX_CAPABILITY_VERSION_3
    _call("capset", _numbers()[2], header, ctypes.create_string_buffer(24))


def close_from(first: int) -> None:
    """Closes every descriptor from this number on."""
    _call("close_range", _CLOSE_RANGE, first, (1 << 32) - 1, 0)


def leave_keyring() -> None:
    """Gives the process an empty session keyring of its own; where there are no keyrings it has none to leave."""
    join_session_keyring = 1
    try:
        _call("keyctl", _numbers()[3], join_session_keyring, None)
    except OSError:
        return


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install_filters(programs: Sequence[bytes]) -> None:
    """Installs seccomp programs, the last of which need not allow any more of them."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for program in programs:
        prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _Program(len(program) // 8, program))


LANDLOCK_WRITE_FILE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 2, 4, 8
_LANDLOCK_RIGHTS = (0, 13, 14, 15, 15, 16)
"""How many rights on files each version of Landlock knows: refer from 2 on, truncate from 3, ioctl from 5."""


def landlock_version() -> int:
    """The version of Landlock in this kernel; 0 if there is none."""
    try:
        return _call("landlock", _LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def landlock_ruleset(rights: Mapping[str, int]) -> int:
    """A descriptor of rules that leave nothing but these rights on these files and folders.

    Raises:
        OSError: this kernel has no Landlock.
    """
    version = landlock_version()
    if version < 3:
        # Versions 1 and 2 let a file that may be read be emptied: landlock(7).
        raise OSError(
            f"version {version} of Landlock is in use, and 3 is needed" if version else "there is no Landlock"
        )
    files = (1 << _LANDLOCK_RIGHTS[min(version, len(_LANDLOCK_RIGHTS) - 1)]) - 1
    network = 3 if version >= 4 else 0  # bind and connect of TCP
    scopes = 3 if version >= 6 else 0  # abstract sockets and signals of others
    layout = struct.pack("=QQQ", files, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call("landlock", _LANDLOCK_CREATE, ctypes.create_string_buffer(layout, len(layout)), len(layout), 0)
    for path, allowed in rights.items():
        _allow_beneath(ruleset, path, allowed)
    return ruleset


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= ~LANDLOCK_READ_DIR
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, parent), 12)
        _call(f"landlock {path}", _LANDLOCK_ADD, ruleset, 1, rule, 0)
    finally:
        os.close(parent)


def restrict_by_landlock(ruleset: int) -> None:
    """Applies such rules to this thread and what it starts, for good."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _call("landlock", _LANDLOCK_RESTRICT, ruleset, 0)
