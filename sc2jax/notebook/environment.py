"""The environment in which the command line runs, beside the notebook's own Python, and calls of it.

Colab brings hundreds of packages, some of which exclude ours (`colab/README.md`). So ours go into an environment of
their own, and the notebook's Python imports nothing of them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sc2jax.display import print_text, terminal_text
from sc2jax.errors import UserError
from sc2jax.notebook.runtime import find_runtime, refuse_little
from sc2jax.parallel.chips import GIB

VARIABLE = "SC2JAX_ENVIRONMENT"
"""Names an environment that is there already, in which nothing is installed."""

_CHECKOUT = Path(__file__).resolve().parents[2]
_MEMORY = 2.5 * GIB  # quickstart's peak is 1.9 GB (docs/results.md)
_DISK: Mapping[str, float] = {"": 5 * GIB, "tpu": 6 * GIB, "cuda12": 12 * GIB, "gpu": 12 * GIB}
"""Disk space by extra: 3.2 GB are installed for CPUs, and what is downloaded lies beside it for a while."""


def install() -> Path:
    """Makes the environment, for the devices that are there, unless it is there already; returns its folder.

    It lies beside the package, where `make` puts its own, with the versions of the committed lock. The Python is the
    first one on the PATH that pyproject.toml allows, or a downloaded one.

    Raises:
        UserError: the runtime has too little memory or disk, the package lies in no checkout, or an install failed.
    """
    runtime = find_runtime()
    refuse_little("memory", _MEMORY, runtime.host_bytes)
    there = _existing()
    if there is not None:
        return there
    if not (_CHECKOUT / "pyproject.toml").is_file():
        raise UserError(
            f"{_CHECKOUT} is no checkout of the project, so there is nothing to install from; clone the project and "
            f"put the clone at the head of sys.path, or name an environment that has sc2jax in {VARIABLE}"
        )
    refuse_little("disk space", _DISK[runtime.extra], shutil.disk_usage(_CHECKOUT).free)
    folder = _CHECKOUT / ".venv"
    project = f"{_CHECKOUT}[{runtime.extra}]" if runtime.extra else str(_CHECKOUT)
    uv = _uv()
    _ran([*uv, "venv", "--quiet", "--clear", str(folder)])
    python = str(folder / "bin" / "python")
    locked = ["--constraints", str(_CHECKOUT / "requirements.lock")]
    _ran([*uv, "pip", "install", "--quiet", "--python", python, *locked, "--editable", project])
    return folder


def command(*arguments: str) -> str:
    """Runs `sc2jax` with these arguments in its environment, shows what it prints as it comes, and returns it.

    Raises:
        UserError: there is no environment yet, or the command failed: then with its message.
    """
    said, complaint = [], ""
    program, environment = _program()
    with subprocess.Popen(
        [*program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if _complaint(line, arguments):
                    complaint = _complaint(line, arguments)
                    continue  # it is shown as the error that it becomes
                said.append(line)
                print_text(line, end="")
        except BaseException:  # the notebook's stop button, as all that ends this, reaches this process alone
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise UserError(complaint or _ending(process.returncode, arguments, "".join(said)))
    return "".join(said)


def asked(*arguments: str) -> str:
    """What `sc2jax` prints with these arguments, which is not shown.

    Raises:
        UserError: there is no environment yet, or the command failed: then with its message.
    """
    program, environment = _program()
    done = subprocess.run(
        [*program, *arguments], capture_output=True, text=True, errors="replace", check=False, env=environment
    )
    if done.returncode:
        complaints = [_complaint(line, arguments) for line in done.stderr.splitlines()]
        raise UserError("".join(complaints) or _ending(done.returncode, arguments, done.stderr))
    return done.stdout


def _program() -> tuple[list[str], dict[str, str]]:
    """The command line of the environment, and the variables that it runs under."""
    folder = _existing()
    if folder is None:
        raise UserError(
            f"there is no environment for sc2jax beside {_CHECKOUT}; make it with sc2jax.install(), or name one in "
            f"{VARIABLE}"
        )
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # the notebook's
    return [str(folder / "bin" / "python"), "-m", "sc2jax.cli"], inherited | {"PYTHONUNBUFFERED": "1"}


def _complaint(line: str, arguments: Sequence[str]) -> str:
    """The message of the command line, if this line is that; else ""."""
    starts = ("sc2jax: ", *(f"sc2jax {verb}: " for verb in arguments[:1]))
    return next((line.removeprefix(start).strip() for start in starts if line.startswith(start)), "")


def _ending(status: int, arguments: Sequence[str], said: str) -> str:
    """What is said of a command that said nothing of its end itself."""
    verb = " ".join(arguments[:1])
    if status < 0:
        return (
            f"`sc2jax {verb}` was ended by signal {-status}, as happens where memory runs out; choose a larger runtime "
            "or a smaller config, and run it again: it goes on where it was"
        )
    return f"`sc2jax {verb}` failed with status {status}: {terminal_text(said[-2000:])}"


def _existing() -> Path | None:
    """The folder of an environment that has sc2jax: the named one, that beside the package, the notebook's own.

    Raises:
        UserError: the named one has none.
    """
    named = os.environ.get(VARIABLE, "")
    if named and not _has_program(Path(named)):
        raise UserError(
            f"{VARIABLE} names {named}, which has no bin/sc2jax or no bin/python; name an environment that "
            "has, or unset it"
        )
    folders = [Path(named)] if named else [_CHECKOUT / ".venv", Path(sys.prefix)]
    return next(filter(_has_program, folders), None)


def _has_program(folder: Path) -> bool:
    return all((folder / "bin" / name).is_file() for name in ("sc2jax", "python"))


def _uv() -> list[str]:
    """uv, which Colab has; elsewhere it is installed beside the notebook's own packages, as it depends on none."""
    program = shutil.which("uv")
    if program is None:
        _ran([sys.executable, "-m", "pip", "install", "--quiet", "uv"])
    return [program] if program else [sys.executable, "-m", "uv"]


def _ran(arguments: Sequence[str]) -> None:
    # In the checkout uv keeps to the versions of Python that pyproject.toml allows.
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=_CHECKOUT)
    if done.returncode:
        said = terminal_text((done.stderr or done.stdout)[-2000:].strip())
        raise UserError(f"`{' '.join(arguments[:3])}` failed with status {done.returncode}: {said}")
