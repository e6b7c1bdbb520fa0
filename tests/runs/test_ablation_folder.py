"""The folder of an ablation is that of one base config, and of variants that mean what they meant."""

import contextlib
import json
from pathlib import Path

import pytest

from sc2jax.config import load_config
from sc2jax.config_values import override
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest, commit
from sc2jax.runs.ablation_folder import keep_base
from sc2jax.runs.ablation_plan import planned

VARIANTS = '["gqa:", "mqa: model.num_kv_heads=1"]'


def keep(folder: Path, variants: str = VARIANTS, **settings: str) -> None:
    config = load_config("quickstart")
    for key, value in {"ablation.variants": variants, **settings}.items():
        override(config, key, value)
    keep_base(planned(config, str(folder)))


def test_the_base_config_is_kept_as_it_was_given(tmp_path):
    keep(tmp_path)
    saved = json.loads((tmp_path / "base.json").read_text())
    assert saved["model"]["mlp_dim"] == 0  # so that a variant's width decides it
    assert saved["training"]["steps"] == load_config("quickstart").to_dict()["training"]["steps"]
    assert saved["ablation"]["variants"] == ["gqa:", "mqa: model.num_kv_heads=1"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ablation.seeds": "0,1"},
        {"ablation.print_commands": "true"},
        {"feed.prefetch": "2"},
        {"paths.compilation_cache": "off"},
        {"model.attention": "blocked"},
        {"variants": '["mqa: model.num_kv_heads=1", "mha: model.num_kv_heads=4", "gqa:"]'},
    ],
)
def test_the_same_ablation_goes_on_and_may_grow(tmp_path, settings):
    keep(tmp_path)
    keep(tmp_path, **settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.steps", "421"),
        ("training.peak_learning_rate", "1e-3"),
        ("seed", "1"),
        ("paths.source", "/elsewhere"),
        ("paths.corpus", "/elsewhere"),
        ("evaluation.max_bytes", "1000"),
        ("corpus.near_threshold", "0.9"),
    ],
)
def test_another_base_config_is_refused_by_the_name_of_what_differs(tmp_path, key, value):
    keep(tmp_path)
    before = (tmp_path / "base.json").read_bytes()
    with pytest.raises(UserError, match=f"over another base config, with another {key}; give another --workdir"):
        keep(tmp_path, **{key: value})
    assert (tmp_path / "base.json").read_bytes() == before


@pytest.mark.parametrize(
    ("variants", "is_refused"),
    [
        ('["gqa:"]', False),  # left out: its runs stay, and are not shown
        ('["gqa:", "other: model.num_kv_heads=4"]', False),
        ('["gqa:", "mqa: model.num_kv_heads=4"]', True),
    ],
)
def test_a_trained_variant_means_what_it_meant_or_is_left_out(tmp_path, variants, is_refused):
    keep(tmp_path)
    keep(tmp_path, '["gqa:", "mqa: model.num_kv_heads=2 model.window=64"]')  # nothing was trained yet: it is corrected
    keep(tmp_path)
    folder = tmp_path / "runs/mqa-seed0/train"
    folder.mkdir(parents=True)
    commit(str(folder), Manifest("train", {}, {}, (), {}))
    with pytest.raises(UserError, match="something else now: mqa;") if is_refused else contextlib.nullcontext():
        keep(tmp_path, variants)
