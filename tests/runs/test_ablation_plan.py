"""Which jobs an ablation consists of, and with which arguments; nothing is run."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from sc2jax.cli import parse
from sc2jax.config import load_config, to_settings
from sc2jax.config_values import override
from sc2jax.errors import UserError
from sc2jax.runs.ablation import Ablation
from sc2jax.runs.ablation_folder import keep_base
from sc2jax.runs.ablation_plan import planned
from sc2jax.runs.run import Run


def plan(variants: Any, workdir: str | Path = "/w", **settings: str) -> Ablation:
    config = load_config("quickstart")
    for key, value in {"ablation.variants": str(list(variants)), **settings}.items():
        override(config, key, value)
    return planned(config, str(workdir))


def verbs(ablation: Ablation) -> dict[str, int]:
    found = [job.verb for job in ablation.jobs]
    return {verb: found.count(verb) for verb in dict.fromkeys(found)}


def job(ablation: Ablation, name: str) -> Any:
    (found,) = [job for job in ablation.jobs if job.name.startswith(name)]
    return found


def test_what_no_variant_touches_is_done_once():
    ablation = plan(["gqa:", "mqa: model.num_kv_heads=1"])
    assert verbs(ablation) == {"curate": 1, "tokenizer": 1, "tokenize": 1, "train": 2, "evaluate": 2}
    assert [run.name for run in ablation.runs] == ["gqa-seed0", "mqa-seed0"]


def test_seeds_are_of_training_and_its_tokens_alone():
    ablation = plan(["gqa:", "mqa: model.num_kv_heads=1"], **{"ablation.seeds": "0,5"})
    assert verbs(ablation) == {"curate": 1, "tokenizer": 1, "tokenize": 2, "train": 4, "evaluate": 4}
    assert [run.name for run in ablation.runs] == ["gqa-seed0", "gqa-seed5", "mqa-seed0", "mqa-seed5"]
    train, evaluate = job(ablation, "mqa-seed5-train"), job(ablation, "mqa-seed5-evaluate")
    assert train.overrides["seed"] == "5"
    assert "seed" not in evaluate.overrides
    assert "seed" not in job(ablation, "mqa-seed0-train").overrides
    assert [run.settings.seed for run in ablation.runs] == [0, 5, 0, 5]
    assert sum("seed" in job.overrides for job in ablation.shared) == 1


@pytest.mark.parametrize(
    ("override", "counts"),
    [
        ("corpus.near_threshold=0.9", (2, 2, 2)),
        ("tokenizer.vocab_size=1024", (1, 2, 2)),
        ("format.metadata_rate=1.0", (1, 1, 2)),
        ("fim.rate=0.25", (1, 1, 1)),
        ("training.peak_learning_rate=1e-3", (1, 1, 1)),
    ],
)
def test_a_stage_is_done_again_from_the_first_that_an_override_goes_into(override, counts):
    found = verbs(plan(["base:", f"other: {override}"]))
    assert (found["curate"], found["tokenizer"], found["tokenize"]) == counts


def test_every_job_comes_after_those_that_it_reads():
    ablation = plan(["base:", "near: corpus.near_threshold=0.9", "words: tokenizer.vocab_size=1024"])
    places = {job.name: place for place, job in enumerate(ablation.jobs)}
    written = {folder: job.name for job in ablation.jobs for folder in job.leaves}
    for one in ablation.jobs:
        read = {value for key, value in one.overrides.items() if key.startswith("paths.")}
        of_run = {f"{one.workdir}/train"} if one.verb == "evaluate" else set()
        assert set(one.after) == {written[folder] for folder in read | of_run if folder not in one.leaves}
        assert all(places[name] < places[one.name] for name in one.after)
    assert len(places) == len(ablation.jobs)


def test_another_corpus_holds_nothing_of_what_every_run_is_scored_on():
    ablation = plan(["base:", "near: corpus.near_threshold=0.9"])
    base, other = (one for one in ablation.shared if one.verb == "curate")
    assert base.overrides == {}
    assert base.leaves == (ablation.corpus,)
    assert other.overrides == {"corpus.near_threshold": "0.9", "paths.heldout": ablation.corpus}
    train, evaluate = job(ablation, "near-seed0-train"), job(ablation, "near-seed0-evaluate")
    assert train.overrides["paths.corpus"] == other.leaves[0]
    assert evaluate.overrides["paths.corpus"] == ablation.corpus
    assert job(ablation, "base-seed0-train").overrides["paths.corpus"] == ablation.corpus


def test_a_shared_stage_is_given_what_goes_into_it_alone():
    ablation = plan(
        ["all: model.num_kv_heads=1 tokenizer.vocab_size=1024 corpus.near_threshold=0.9 corpus.heldout_similarity=0.6"]
    )
    curates = [one for one in ablation.shared if one.verb == "curate"]
    assert {key for key in curates[1].overrides if not key.startswith("paths.")} == {
        "corpus.heldout_similarity",
        "corpus.near_threshold",
    }
    assert job(ablation, "tokenizer").overrides.keys() == {"tokenizer.vocab_size", "paths.corpus"}
    assert job(ablation, "tokenize-").overrides.keys() == {"paths.corpus", "paths.tokenizer"}


def test_stages_that_the_base_names_are_read_and_not_done():
    named = {"paths.corpus": "/c", "paths.tokenizer": "/t"}
    ablation = plan(["base:", "words: tokenizer.vocab_size=1024", "near: corpus.near_threshold=0.9"], **named)
    assert ablation.corpus == "/c"
    assert verbs(ablation) == {"curate": 1, "tokenizer": 2, "tokenize": 3, "train": 3, "evaluate": 3}
    paths = {run.name: run.settings.paths for run in ablation.runs}
    assert (paths["base-seed0"].corpus, paths["base-seed0"].tokenizer) == ("/c", "/t")
    assert paths["words-seed0"].corpus == "/c"
    assert paths["words-seed0"].tokenizer.startswith("/w/shared/")
    assert paths["near-seed0"].corpus.startswith("/w/shared/")
    assert paths["near-seed0"].tokenizer.startswith("/w/shared/")


def test_tokens_that_the_base_names_are_those_of_its_seed():
    ablation = plan(["base:"], **{"paths.tokenize": "/tokens", "ablation.seeds": "0,1"})
    first, second = (run.settings.paths.tokenize for run in ablation.runs)
    assert first == "/tokens"
    assert second.startswith("/w/shared/")


def test_a_variant_may_name_a_corpus_of_its_own():
    ablation = plan(["base:", "mine: paths.corpus=/mine"], **{"paths.corpus": "/c"})
    assert [run.settings.paths.corpus for run in ablation.runs] == ["/c", "/mine"]
    assert job(ablation, "mine-seed0-evaluate").overrides["paths.corpus"] == "/c"


def test_the_commands_are_those_that_the_command_line_takes(tmp_path):
    ablation = plan(
        ["base:", "l: corpus.keep_license_types=permissive,no_license,non_permissive"], tmp_path / "a b", **{
            "ablation.seeds": "0,1", "paths.source": "/x y",
        }
    )  # fmt: skip
    keep_base(ablation)
    lines = ablation.lines()
    assert len(lines) == len(ablation.shared) + len(ablation.runs)
    parsed = [shlex.split(command) for line in lines for command in line.split(" && ")]
    assert [words[1] for words in parsed] == [
        *(job.verb for job in ablation.shared), *(4 * ["train", "evaluate"])
    ]  # fmt: skip
    for words, one in zip(parsed, ablation.jobs, strict=True):
        name, config, workdir = parse(words[1], words[2:])
        assert (words[0], name, workdir) == ("sc2jax", ablation.base, one.workdir)
        settings = to_settings(config)
        assert settings.paths.source == "/x y"
        for folder in one.leaves:
            assert Run(settings, workdir).folder(folder.removeprefix(f"{workdir}/")) == folder
    for run, words in zip(ablation.runs, parsed[len(ablation.shared) :: 2], strict=True):
        assert to_settings(parse(words[1], words[2:])[1]) == run.settings


def test_paths_are_those_of_the_folder_where_it_was_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ablation = plan(["base:"], "runs/a", **{"paths.source": "x, y", "paths.start": "s/train", "paths.train": "t"})
    assert ablation.workdir == f"{tmp_path}/runs/a"
    paths: Any = ablation.config.paths
    assert (paths.source, paths.start) == (f"{tmp_path}/x,{tmp_path}/y", f"{tmp_path}/s/train")
    assert paths.corpus == paths.train == ""
    assert os.fspath(tmp_path) in ablation.base


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["a: model.num_kv_head=1"], "the variant a: there is no config key .*; did you mean model.num_kv_heads"),
        (["a: model.num_kv_heads=two"], "the variant a: model.num_kv_heads is 'two'; it must be an integer"),
        (["a: model.num_kv_heads=3"], "the variant a: model.num_heads 4 is not a multiple of model.num_kv_heads 3"),
        (["a: fim.rate=2"], "the variant a: fim.rate is 2.0; it must be at least 0"),
        (["a: feed.mixture=nothing"], "there is no mixture 'nothing'"),
        (["a:", "b: model.num_kv_heads=2"], "the variants a and b come to the same settings"),
        (["a: model.num_kv_heads=1", "b: model.num_kv_heads=0x1"], "the variants a and b come to the same settings"),
        (["a: model.mlp_dim=0", "b: model.mlp_dim=512"], "the variants a and b come to the same settings"),
        (["a: seed=1"], "the variant a sets seed, which is the base's: ablation.seeds names the seeds"),
        (["a: ablation.seeds=1"], "the variant a sets ablation.seeds, which is the base's"),
        (["a: evaluation.max_bytes=10"], "which is the base's: every run is scored as the base config says"),
        (["a: completion.max_new_tokens=3"], "which is the base's: no run reads it"),
        (["a: hosts.count=2"], "which is the base's"),
        (["a: corpus.near_ngram=50"], "the variant a: corpus.near_ngram is 50, more than the base's 5"),
        (
            ["a: corpus.near_threshold=0.0 corpus.heldout_similarity=1.0"],
            "the variant a: corpus.heldout_similarity is 1.0, more than the base's 0.61: near-duplicates of",
        ),
        (["a: paths.train=/t"], "which is the base's: every run is trained in a folder of its own"),
        (["a: paths.heldout=/h"], "which is the base's: no run is trained on what the base's corpus holds out"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_one_message_before_anything_is(variants, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        plan(variants)


def test_what_a_file_computed_from_other_values_is_refused():
    """Its variants would not be what they are called: heads in groups of another number, or not as wide."""
    config = load_config("ablations/attention_heads")
    override(config, "model.embed_dim", "320")
    with pytest.raises(
        UserError, match=r"^model.embed_dim is 320, and the variants were computed from 128: name a base"
    ):
        planned(config, "/w")
    config = load_config("ablations/window")
    override(config, "training.steps", "7")  # from which nothing was computed
    assert planned(config, "/w").runs


@pytest.mark.parametrize(
    ("heads", "labels"),
    [
        (4, {"multi_head": 4, "grouped": 2, "multi_query": 1, "grouped_wide": 2, "multi_query_wide": 1}),
        (9, {"multi_head": 9, "grouped": 3, "multi_query": 1, "grouped_wide": 3, "multi_query_wide": 1}),
        (3, {"multi_head": 3, "multi_query": 1, "multi_query_wide": 1}),
    ],
)
def test_heads_are_grouped_as_they_divide(tmp_path, heads, labels):
    base = tmp_path / "base.py"
    base.write_text(
        "from sc2jax.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        f"    config.model.num_heads = {heads}\n    config.model.num_kv_heads = 1\n"
        f"    config.model.embed_dim = {16 * heads}\n    return config\n"
    )
    ablation = planned(load_config(f"ablations/attention_heads:{base}"), "/w")
    assert {run.variant.label: run.settings.model.num_kv_heads for run in ablation.runs} == labels


def test_a_base_that_is_an_ablation_gives_its_settings_alone(tmp_path):
    """The grid of the base would silently be taken times the variants of the file."""
    ablation = planned(load_config("ablations/fim:ablations/rope_theta"), "/w")
    assert {run.variant.label for run in ablation.runs} == {run.variant.label for run in plan_of("fim").runs}


def plan_of(name: str) -> Ablation:
    return planned(load_config(f"ablations/{name}"), "/w")


def test_a_base_that_holds_nothing_out_is_refused():
    config = load_config("ablations/fim")
    override(config, "corpus.heldout_fraction", "0.0")
    with pytest.raises(UserError, match=r"^corpus.heldout_fraction is 0, and runs are compared on held-out files"):
        planned(config, "/w")


def test_what_the_base_may_not_train_on_is_not_forgotten_by_a_corpus_of_a_variants_own():
    heldout = {"paths.heldout": "/h"}
    assert job(plan(["a:", "b: model.window=64"], **heldout), "curate").overrides == {}
    with pytest.raises(
        UserError, match=r"^the variant b curates a corpus .* not what /h does, which the base names in"
    ):
        plan(["a:", "b: corpus.near_threshold=0.9"], **heldout)
