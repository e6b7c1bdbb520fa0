"""Bars of progress on the terminal."""

import sys
from typing import Any

from tqdm import tqdm


def progress(*items: Any, **how: Any) -> tqdm:
    """tqdm's bar, on a terminal alone.

    It is drawn with a terminal's commands, which `sys.stderr` filters out of what others wrote (`process.py`). So its
    description is in our own words.
    """
    return tqdm(*items, **how, disable=None, file=sys.__stderr__)
