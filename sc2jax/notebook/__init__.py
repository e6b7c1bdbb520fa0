"""What a notebook uses: runs opened, shown, completed and drawn in the notebook's own Python, which has numpy and
matplotlib; whatever needs more goes through the command line, in an environment of its own.
"""

from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.notebook.environment import command, install
from sc2jax.notebook.run import Run, ablation_runs, compare_losses, compare_scores
from sc2jax.notebook.runtime import Runtime, find_runtime, parameters_of
from sc2jax.notebook.shown import Completion, Page

__all__ = [
    "Completion",
    "Page",
    "Run",
    "Runtime",
    "ablation_runs",
    "command",
    "compare_losses",
    "compare_scores",
    "find_runtime",
    "install",
    "parameters_of",
]


def _message(error: UserError) -> list[str]:
    return [f"sc2jax: {terminal_text(str(error))}"]


# What a notebook shows of an error of the user's: the message alone, as the command line does.
setattr(UserError, "_render_traceback_", _message)  # noqa: B010
