"""Results of runs, as tests make them up."""

from sc2jax.ablation.results import RunResult


def result(label: str, seed: int, overrides: str = "", tokenizer: str = "t", **figures: float) -> RunResult:
    """A run with a short log and some figures."""
    figures = {"bits_per_byte": 2.0, "parameters": 1000.0, "training_flops": 1e12} | figures
    return RunResult(
        label,
        seed,
        overrides,
        figures,
        tokenizer,
        tokens=[100, 200, 300],
        flops=[1e11, 2e11, 3e11],
        losses=[6.0, 5.0, 4.5 + seed / 10],
        rates=[3.0, 2.5, 2.25],
    )
