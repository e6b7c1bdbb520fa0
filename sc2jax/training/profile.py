"""A trace of some steps by JAX's profiler, for TensorBoard's or Perfetto's views of what the devices did."""

from typing import Any

import jax

PROFILE = "profile"
"""The folder of traces, beside the log."""


class Profile:
    """Traces the steps from one on, as far as they are done in this process. Use it as a context manager."""

    def __init__(self, folder: str, first: int, steps: int) -> None:
        """Of `steps` steps from `first` on, into a folder; a `first` of 0 traces none."""
        self._folder = folder
        self._steps = range(first, first + steps) if first else range(0)
        self._is_tracing = False

    def before(self, step: int) -> None:
        """Begins to trace, if this step is the first of those that are traced and done here."""
        if step in self._steps and not self._is_tracing:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace after its last step, when the devices have computed the step's results."""
        if self._is_tracing and step + 1 not in self._steps:
            jax.block_until_ready(results)
            self._stop()

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        """Keeps what was traced when the run ends or fails in the middle."""
        if self._is_tracing:
            self._stop()

    def _stop(self) -> None:
        self._is_tracing = False
        jax.profiler.stop_trace()
