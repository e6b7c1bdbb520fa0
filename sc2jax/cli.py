"""The command line: `sc2jax VERB --config=NAME --config.section.key=value --workdir=DIR`.

Only the verb that is called is imported. What a user can cause ends in one message and exit status 2, an interruption
in status 130; `--debug` shows the traceback.
"""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import sc2jax
from sc2jax.errors import UserError, did_you_mean
from sc2jax.verbs import VERBS, docstring, load, sentence

INTERRUPTED = 130
USER_ERROR = 2


def usage() -> str:
    """The help text."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {sentence(verb)}" for verb in VERBS)
    return f"""sc2jax {sc2jax.__version__}: StarCoder2 and The Stack v2 in JAX

usage: sc2jax VERB [--config=NAME] [--config.SECTION.KEY=VALUE ...] [--workdir=DIR]

{verbs}

  --config   a name in configs/ (default: quickstart), a Python file, or a run's config.json
  --workdir  the run's folder (default: runs/ and the name of the config)
  --debug    show the traceback of an error

`sc2jax VERB --help` lists every config key with its value."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one verb and exits: 0 done, 2 an error that the user can mend, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        status = run([argument for argument in arguments if argument != "--debug"])
    except (Exception, KeyboardInterrupt) as error:
        # A library may have turned the interruption into an error of its own.
        cause = KeyboardInterrupt() if _interrupted.is_set() else error
        if not isinstance(cause, (UserError, OSError, KeyboardInterrupt)):
            raise
        if debug:
            traceback.print_exc()
        message, status = describe(cause)
        verb = arguments[0] if arguments else ""
        print(f"sc2jax {verb}: {message}" if verb in VERBS else f"sc2jax: {message}", file=sys.stderr)  # noqa: T201
    sys.stdout.flush()
    sys.exit(status)


_interrupted = threading.Event()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupted.set()
    signal.default_int_handler(number, frame)


def describe(error: BaseException) -> tuple[str, int]:
    """The message and exit status of what a user, the machine or Ctrl-C caused."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; nothing half-written counts: the same command goes on where it was", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what += "; nothing half-written counts: make room and run the same command again"
        return f"{where}{what}", USER_ERROR
    return str(error), USER_ERROR


def run(arguments: list[str]) -> int:
    """Parses the arguments and calls the verb.

    Raises:
        UserError: the arguments are wrong, or the verb says so.
    """
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(usage())  # noqa: T201
        return 0 if arguments else USER_ERROR
    verb, *rest = arguments
    if verb == "--version":
        print(sc2jax.__version__)  # noqa: T201
        return 0
    if verb not in VERBS:
        raise UserError(f"there is no verb {verb!r}{did_you_mean(verb, VERBS)}; the verbs are {', '.join(VERBS)}")
    wants_help = "--help" in rest
    name, config, workdir = parse([argument for argument in rest if argument != "--help"])
    if wants_help:
        from sc2jax.config_help import explain

        print(f"sc2jax {verb}: {docstring(verb)}\n\nconfig {name}:\n{explain(config)}")  # noqa: T201
        return 0
    from sc2jax.config import to_settings

    load(verb)(to_settings(config), workdir)
    return 0


def parse(arguments: list[str]) -> tuple[str, Any, str]:
    """The config's name, the overridden ConfigDict and the working folder.

    Raises:
        UserError: an argument is unknown or does not fit.
    """
    from sc2jax.config import load_config, override

    name, arguments = _take(arguments, "config", "quickstart")
    stem = Path(name.partition(":")[0]).stem
    is_rerun = name.endswith(".json")
    workdir, arguments = _take(arguments, "workdir", "" if is_rerun else f"runs/{stem}")
    if not workdir:
        raise UserError(f"--config={name} runs a config again: say where with --workdir=DIR")
    config = load_config(name)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key.startswith("--config.") or not equals:
            hint = "; write --config.SECTION.KEY=VALUE" if key.startswith("--config.") else ""
            raise UserError(f"unknown argument {argument!r}{hint}; see `sc2jax --help`")
        override(config, key.removeprefix("--config."), value)
    return name, config, workdir


def _take(arguments: list[str], name: str, default: str) -> tuple[str, list[str]]:
    value, rest = default, []
    queue = iter(arguments)
    for argument in queue:
        if argument.startswith(f"--{name}="):
            value = argument.partition("=")[2]
        elif argument == f"--{name}":
            value = next(queue, "")
        else:
            rest.append(argument)
    if not value and value != default:
        raise UserError(f"--{name} needs a value")
    return value, rest


def console() -> None:
    """The program `sc2jax`: `main`, and after an error an end without delay.

    The libraries' threads are in the middle of something when Ctrl-C or an error stops the work, and some of them crash
    or complain when the interpreter is taken down around them; what had to be finished and closed is by then.
    """
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _report_unraisable
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        if end.code:
            os._exit(int(end.code))
        raise


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        # Ctrl-C met a callback that cannot raise, and would be lost: it comes again when the callback is over.
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    # When one array of a checkpoint cannot be written, the others' native writes report to a loop that is gone by then.
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    console()
