"""What fields declare of themselves is what checks, keys and explains them."""

import dataclasses
import math
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from sc2jax.config import Settings, default_config
from sc2jax.config_help import declarations, explain, settings_page
from sc2jax.config_values import leaves
from sc2jax.errors import UserError
from sc2jax.model.config import Computation, ModelConfig
from sc2jax.settings import check_ranges, decisive, incidental, part, setting

SECTIONS = [
    field.name for field in dataclasses.fields(Settings) if dataclasses.is_dataclass(getattr(Settings(), field.name))
]


@dataclasses.dataclass(frozen=True)
class Oven:
    size: int = setting(3, "Trays.", unit="trays", at_least=1, at_most=4)
    heat: float = setting(0.5, "Of the most.", more_than=0, less_than=1)
    kind: str = setting("gas", "What heats it.", choices=("gas", "wood"))
    kinds: tuple[str, ...] = setting(("gas",), "What may heat it.", choices=("gas", "wood"))
    racks: tuple[int, ...] = setting((1,), "Which racks are in.", at_least=0, at_most=4)
    light: bool = setting(True, "Whether one sees in.", decides=False)
    name: str = setting("", "What it is called.")


@pytest.mark.parametrize(
    "good", [{"size": 1}, {"size": 4}, {"heat": 1e-9}, {"heat": 0.999}, {"kind": "wood"}, {"kinds": ("wood", "gas")}]
)
def test_values_in_range_pass(good):
    check_ranges("oven", Oven(**good))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 0}, "oven.size is 0; it must be at least 1 and at most 4"),
        ({"size": 5}, "oven.size is 5; it must be at least 1 and at most 4"),
        ({"heat": 0.0}, "oven.heat is 0.0; it must be more than 0 and less than 1"),
        ({"heat": 1.0}, "oven.heat is 1.0; it must be more than 0 and less than 1"),
        ({"heat": math.nan}, "oven.heat is nan; it must be finite"),
        ({"heat": 10**400}, "oven.heat is inf; it must be finite"),
        ({"heat": -(10**400)}, "oven.heat is -inf; it must be finite"),
        ({"heat": "warm"}, "oven.heat is 'warm'; it must be a number"),
        ({"heat": True}, "oven.heat is True; it must be a number"),
        ({"size": 2.0}, "oven.size is 2.0; it must be an integer"),
        ({"size": 10**5000}, "oven.size is a value of type int; it must be at least 1 and at most 4"),
        ({"size": None}, "oven.size is None; it must be an integer"),
        ({"light": 1}, "oven.light is 1; it must be true or false"),
        ({"kinds": ("gas", 1)}, "oven.kinds is ('gas', 1); it must be a list of names"),
        ({"kinds": "gas"}, "oven.kinds is 'gas'; it must be a list of names"),
        ({"name": "a\0"}, "oven.name is 'a\\x00'; it must be text that UTF-8 can hold, without NUL"),
        ({"name": "\ud800"}, "oven.name is '\\ud800'; it must be text that UTF-8 can hold, without NUL"),
        ({"name": ["x" * 1000]}, f"oven.name is ['{'x' * 198}...; it must be text"),
        ({"kind": "coal"}, "oven.kind is 'coal'; it must be one of gas, wood"),
        ({"kinds": ("gas", "coal")}, "oven.kinds is ('gas', 'coal'); it must be one of gas, wood"),
        ({"racks": (1, 5)}, "oven.racks is (1, 5); it must be at least 0 and at most 4"),
        ({"racks": ()}, "oven.racks is (); it must be at least 0 and at most 4"),
        ({"racks": ("1",)}, "oven.racks is ('1',); it must be a list of integers"),
        ({"racks": (True,)}, "oven.racks is (True,); it must be a list of integers"),
        ({"kinds": ("gas", 1)}, "oven.kinds is ('gas', 1); it must be a list of names"),
        ({"kinds": ()}, "oven.kinds is (); it must be one of gas, wood"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(bad, message):
    with pytest.raises(UserError) as error:
        check_ranges("oven", Oven(**bad))
    assert str(error.value) == message


@pytest.mark.parametrize("limits", [{}, {"at_least": 0}, {"more_than": 0}, {"at_most": 9}, {"less_than": 9}])
@pytest.mark.parametrize("default", [3, 3.0, (3,)])
def test_a_number_without_both_limits_cannot_be_declared(default, limits):
    with pytest.raises(TypeError, match=r"with a lower and an upper limit: Trays\."):
        setting(default, "Trays.", **limits)


def test_what_decides_and_what_does_not_are_all_fields():
    assert incidental(Oven()) == {"light": True}
    assert decisive(Oven()) == {"size": 3, "heat": 0.5, "kind": "gas", "kinds": ("gas",), "racks": (1,), "name": ""}


def test_a_part_is_what_a_class_above_declares():
    model = ModelConfig(vocab_size=8, attention="blocked", compute_dtype="float32")
    computation = part(model, Computation)
    assert type(computation) is Computation
    assert dataclasses.asdict(computation) == {
        "attention": "blocked",
        "compute_dtype": "float32",
        "rematerialization": "none",
        "kept_activations": (),
        "offloaded_activations": (),
        "scan_unroll": 1,
    }


def test_every_key_declares_itself():
    assert declarations().keys() == dict(leaves(default_config().to_dict())).keys()
    for key, what in declarations().items():
        assert what.meaning.endswith("."), key


def one_of(value: float) -> tuple[int, ...]:
    return (int(value),)


def numbers() -> list[tuple[str, str, Any]]:
    """Every number of the config with values just outside of its range."""
    found = []
    for section in SECTIONS:
        config = getattr(Settings(), section)
        for field in dataclasses.fields(config):
            what = declarations()[f"{section}.{field.name}"]
            kind = type(field.default) if not isinstance(field.default, tuple) else one_of
            for limit, step in ((what.at_least, -1), (what.at_most, 1)):
                if limit is not None:
                    found.append((section, field.name, kind(limit + step)))
            found += [
                (section, field.name, kind(limit)) for limit in (what.more_than, what.less_than) if limit is not None
            ]
            if kind is float:  # a Python config may hold them
                found += [(section, field.name, value) for value in (math.inf, -math.inf, math.nan)]
    return found


@pytest.mark.parametrize(("section", "name", "value"), numbers())
def test_no_section_takes_a_number_outside_of_its_range(section, name, value):
    with pytest.raises(UserError, match=rf"{section}\.{name}( is)? {re.escape(str(value))}"):
        dataclasses.replace(getattr(Settings(), section), **{name: value})


def test_defaults_are_of_the_types_that_fields_declare():
    for section in SECTIONS:
        kind = type(getattr(Settings(), section))
        for name, declared in typing.get_type_hints(kind).items():
            assert type(getattr(kind, name)) is (typing.get_origin(declared) or declared), f"{section}.{name}"


def test_what_says_only_how_the_work_is_done():
    """The keys that results do not follow from, read through by hand: all others are in a stage's key."""
    assert {key for key, what in declarations().items() if not what.decides} == {
        "paths.source", "paths.corpus", "paths.tokenizer", "paths.tokenize", "paths.train", "paths.compilation_cache",
        "paths.benchmarks", "evaluation.heldout", "evaluation.benchmarks", "evaluation.samples_file",
        "evaluation.sandbox", "evaluation.unsafe", "evaluation.compare", "evaluation.generation_batch",
        "evaluation.judge_workers",
        "paths.start", "paths.heldout", "paths.manifest", "training.model_of_start",
        "corpus.max_distribution_bytes", "corpus.damaged", "corpus.sample",
        "corpus.retry_failed", "corpus.engine", "corpus.ray_address", "corpus.memory_bytes",
        "corpus.heritage_contents", "corpus.github_archive", "corpus.max_failed_share",
        "feed.damaged", "feed.prefetch",
        "model.attention", "model.rematerialization", "model.scan_unroll",
        "mesh.data", "mesh.fsdp", "mesh.sequence", "mesh.tensor",
        "training.loss_chunk", "training.checkpoint_every", "training.checkpoints_kept",
        "training.evaluate_every", "training.evaluation_tokens", "training.profile_from", "training.profile_steps",
        "training.watchdog_minutes",
        "mesh.slices", "training.steps", "training.accumulation", "evaluation.score_batch", "evaluation.infill_batch",
        "training.keep_every", "training.keep_best", "training.checkpoints_local", "training.log_every",
        "model.kept_activations", "model.offloaded_activations", "training.compiler_options",
        "ablation.variants", "ablation.grid", "ablation.seeds", "ablation.computed_from", "ablation.fit",
        "ablation.print_commands", "plan.slice", "plan.price", "plan.whole", "plan.search", "plan.measured",
        "hosts.coordinator", "hosts.count", "hosts.index", "hosts.join_seconds", "hosts.silent_seconds",
    }  # fmt: skip


def test_help_and_page_name_every_key():
    text, page = explain(default_config()), settings_page()
    for key, what in declarations().items():
        assert f"{key}: " in text
        assert f"| `{key}` |" in page
        assert what.meaning.split("|")[0].split("\n")[0][:30] in page


def test_the_page_of_settings_is_up_to_date():
    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), "run `make settings`"
