"""StarCoder2 and The Stack v2 in JAX: corpus, tokens, model, training, completions and scores.

What stands in `__all__` is for notebooks, and imported when it is asked for: it needs numpy and matplotlib alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sc2jax.notebook import (
        Completion,
        Page,
        Run,
        Runtime,
        ablation_runs,
        command,
        compare_losses,
        compare_scores,
        find_runtime,
        install,
        parameters_of,
    )

__version__ = "0.1.0"

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sc2jax' has no attribute {name!r}")
    from sc2jax import notebook

    return getattr(notebook, name)
