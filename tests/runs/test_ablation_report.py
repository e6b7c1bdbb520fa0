"""The report of an ablation is of what its runs came to, in their order."""

from sc2jax.ablation.results import RunResult
from sc2jax.config import load_config
from sc2jax.config_values import override
from sc2jax.runs.ablation_plan import planned
from sc2jax.runs.ablation_report import write_report


def test_in_another_order_runs_are_compared_with_another_one(tmp_path):
    for labels in (["gqa", "mqa"], ["mqa", "gqa"]):
        config = load_config("quickstart")
        variants = ", ".join(f'"{label}: model.rope_theta={1000 + len(label) * ord(label[0])}"' for label in labels)
        override(config, "ablation.variants", f"[{variants}]")
        ablation = planned(config, str(tmp_path))
        results = [
            RunResult(run.variant.label, run.seed, "", {"bits_per_byte": 2.0}, tokens=[1], losses=[3.0], flops=[1.0])
            for run in ablation.runs
        ]
        write_report(ablation, results, [])
        assert f"Difference to {labels[0]}" in (tmp_path / "report" / "index.html").read_text()
        assert (tmp_path / "report" / "results.csv").read_text().splitlines()[1].startswith(labels[0])
