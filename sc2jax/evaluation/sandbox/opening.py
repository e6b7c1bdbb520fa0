"""Opens the strongest sandbox that this machine allows, and says of each rung whether it can be reached."""

import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import sc2jax
from sc2jax.errors import UserError
from sc2jax.evaluation.sandbox import system_calls
from sc2jax.evaluation.sandbox.channels import Channels
from sc2jax.evaluation.sandbox.host import Sandbox
from sc2jax.evaluation.sandbox.limits import Ended, Guest, Limits, TimedOut

_PACKAGE = Path(sc2jax.__file__).parent
RUNGS = {
    1: "namespaces behind a fork server",
    2: "bubblewrap",
    3: "Landlock, without new processes or files",
    4: "none",
}

_NAMESPACES = (
    "it needs Linux 5.14 and unprivileged user namespaces: `sysctl kernel.unprivileged_userns_clone=1` (Debian), "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), `--security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined` (Docker)"
)
_REMEDIES = {
    1: _NAMESPACES,
    2: f"it needs bubblewrap (`apt-get install bubblewrap`; the package of that name on PyPI is another one), and "
    f"{_NAMESPACES.removeprefix('it needs ')}",
    3: "it needs Linux 6.2 with Landlock among its security modules (`lsm=` on the kernel's command line)",
}
_SECONDS_TO_GREET = 60.0
_DISK_FILES = 10_000
_STACK_BYTES = 8 << 20


@dataclass(frozen=True)
class RungReport:
    """Whether a rung can be reached here."""

    rung: int
    name: str
    works: bool
    reason: str
    """Why it cannot; "" if it can."""

    remedy: str
    """What would make it work; "" if it does."""


def probe(guest: Guest, limits: Limits) -> list[RungReport]:
    """Tries rungs 1 to 3, each with a process that must come so far as to run the guest."""
    reports = []
    for rung in _REMEDIES:
        opened = _try_rung(guest, limits, rung)
        if isinstance(opened, Sandbox):
            opened.close()
            opened = RungReport(rung, RUNGS[rung], works=True, reason="", remedy="")
        reports.append(opened)
    return reports


@contextlib.contextmanager
def open_sandbox(guest: Guest, limits: Limits, *, rung: int = 0, unsafe: bool = False) -> Iterator[Sandbox]:
    """Opens a sandbox; all that runs in it ends with the context.

    Args:
        guest: what runs in each contained process.
        limits: what each may use.
        rung: 1 to 4; 0 for the strongest that works here.
        unsafe: whether rung 4, which contains nothing, may be used.

    Raises:
        UserError: the rung, or every one, cannot be reached here; the message says why and what to do.
    """
    sandbox = _reach(guest, limits, rung, unsafe)
    try:
        yield sandbox
    finally:
        sandbox.close()


def _reach(guest: Guest, limits: Limits, rung: int, unsafe: bool) -> Sandbox:
    if rung not in (0, *RUNGS):
        raise UserError(f"there is no sandbox {rung}; choose 1, 2, 3 or 4, or 0 for the strongest that works here")
    if rung == 4 and not unsafe:
        raise UserError(
            "sandbox 4 is none: a program that a model wrote could read, change and delete whatever you can, and use "
            "the network; --unsafe says that you take that risk, as on a machine that holds nothing else"
        )
    refused: list[RungReport] = []
    for each in (rung,) if rung else (1, 2, 3, 4) if unsafe else (1, 2, 3):
        opened = _try_rung(guest, limits, each)
        if isinstance(opened, Sandbox):
            return opened
        refused.append(opened)
    what = "; ".join(f"sandbox {each.rung} ({each.name}): {each.reason}; {each.remedy}" for each in refused)
    raise UserError(f"no program can be run safely here: {what}" if rung == 0 else f"cannot be reached here: {what}")


def _try_rung(guest: Guest, limits: Limits, rung: int) -> Sandbox | RungReport:
    try:
        return _open(guest, limits, rung)
    except Ended as error:
        reason = error.ending.detail or str(error)
    except TimedOut:
        reason = f"a process did not start within {_SECONDS_TO_GREET:.0f} s"
    except OSError as error:
        reason = str(error)
    return RungReport(rung, RUNGS[rung], works=False, reason=reason, remedy=_REMEDIES.get(rung, ""))


def _open(guest: Guest, limits: Limits, rung: int) -> Sandbox:
    if sys.platform != "linux":
        raise OSError("this system is not Linux")
    if rung < 3 and not _counts_processes_by_namespace():
        raise OSError(f"this is Linux {platform.release()}")
    sandbox = Sandbox(Channels(_setup(guest, limits, rung)), limits, _facts(rung))
    try:
        contained = sandbox.start()
        contained.greet(time.monotonic() + _SECONDS_TO_GREET)
        contained.close()
    except BaseException:
        sandbox.close()
        raise
    return sandbox


def _counts_processes_by_namespace() -> bool:
    """Whether the limit on processes is one on those inside, and not on all that the user has: from Linux 5.14 on."""
    numbers = platform.release().split(".")
    return [int("".join(each for each in number if each.isdigit()) or 0) for number in numbers[:2]] >= [5, 14]


def _setup(guest: Guest, limits: Limits, rung: int) -> dict[str, object]:
    packages = [_package_folder(name) for name in guest.packages]
    bubblewrap = shutil.which("bwrap") or ""
    if rung == 2 and not bubblewrap:
        raise OSError("bubblewrap is not installed")
    return {
        "rung": rung,
        "guest": [(_module_name(path), path.read_text()) for path in guest.modules],
        "entry": guest.entry,
        "preload": guest.preload,
        "packages_by_name": guest.packages,
        "packages": [str(path) for folder in packages for path in (folder, Path(f"{folder}.libs")) if path.is_dir()],
        "package_folders": sorted({str(folder.parent) for folder in packages}),
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "disk_files": _DISK_FILES,
        "home": "/tmp" if rung < 3 else "/",
        "limits": _resource_limits(limits, rung),
        "filters": [each.hex() for each in system_calls.compile_filters(own_container=rung < 3)] if rung < 4 else [],
        "own_process_mark": system_calls.OWN_PROCESS_MARK,
        "bubblewrap": bubblewrap,
    }


def _module_name(path: Path) -> str:
    """How a guest's modules import each other: by the name of a module of ours, or by the stem of another file."""
    if _PACKAGE not in path.parents:
        return path.stem
    return ".".join((_PACKAGE.name, *path.relative_to(_PACKAGE).with_suffix("").parts))


def _resource_limits(limits: Limits, rung: int) -> dict[str, int]:
    names = {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_CORE": 1,  # not 0: see system_calls.py
        "RLIMIT_FSIZE": limits.disk_bytes,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_SIGPENDING": 256,
        "RLIMIT_STACK": _STACK_BYTES,
    }
    if rung < 3:  # elsewhere all processes of the user would count
        names["RLIMIT_NPROC"] = limits.processes + 1  # the first process of the namespace is one
    return names


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {name}, which runs in the sandbox, is not installed; run pip install {name}")
    return Path(spec.submodule_search_locations[0]).resolve()


def _facts(rung: int) -> dict[str, str | int]:
    return {
        "rung": rung,
        "name": RUNGS[rung],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "started_as": "root" if os.getuid() == 0 else "a user",
        "memory_bound": "address space of each process, resident memory of all",
    }
