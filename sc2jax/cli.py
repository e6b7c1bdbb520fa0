"""The command line: `sc2jax VERB --config=NAME --config.section.key=value --workdir=DIR`.

Only the verb that is called is imported. What a user or the machine can cause ends in one message and exit status 2, an
interruption in status 130 (Ctrl-C) or 143 (SIGTERM); `--debug` shows the traceback.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sc2jax
from sc2jax.display import terminal_text
from sc2jax.errors import Note, UserError, did_you_mean
from sc2jax.process import (
    USER_ERROR,
    complain,
    describe,
    interruptions,
    open_streams,
    refuse_few_addresses,
    watch_signals,
)
from sc2jax.settings import fitted, shown
from sc2jax.verbs import FLAGS, SWITCHES, TAKES_CONFIG, TAKES_FOLDER, VERBS, docstring, load, sentence, written


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
    """Runs one verb and exits: 0 done, 2 an error that the user can mend, 128 and a signal's number if one ended it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        status = run([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()  # here, where a full disk behind it can still be told
    except (Exception, KeyboardInterrupt) as error:
        # A library may have turned the interruption into an error of its own.
        cause = interruptions[0] if interruptions else error
        expected = describe(cause)
        if expected is None:
            raise
        if debug:
            complain(traceback.format_exc())
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, Note)]
        message, status = "; ".join(filter(None, [expected[0], *notes])), expected[1]
        if message:
            complain(
                f"sc2jax {arguments[0]}: {message}" if arguments[:1] and arguments[0] in VERBS else f"sc2jax: {message}"
            )
    sys.exit(status)


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
    if verb in TAKES_FOLDER:
        rest = _with_folder(rest)
    rest = _with_keys(rest, FLAGS.get(verb, {}))
    wants_help = not _HELP.isdisjoint(rest)
    name, config, workdir = parse(verb, [argument for argument in rest if argument not in _HELP])
    if wants_help:
        from sc2jax.config_help import explain

        print(f"sc2jax {verb}: {docstring(verb)}\n\nconfig {terminal_text(name)}:\n{explain(config)}")  # noqa: T201
        return 0
    from sc2jax.config import to_settings

    settings = to_settings(config)
    refuse_few_addresses()
    load(verb)(config if verb in TAKES_CONFIG else settings, workdir)
    return 0


def _with_folder(arguments: list[str]) -> list[str]:
    """The arguments with a first operand as what `--workdir` is given."""
    for place, argument in enumerate(arguments):
        if not argument.startswith("-") and arguments[place - 1] not in ("--config", "--workdir"):
            return [*arguments[:place], f"--workdir={argument}", *arguments[place + 1 :]]
    return arguments


def _with_keys(arguments: list[str], flags: Mapping[str, str]) -> list[str]:
    """The arguments with a verb's flags as the keys that they stand for; a switch without a value is true.

    Raises:
        UserError: one that is no switch has no value.
    """
    found, queue = [], list(arguments)
    while queue:
        argument = queue.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in flags:
            found.append(argument)
            continue
        if not equals and queue and not queue[0].startswith("-"):
            value = queue.pop(0)
        if not value and name not in SWITCHES:
            raise UserError(f"--{name} needs a value; write --{name}=VALUE")
        found.append(f"--config.{flags[name]}={value or 'true'}")
    return found


_HELP = {"--help", "-h"}


def parse(verb: str, arguments: list[str]) -> tuple[str, Any, str]:
    """The config's name, the overridden ConfigDict and the working folder.

    The paths of a saved config name what was read: what the verb writes lies in the working folder, unless an argument
    says otherwise.

    Raises:
        UserError: an argument is unknown or does not fit.
    """
    from sc2jax.config import load_config
    from sc2jax.config_values import override

    name, arguments = _take(arguments, "config", "quickstart")
    is_rerun = name.endswith(".json")
    workdir, arguments = _take(arguments, "workdir", "" if is_rerun else f"runs/{Path(name.partition(':')[0]).stem}")
    if not workdir:
        raise UserError(f"--config={name} runs a config again: say where with --workdir=DIR")
    config = load_config(name)
    given = set()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key.startswith("--config.") or not equals:
            hint = "; write --config.SECTION.KEY=VALUE" if key.startswith("--config.") else ""
            raise UserError(f"unknown argument {shown(argument)}{hint}; see `sc2jax --help`")
        key = key.removeprefix("--config.")
        override(config, key, value, again=key in given)
        given.add(key)
    for stage in written(verb, config) if is_rerun else ():
        if f"paths.{stage}" not in given:
            override(config, f"paths.{stage}", "")
    return name, config, workdir


def _take(arguments: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """The value of an option that may be given once, as `--name=value` or `--name value`, and the other arguments."""
    values, rest = [], []
    queue = iter(arguments)
    for argument in queue:
        if argument.startswith(f"--{name}="):
            values.append(argument.partition("=")[2])
        elif argument == f"--{name}":
            values.append(next(queue, ""))
            if values[-1].startswith("--"):
                raise UserError(f"--{name} needs a value, and {shown(values[-1])} follows; write --{name}=VALUE")
        else:
            rest.append(argument)
    if "" in values:
        raise UserError(f"--{name} needs a value")
    if len(values) > 1:
        raise UserError(f"--{name} is given {len(values)} times: {', '.join(map(shown, values))}; give it once")
    return fitted(f"--{name}", "", values[0]) if values else default, rest


def console() -> None:
    """The program `sc2jax`: `main`, and after an error an end without delay.

    The libraries' threads are in the middle of something when a signal or an error stops the work, and some of them
    crash or complain when the interpreter is taken down around them; what had to be finished and closed is by then.
    """
    watch_signals()
    open_streams()
    try:
        main()
    except SystemExit as end:
        if end.code:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(int(end.code))
        raise
    except Exception:  # a defect of this program
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    console()
