"""The plan of an ablation: which runs there are, which stages they share, and the command of each."""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sc2jax import storage
from sc2jax.ablation.variants import Variant, parse_variants
from sc2jax.config import Settings, to_settings
from sc2jax.config_values import override, value_of
from sc2jax.errors import UserError
from sc2jax.runs.ablation import Ablation, AblationRun, Job, run_name
from sc2jax.runs.inputs import MEASURED
from sc2jax.runs.run import MADE_BY, OF_OTHERS, Run, absolute_sources
from sc2jax.runs.sharing import SHARED, made_key, sharing_key
from sc2jax.storage import join

_SHOWN_OF_A_KEY = 8

_NOT_VARIED = {
    "seed": "ablation.seeds names the seeds",
    "ablation": "it says which runs there are",
    "evaluation": "every run is scored as the base config says",
    "completion": "no run reads it",
    "show": "no run reads it",
    "convert": "no run reads it",
    "hosts": "a run is what it is on any hosts",
    "paths.train": "every run is trained in a folder of its own",
    "paths.heldout": "no run is trained on what the base's corpus holds out",
}
"""The sections and keys that no variant may set, and why."""


def planned(config: ConfigDict, workdir: str) -> Ablation:
    """The ablation of a config in a working folder; nothing is read but the config.

    Raises:
        UserError: a variant sets what does not exist or does not fit, or two would be the same run.
    """
    workdir = storage.absolute(workdir)
    config = _with_absolute_paths(config)
    base = to_settings(config)
    _refuse_computed_from_others(config)
    if not (base.corpus.heldout_fraction or base.paths.corpus):
        raise UserError(
            "corpus.heldout_fraction is 0, and runs are compared on held-out files; hold some out, or name a corpus "
            "that does in paths.corpus"
        )
    variants = parse_variants(base.ablation.variants, base.ablation.grid)
    for variant in variants:
        _refuse_fixed(variant)
    settings = {variant.label: _settings(config, dict(variant.overrides), variant.label) for variant in variants}
    for label, of_variant in settings.items():
        _refuse_laxer(label, of_variant, base)
    _refuse_equal(settings)
    shared: dict[str, Job] = {}
    corpus = _stage_folder(config, "corpus", {}, {}, workdir, shared, heldout="")
    runs = [
        _run(config, variant, seed, workdir, corpus, shared)
        for variant, seed in itertools.product(variants, base.ablation.seeds)
    ]
    order = sorted(shared.values(), key=lambda job: SHARED.index(job.leaves[0].rpartition("/")[2]))
    return Ablation(config, base.ablation, workdir, corpus, tuple(order), tuple(runs))


def _refuse_computed_from_others(config: ConfigDict) -> None:
    """Makes sure that the base has the values that a config file has computed its variants from."""
    for item in to_settings(config).ablation.computed_from:
        key, _, value = item.partition("=")
        found = str(value_of(config, key))
        if found != value:
            raise UserError(
                f"{key} is {found}, and the variants were computed from {value}: name a base config that has it, as in "
                "--config=ablations/NAME:FILE, and leave the override out"
            )


def _with_absolute_paths(config: ConfigDict) -> ConfigDict:
    """The config, whose relative paths are those of today's working directory, for use from another."""
    config = _copied(config)
    paths: Any = config.paths
    paths.source = absolute_sources(to_settings(config))
    for name in (*SHARED, *OF_OTHERS):
        paths[name] = storage.absolute(paths[name]) if paths[name] else ""
    paths.train = ""  # of a run that was saved; ours write their own
    return config


def _copied(config: ConfigDict) -> ConfigDict:
    return ConfigDict(config.to_dict()).lock()


def _settings(config: ConfigDict, overrides: Mapping[str, str], label: str) -> Settings:
    config = _copied(config)
    try:
        for key, value in overrides.items():
            override(config, key, value)
        return to_settings(config)
    except UserError as error:
        raise UserError(f"the variant {label}: {error}") from error


def _refuse_fixed(variant: Variant) -> None:
    for key, _ in variant.overrides:
        why = _NOT_VARIED.get(key.partition(".")[0]) or _NOT_VARIED.get(key)
        if why:
            raise UserError(f"the variant {variant.label} sets {key}, which is the base's: {why}; leave it out")


def _refuse_laxer(label: str, settings: Settings, base: Settings) -> None:
    """Makes sure that a variant's corpus takes no less for a copy of a held-out file than the base's does."""
    for name in ("heldout_similarity", "near_ngram"):
        value, most = getattr(settings.corpus, name), getattr(base.corpus, name)
        if value > most:
            raise UserError(
                f"the variant {label}: corpus.{name} is {value}, more than the base's {most}: near-duplicates of the "
                "held-out files, which every run is scored on, would be trained on; lower it, or raise the base's"
            )


def _refuse_equal(settings: Mapping[str, Settings]) -> None:
    labels: dict[Settings, str] = {}
    for label, one in settings.items():
        if one in labels:
            raise UserError(f"the variants {labels[one]} and {label} come to the same settings; leave one out")
        labels[one] = label


def _run(
    config: ConfigDict, variant: Variant, seed: int, workdir: str, corpus: str, shared: dict[str, Job]
) -> AblationRun:
    """A run, whose stages before training are added to those that are shared, where they are not there."""
    base = to_settings(config)
    overrides = dict(variant.overrides)
    overrides |= _own_paths(base, _settings(config, overrides, variant.label), seed, overrides)
    folders: dict[str, str] = {}
    for stage in SHARED:
        seeded = {"seed": str(seed)} if stage == "tokenize" and seed != base.seed else {}
        folders[stage] = _stage_folder(config, stage, overrides | seeded, folders, workdir, shared, heldout=corpus)
    if base.paths.heldout and folders["corpus"] != corpus:
        raise UserError(
            f"the variant {variant.label} curates a corpus of its own, which leaves out what the base's corpus holds "
            f"out, and so not what {base.paths.heldout} does, which the base names in paths.heldout; leave that "
            "out, or the variant"
        )
    name, folder = run_name(variant, seed), join(workdir, f"runs/{run_name(variant, seed)}")
    seeded = {"seed": str(seed)} if seed != base.seed else {}
    overrides = overrides | _paths(folders)
    train = Job(
        f"{name}-train", "train", overrides | seeded, folder, (join(folder, "train"),), _writers(shared, folders)
    )
    measured = tuple(join(folder, measure) for measure in MEASURED.values())
    overrides = {key: value for key, value in overrides.items() if key != "paths.tokenize"} | {"paths.corpus": corpus}
    after = (train.name, *_writers(shared, {**folders, "tokenize": "", "corpus": corpus}))
    evaluate = Job(f"{name}-evaluate", "evaluate", overrides, folder, measured, after)
    return AblationRun(variant, seed, _settings(config, train.overrides, variant.label), train, evaluate)


def _own_paths(base: Settings, settings: Settings, seed: int, overrides: Mapping[str, str]) -> dict[str, str]:
    """Empties the paths that the base names for stages which come out otherwise in this run."""
    seeded = dataclasses.replace(settings, seed=seed)
    differs = False
    own = {}
    for stage in SHARED:
        of = seeded if stage == "tokenize" else settings
        # What comes after a stage of its own is its own too.
        differs = differs or made_key(of, stage) != made_key(base, stage)
        if differs and getattr(base.paths, stage) and f"paths.{stage}" not in overrides:
            own[f"paths.{stage}"] = ""
    return own


def _stage_folder(
    config: ConfigDict,
    stage: str,
    overrides: Mapping[str, str],
    before: Mapping[str, str],
    workdir: str,
    shared: dict[str, Job],
    *,
    heldout: str,
) -> str:
    """Where a stage of a run lies; its job is added to those that are shared, if it is a new one.

    Args:
        config: the base.
        stage: its name.
        overrides: those of the run.
        before: the folders of the stages before it.
        workdir: of the ablation.
        shared: the jobs so far, by what their outputs follow from.
        heldout: the base's corpus, on whose held-out files every run is scored; another corpus holds none of them.
    """
    settings = _settings(config, overrides, stage)
    if getattr(settings.paths, stage):
        return Run(settings, workdir).folder(stage)
    key = sharing_key(settings, stage)
    folder = join(workdir, f"shared/{key[:_SHOWN_OF_A_KEY]}")
    leaves = join(folder, stage)
    if key not in shared:
        needed = _needed(config, stage, {**overrides, **_paths(before)})
        read = dict(before)
        if stage == "corpus" and heldout:
            needed["paths.heldout"] = read["heldout"] = heldout
        verb = MADE_BY.get(stage, stage)
        name = f"{verb}-{key[:_SHOWN_OF_A_KEY]}"
        shared[key] = Job(name, verb, needed, folder, (leaves,), _writers(shared, read))
    return leaves


def _needed(config: ConfigDict, stage: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """The overrides without which a stage would come out otherwise."""
    key, needed = sharing_key(_settings(config, overrides, stage), stage), dict(overrides)
    for name in (*overrides, *overrides):  # one that another one goes with can be left out after that one
        others = {other: value for other, value in needed.items() if other != name}
        with contextlib.suppress(UserError):  # it goes with another one
            if sharing_key(_settings(config, others, stage), stage) == key:
                needed = others
    return needed


def _paths(folders: Mapping[str, str]) -> dict[str, str]:
    return {f"paths.{stage}": folder for stage, folder in folders.items()}


def _writers(shared: Mapping[str, Job], folders: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the jobs that write these folders."""
    read = set(folders.values())
    return tuple(job.name for job in shared.values() if not read.isdisjoint(job.leaves))
