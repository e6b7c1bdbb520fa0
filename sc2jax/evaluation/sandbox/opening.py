"""Opens the strongest sandbox that this machine allows, and says of each rung whether it can be reached."""

import contextlib
import platform
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import sc2jax
from sc2jax.errors import UserError
from sc2jax.evaluation.sandbox import system_calls
from sc2jax.evaluation.sandbox.channels import Channels
from sc2jax.evaluation.sandbox.host import Sandbox
from sc2jax.evaluation.sandbox.limits import Guest, Limits

_PACKAGE = Path(sc2jax.__file__).parent
_SECONDS_TO_GREET = 60.0
_DISK_FILES = 10_000
_STACK_BYTES = 8 << 20


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
    sandbox = _open(guest, limits, 1)
    try:
        yield sandbox
    finally:
        sandbox.close()


def _open(guest: Guest, limits: Limits, rung: int) -> Sandbox:
    channels = Channels(_setup(guest, limits, rung))
    sandbox = Sandbox(channels, limits, _facts(rung))
    try:
        contained = sandbox.start()
        contained.greet(time.monotonic() + _SECONDS_TO_GREET)
        contained.close()
    except BaseException:
        sandbox.close()
        raise
    return sandbox


def _setup(guest: Guest, limits: Limits, rung: int) -> dict[str, object]:
    packages = [_package_folder(name) for name in guest.packages]
    return {
        "rung": rung,
        "guest": [(_module_name(path), path.read_text()) for path in guest.modules],
        "entry": guest.entry,
        "preload": guest.preload,
        "packages": [str(path) for folder in packages for path in (folder, Path(f"{folder}.libs")) if path.is_dir()],
        "package_folders": sorted({str(folder.parent) for folder in packages}),
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "disk_files": _DISK_FILES,
        "home": "/tmp",
        "landlock": False,
        "limits": {
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_CORE": 1,  # see system_calls.py
            "RLIMIT_FSIZE": limits.disk_bytes,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_NOFILE": limits.open_files,
            "RLIMIT_NPROC": limits.processes + 1,  # the first process of the namespace is one
            "RLIMIT_SIGPENDING": 256,
            "RLIMIT_STACK": _STACK_BYTES,
        },
        "filters": [program.hex() for program in system_calls.compile_filters(new_processes=rung < 3)],
        "own_process_mark": system_calls.OWN_PROCESS_MARK,
    }


def _module_name(path: Path) -> str:
    """How a guest's modules import each other: by the name of a module of ours, or by the stem of another file."""
    if _PACKAGE not in path.parents:
        return path.stem
    return ".".join((_PACKAGE.name, *path.relative_to(_PACKAGE).with_suffix("").parts))


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {name} that runs in the sandbox is not installed; run pip install {name}")
    return Path(spec.submodule_search_locations[0])


def _facts(rung: int) -> dict[str, str | int]:
    return {
        "rung": rung,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
