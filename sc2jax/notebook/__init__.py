"""What a notebook uses: runs opened, shown, completed and drawn in the notebook's own Python, which has numpy and
matplotlib; whatever needs more goes through the command line, in an environment of its own.
"""

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
