"""The shipped ablations: each gives runs over quickstart that differ in what it says it compares."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from sc2jax.assets import asset_path
from sc2jax.config import load_config, to_settings
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import count_params, parameter_table
from sc2jax.runs.ablation import Ablation
from sc2jax.runs.ablation_plan import planned
from sc2jax.training.utilisation import flops_per_token

NAMES = sorted(path.stem for path in asset_path("configs", "ablations").glob("*.py"))
DOCS = Path(__file__).parent.parent.parent / "docs" / "ablations.md"

VARIED = {
    "attention_heads": {"model.num_kv_heads", "model.mlp_dim"},
    "document_attention": {"feed.cross_document_attention"},
    "fim": {"fim.level", "fim.rate", "fim.file_rate", "fim.spm_rate"},
    "licences": {"corpus.keep_license_types"},
    "metadata": {"format.metadata_rate"},
    "near_dedup": {"corpus.near_threshold"},
    "optimizer": {"training.optimizer", "training.peak_learning_rate"},
    "rope_theta": {"model.rope_theta"},
    "scaling": {"model.embed_dim", "model.num_layers", "training.steps", "training.warmup_tokens"},
    "schedule": {
        "training.schedule",
        "training.decay_tokens",
        "training.horizon_tokens",
        "training.final_learning_rate_fraction",
    },
    "vocabulary": {"tokenizer.vocab_size"},
    "window": {"model.window"},
}


def plan(name: str, base: str = "") -> Ablation:
    return planned(load_config(f"ablations/{name}{base and ':'}{base}"), "/w")


def shapes(ablation: Ablation) -> dict[str, ModelConfig]:
    vocab_size = to_settings(ablation.config).tokenizer.vocab_size
    return {run.variant.label: dataclasses.replace(run.settings.model, vocab_size=vocab_size) for run in ablation.runs}


def test_every_one_is_tested():
    assert list(VARIED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_it_varies_and_how_often(name):
    ablation = plan(name)
    assert {key for run in ablation.runs for key, _ in run.variant.overrides} == VARIED[name]
    assert ablation.settings.seeds == ((0,) if name == "scaling" else (0, 1, 2))
    assert len(ablation.lines()) == len(ablation.shared) + len(ablation.runs)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_it_is_run_and_stands_in_the_docs(name):
    text = asset_path("configs", "ablations", f"{name}.py").read_text(encoding="utf-8")
    assert f"    sc2jax ablate --config=ablations/{name}\n" in text
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


def test_attention_is_compared_at_equal_width_and_at_equal_parameters():
    models = shapes(plan("attention_heads"))
    sizes = {label: count_params(parameter_table(model)) for label, model in models.items()}
    assert {label: model.num_kv_heads for label, model in models.items()} == {
        "multi_head": 4, "grouped": 2, "multi_query": 1, "grouped_wide": 2, "multi_query_wide": 1
    }  # fmt: skip
    assert models["multi_head"].mlp_dim == models["grouped"].mlp_dim == models["multi_query"].mlp_dim
    assert sizes["multi_query"] < sizes["grouped"] < 0.95 * sizes["multi_head"]
    for label in ("grouped_wide", "multi_query_wide"):
        unit = models[label].num_layers * (2 * models[label].embed_dim + 1)
        assert abs(sizes[label] - sizes["multi_head"]) <= unit / 2


def test_a_budget_is_spent_on_five_sizes():
    ablation = plan("scaling")
    base = to_settings(load_config("quickstart"))
    models, row = shapes(ablation), base.model.context_length
    whole = flops_per_token(dataclasses.replace(base.model, vocab_size=base.tokenizer.vocab_size), row)
    whole *= base.training.steps * base.training.batch_size * row
    spent = [
        flops_per_token(models[run.variant.label], row) * run.settings.training.steps * base.training.batch_size * row
        for run in ablation.runs
    ]
    for place, share in enumerate((1 / 8, 1 / 3, 1)):
        assert spent[5 * place : 5 * place + 5] == pytest.approx(5 * [share * whole], rel=0.02)
    sizes = [count_params(parameter_table(model)) for model in models.values()]
    assert sizes[:5] == sizes[5:10] == sizes[10:]
    assert all(1.6 < larger / smaller < 3 for smaller, larger in itertools.pairwise(sizes[:5]))


@pytest.mark.parametrize("name", NAMES)
def test_another_base_will_do(name):
    """A released size: nothing is built but the plan."""
    ablation = plan(name, "starcoder2:7b,stage=base")
    assert {run.settings.model.context_length for run in ablation.runs} == {4096}
    assert {run.settings.model.num_heads for run in ablation.runs} == {36}
