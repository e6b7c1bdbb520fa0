"""What the processes of one run must have in common: settings, inputs, and the folder that they write to.

They are compared before anything is done, for what differs would show as a hang, or as a model that nobody can make
again.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sc2jax import storage
from sc2jax.config import Settings, settings_json
from sc2jax.config_values import leaves
from sc2jax.errors import UserError
from sc2jax.json_files import decode_json
from sc2jax.locks import holder
from sc2jax.parallel.hosts import AgreedError, Hosts
from sc2jax.records.manifest import is_finished
from sc2jax.records.stage_folder import LOCK
from sc2jax.settings import shown
from sc2jax.storage import join

_OF_EACH_HOST = ("hosts", "paths")
"""The sections that may differ: the inputs that paths lead to are compared themselves."""

_NAMED_AT_MOST = 3
_SEEN_WITHIN = 30.0
"""Seconds that NFS may take to show a file that another host wrote."""
_LOOK_AGAIN = 1.0


def refuse_other_settings(hosts: Hosts, settings: Settings) -> None:
    """Makes sure that all processes were started with the same settings, those of the operation included.

    Raises:
        AgreedError: naming those that differ, and where.
    """
    sections = decode_json(settings_json(settings).encode(), dict[str, Any], "the config", "")
    ours = {name: section for name, section in sections.items() if name not in _OF_EACH_HOST}
    _refuse_differing(hosts, "settings", dict(leaves(ours)))


def refuse_other_inputs(hosts: Hosts, inputs: Mapping[str, str]) -> None:
    """Makes sure that what all processes read is the same, by its digests.

    Raises:
        AgreedError: naming the inputs that differ, and where.
    """
    _refuse_differing(hosts, "inputs", inputs)


def _refuse_differing(hosts: Hosts, what: str, ours: Mapping[str, Any]) -> None:
    firsts = hosts.share(what, dict(ours))
    keys = sorted(key for key in {*ours, *firsts} if ours.get(key) != firsts.get(key))
    differing = [
        f"{key} is {shown(ours.get(key))} on {hosts.name} and {shown(firsts.get(key))} at process 0" for key in keys
    ]
    found = [text for texts in hosts.gather(f"other {what}", differing[:_NAMED_AT_MOST]) for text in texts]
    if found:
        more = f" and {len(found) - _NAMED_AT_MOST} more" if len(found) > _NAMED_AT_MOST else ""
        raise AgreedError(
            f"the processes of this run have different {what}: {'; '.join(found[:_NAMED_AT_MOST])}{more}; start all of "
            "them with the same command, on the same data"
        )


def held_folder(folder: str) -> str:
    """What tells apart the folder that this process holds from another host's folder of the same name."""
    found = holder(join(folder, LOCK))
    assert found is not None  # `records/stage.py` holds it while it writes
    return found.token


def refuse_other_folder(folder: str, held: str) -> None:
    """Makes sure that a folder is the very one that process 0 holds.

    Raises:
        UserError: it is another one of the same name, on this host's own disk.
    """

    def is_it() -> bool:
        found = holder(join(folder, LOCK))
        return found is not None and found.token == held

    if not _seen(is_it):
        raise UserError(
            f"{folder} is not the folder that process 0 writes to; name one in --workdir that all hosts share: on NFS "
            "or at gs://"
        )


def refuse_no_tokens(folder: str) -> None:
    """Makes sure that the tokens are here which process 0 has made.

    Raises:
        UserError: they are not, and the folder is another one of the same name.
    """
    if not _seen(lambda: is_finished(folder)):
        raise UserError(
            f"{folder} does not hold the tokens that it holds at process 0; name a folder in --workdir that all hosts "
            "share, on NFS or in an object store, or in paths.tokenize where they lie"
        )


def refuse_unshared_folder(hosts: Hosts, folder: str, setting: str) -> None:
    """Makes sure that a folder beside that of the run, where all processes write, is one and the same for all.

    Args:
        hosts: the processes.
        folder: may not be there yet.
        setting: what names it.

    Raises:
        AgreedError: it is another one of the same name at some.
        OSError: process 0 cannot write there.
    """
    if hosts.count == 1:
        return
    with _token_file(folder) if hosts.is_first else contextlib.nullcontext() as ours:
        token = hosts.share(f"a file in {setting}", ours)
        lacks = "" if _seen(lambda: token in storage.names(folder)) else hosts.name
        lacking = [name for name in hosts.gather(f"who sees the file in {setting}", lacks) if name]
    if lacking:
        raise AgreedError(
            f"{setting} is {folder}, which is another folder for {', '.join(lacking)} than for process 0: none would "
            f"hold a whole checkpoint; name a folder that all hosts share, or leave {setting} out"
        )


@contextlib.contextmanager
def _token_file(folder: str) -> Iterator[str]:
    """The name of an empty file in a folder for as long as the block runs."""
    name = f".{secrets.token_hex(8)}.seen"  # that nobody can have given to something else
    storage.make_folder(folder)
    storage.create_file(join(folder, name), b"")
    try:
        yield name
    finally:
        storage.delete_file(join(folder, name))


def _seen(look: Callable[[], bool]) -> bool:
    """Whether `look` finds what another host has written, which may take a while."""
    until = time.monotonic() + _SEEN_WITHIN
    while not look():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_AGAIN)
    return True


@contextlib.contextmanager
def first_alone_speaks(hosts: Hosts) -> Iterator[None]:
    """A block in which nothing is printed but by process 0; errors are."""
    if hosts.is_first:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
