"""Which stages before training two runs have in common: those that nothing of what differs between them goes into."""

import dataclasses
from typing import Any

from sc2jax import storage
from sc2jax.config import Settings
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import documents_config
from sc2jax.records.manifest import sha256_of
from sc2jax.runs.inputs import stages_before
from sc2jax.runs.run import NAMED, source_folders

SHARED = tuple(stage for stage in NAMED if stage != "train")
"""The stages that runs may share, each after those that it reads."""


def sharing_key(settings: Settings, stage: str) -> str:
    """The digest of the settings that a stage's outputs and those of the stages that it reads follow from.

    A stage that `paths` names is what lies there.
    """
    named = getattr(settings.paths, stage)
    if named:
        return sha256_of({"stage": stage, "path": storage.absolute(named)})
    return made_key(settings, stage)


def made_key(settings: Settings, stage: str) -> str:
    """The same of a stage that the run makes itself, whatever `paths` names."""
    before = {name: sharing_key(settings, name) for name in stages_before(stage)}
    return sha256_of({"stage": stage, "sections": stage_sections(settings, stage), "before": before})


def stage_sections(settings: Settings, stage: str) -> dict[str, Any]:
    """What a stage's outputs follow from beside the stages that it reads: its part of the config, and what it is given.

    Whole sections, for what does not decide by itself (how much of the machine is read) may decide by what is read.

    Raises:
        UserError: there is no such mixture.
    """
    if stage == "corpus":
        sources = [storage.absolute(folder) for folder in source_folders(settings)]
        heldout = settings.paths.heldout and storage.absolute(settings.paths.heldout)
        manifest = settings.paths.manifest and storage.absolute(settings.paths.manifest)
        given = {"source": sources, "heldout": heldout, "manifest": manifest}
        return {"corpus": dataclasses.asdict(settings.corpus), "seed": settings.seed, **given}
    if stage == "tokenizer":
        if settings.training.model_of_start:
            return {"start": settings.paths.start}
        return {"tokenizer": dataclasses.asdict(settings.tokenizer), "seed": settings.seed}
    mixture = read_mixture(settings.feed.mixture)
    documents = documents_config(settings.format, settings.fim, settings.seed, mixture)
    skips = settings.feed.damaged == "skip"
    return {**documents, "skip_damaged": skips, "tokenize": dataclasses.asdict(settings.tokenize)}
