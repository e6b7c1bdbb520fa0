"""How variants are written, and what cannot be one."""

import itertools

import pytest

from sc2jax.ablation.config import AblationConfig
from sc2jax.ablation.variants import Variant, parse_variants
from sc2jax.errors import UserError


def test_a_variant_is_a_label_with_overrides_as_on_the_command_line():
    assert parse_variants(["base:", "mqa: model.num_kv_heads=1  --config.seed=3", "x: a.b='1, 2' c=d=e"], []) == [
        Variant("base", ()),
        Variant("mqa", (("model.num_kv_heads", "1"), ("seed", "3"))),
        Variant("x", (("a.b", "1, 2"), ("c", "d=e"))),
    ]


def test_the_grid_is_a_product_times_the_variants():
    found = parse_variants(["one: k=0", "two: k=9"], ["a.x=1|2", "b.y=p|q|r"])
    assert [variant.overrides for variant in found] == [
        (("k", k), ("a.x", x), ("b.y", y)) for k, x, y in itertools.product("09", "12", "pqr")
    ]
    assert [variant.label for variant in found[:4]] == ["one_x-1_y-p", "one_x-1_y-q", "one_x-1_y-r", "one_x-2_y-p"]


def test_a_grid_alone_has_labels_of_its_own_that_fit_a_folder():
    found = parse_variants([], ["corpus.keep_license_types=permissive|permissive,no_license", "training.rate=1e-3|+2"])
    assert [variant.label for variant in found][::2] == [
        "keep-license-types-permissive_rate-1e-3",
        "keep-license-types-permissive-no-license_rate-1e-3",
    ]


@pytest.mark.parametrize(
    ("variants", "grid", "message"),
    [
        ([], [], "names no runs"),
        (["no colon"], [], "write it as 'LABEL: KEY=VALUE KEY=VALUE'"),
        (["a: k"], [], "the variant 'a' has 'k'; an override is KEY=VALUE"),
        (["a: =1"], [], "has '=1'"),
        (["a: k='1"], [], "the variant 'a' ends in the middle of a quotation"),
        ([": k=1"], [], "the label '' cannot name a folder"),
        (["../a: k=1"], [], r"the label '\.\./a'"),
        ([".a: k=1"], [], r"the label '\.a'"),
        (["a b: k=1"], [], "the label 'a b'"),
        (["é: k=1"], [], "the label 'é'"),
        (["a\n: k=1", "a/b: k=1"], [], "the label 'a/b'"),
        (["x" * 81 + ":"], [], "up to 80 letters"),
        (["a: k=1", "a: k=2"], [], "two variants have the labels a and a"),
        (["Mqa: k=1", "mQA: k=2"], [], "two variants have the labels Mqa and mQA"),
        (["a: k=1 k=2"], [], "the variant a sets k twice"),
        (["a: k=1"], ["k=2|3"], "the variant a_k-2 sets k twice"),
        ([], ["k=1|1"], "two variants have the labels k-1 and k-1"),
        ([], ["k"], "ablation.grid has 'k'; write it as 'KEY=A|B|C'"),
        ([], ["=1|2"], "ablation.grid has '=1|2'"),
        ([], ["k=1||2"], "ablation.grid has 'k=1||2'"),
        (["a:", "b:"], [f"{key}=1|2|3|4|5|6|7|8" for key in "klmnopqrst"], "come to 2,147,483,648 variants"),
    ],
)
def test_what_is_no_variant_is_one_message(variants, grid, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        parse_variants(variants, grid)


def test_the_longest_label_fits():
    assert parse_variants(["x" * 80 + ":"], [])[0].label == "x" * 80


def test_a_seed_is_given_once():
    with pytest.raises(UserError, match=r"ablation\.seeds names 2 twice"):
        AblationConfig(seeds=(1, 2, 0, 2))
