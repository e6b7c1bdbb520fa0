"""A save of several processes ends at once for all where it fails for one, as on a disk that is full there.

Orbax's barriers wait for whoever does not come until their time is over. These are made of entries in the store of
JAX's coordinator, among which a process that failed leaves its own.
"""

import time
from typing import Any

import jax
from jax._src import distributed

_POLL_SECONDS = 0.1
_BEGIN_SECONDS = 600


class SaveFailedElsewhereError(OSError):
    """Another process could not save its part."""


class Together:
    """What the processes of a run tell each other of the save under way; nothing where there is one process."""

    def __init__(self) -> None:
        self._save = 0

    def begin(self) -> None:
        """A save begins; returns when all processes have ended the one before."""
        self._save += 1
        if jax.process_count() > 1:
            self._client.wait_at_barrier(f"{self._entries(self._save)}begin", _BEGIN_SECONDS * 1000)
            if self._save > 2 and jax.process_index() == 0:
                self._client.key_value_delete(self._entries(self._save - 2))

    def fail(self, reason: str) -> None:
        """Tells the others that this process has failed; twice changes nothing."""
        if jax.process_count() > 1:
            name = f"{self._entries(self._save)}failed/{jax.process_index()}"
            self._client.key_value_set(name, reason, allow_overwrite=True)

    def refuse_failed(self) -> None:
        """Makes sure that no process has failed so far.

        Raises:
            SaveFailedElsewhereError: one has.
        """
        if jax.process_count() > 1:
            for path, reason in sorted(self._client.key_value_dir_get(f"{self._entries(self._save)}failed/")):
                raise SaveFailedElsewhereError(f"process {path.rpartition('/')[2]} could not: {reason}")

    def wait(self, *, key: str, timeout_ms: int) -> None:
        """Returns when all processes have come to the barrier `key`, each of them once.

        Raises:
            SaveFailedElsewhereError: one has failed.
            TimeoutError: one did not come.
        """
        name = f"{self._entries(self._save)}{key.replace('/', '|')}/"
        self._client.key_value_set(f"{name}{jax.process_index()}", "here")
        deadline = time.monotonic() + timeout_ms / 1000
        while time.monotonic() < deadline:
            self.refuse_failed()
            if len(self._client.key_value_dir_get(name)) == jax.process_count():
                return
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"a process did not save its part within {timeout_ms / 1000:.0f} s")

    @property
    def _client(self) -> Any:
        return distributed.global_state.client

    def _entries(self, save: int) -> str:
        return f"sc2jax/saves/{save}/"
