"""The one exception that a user can cause, the hint at what may have been meant, and what the system's errors say."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: its message says what is wrong, where, and what to do.

    The command line prints the message alone and exits with `status` (`--debug` shows the traceback); any other
    exception is a defect of the program and keeps its traceback.
    """

    status = 2
    """That the command line exits with."""


class Note(str):
    """A note of ours on an error (`add_note`), with which the command line ends its message."""


def os_error_text(error: OSError) -> str:
    """What the system refused, and of which file."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The words that are nearest to a mistyped one, as the end of a message; "" if none is near."""
    words = list(words)
    # A key given without its section, or in the wrong one, is near to its namesakes.
    namesakes = [other for other in words if other.rpartition(".")[2] == word.rpartition(".")[2]]
    near = dict.fromkeys([*difflib.get_close_matches(word, words, n=2, cutoff=0.7), *namesakes])
    near = list(near or difflib.get_close_matches(word, words, n=2, cutoff=0.5))[:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
