"""JAX's persistent compilation cache: a run that starts again finds its compiled programs.

Whoever writes into the cache decides what runs on the devices and, as XLA's executables are unpacked, in the process.
So its folder is one that only its user may write. CPUs have none: their code is bound to the very machine that it was
compiled on, and crashes on an older one.
"""

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import jax

from sc2jax import storage
from sc2jax.display import terminal_text
from sc2jax.errors import UserError

OFF = "off"


def use_compilation_cache(configured: str, environment: Mapping[str, str] = os.environ) -> str:
    """Turns the cache on where the devices are no CPUs; returns its folder, or "".

    Where the folder that is taken by itself cannot be trusted, that is said, and there is no cache.

    Args:
        configured: the folder; "": the user's own, unless JAX's own setting names another; "off": none.
        environment: that of the process.

    Raises:
        UserError: others may write in the folder that was configured, or it cannot be made.
    """
    if (
        configured == OFF
        or jax.default_backend() == "cpu"
        or (not configured and jax.config.values["jax_compilation_cache_dir"])
    ):
        return ""
    try:
        folder = private_folder(configured or default_folder(environment))
    except UserError as error:
        if configured:
            raise
        logging.getLogger("sc2jax").warning("no compilations are kept: %s", terminal_text(str(error)))
        return ""
    jax.config.update("jax_compilation_cache_dir", folder)
    return folder


def default_folder(environment: Mapping[str, str], name: str = "compilations") -> str:
    """The user's folder of what was compiled, by the XDG base directory specification, which ignores relative paths."""
    named = environment.get("XDG_CACHE_HOME", "")
    cache = Path(named) if named.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".cache"
    return str(cache / "sc2jax" / name)


def private_folder(path: str) -> str:
    """A folder in which only this user may write, made if there is none; returns where it really lies.

    Raises:
        UserError: others may write in it or replace it, it is a link or no folder, or it cannot be made.
    """
    remedy = f"name another folder with --config.paths.compilation_cache, or {OFF} for none"
    if storage.is_url(path):
        raise UserError(f"{path} is no folder on a local disk, so that who may write there is not known; {remedy}")
    try:
        parent = Path(os.path.realpath(Path(path).absolute().parent))
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = parent / Path(path).name
        folder.mkdir(mode=0o700, exist_ok=True)
        wrong = _why_not_private(folder)
    except OSError as error:
        raise UserError(f"{path} cannot hold the compilation cache ({error.strerror}); {remedy}") from error
    if wrong:
        raise UserError(f"{path} cannot hold the compilation cache: {wrong}; {remedy}")
    return str(folder)


def _why_not_private(folder: Path) -> str:
    """Why others decide what lies in a folder whose path has no links above it; "" if nobody does."""
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        return "it is a link or no folder"
    if about.st_uid != os.getuid():
        return "it belongs to another user"
    if about.st_mode & _WRITABLE_BY_OTHERS:
        return f"others may write in it (chmod go-w {folder})"
    for parent in folder.parents:
        about = parent.lstat()
        # Where the sticky bit is set, as in /tmp, what is somebody's only that user renames or deletes.
        if about.st_mode & _WRITABLE_BY_OTHERS and not about.st_mode & stat.S_ISVTX:
            return f"others may replace it, for they may write in {parent}"
        if about.st_uid not in (0, os.getuid()):
            return f"another user may replace it, whose folder {parent} is"
    return ""


_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
