"""How the stages of a recipe are run: each in its folder, with a key that holds all that it is handed."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.left_out import CHANGED
from sc2jax.corpus.units import Units
from sc2jax.records.manifest import Manifest, is_finished, read_manifest
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import notes_folder
from sc2jax.storage import join


def run_stage(
    stages: str,
    version: int,
    name: str,
    write: Callable[..., Written],
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Committed:
    """Runs one stage: `write` is handed its inputs and settings, and nothing else, so its key holds all it reads."""
    digests = {of: given.digest for of, given in inputs.items()}
    work = functools.partial(write, **inputs, **settings)
    folder = join(stages, name)
    return Committed(folder, Stage(name, version, settings, digests, work).run(folder))


def run_units(
    stages: str,
    version: int,
    name: str,
    write: Callable[..., Written],
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Units:
    """Runs one stage that works unit by unit; units that an earlier run has done are not done again."""
    digests = {of: given.digest for of, given in inputs.items()}
    folder = join(stages, name)

    def work(unfinished: str) -> Written:
        notes = notes_folder(unfinished, stage.key)
        return write(unfinished, notes, _earlier(folder, stage), **inputs, **settings)

    def intact(manifest: Manifest) -> bool:
        retry = any(getattr(section, "retry_failed", False) for section in settings.values())
        return found_what_was_listed(manifest) and not (retry and manifest.statistics["failed"])

    stage = Stage(name, version, settings, digests, work, intact, resumes=True)
    return Units.of(Committed(folder, stage.run(folder)))


def _earlier(folder: str, stage: Stage) -> Units | None:
    """The units of the stage as it was, if it was made by this version."""
    if not is_finished(folder):
        return None
    manifest = read_manifest(folder)
    return Units.of(Committed(folder, manifest)) if manifest.version == stage.version else None


def found_what_was_listed(manifest: Manifest) -> bool:
    """Whether all files were what was listed when they were read: the key of a stage stands for those alone."""
    left_out = manifest.statistics.get("left_out", {})
    return isinstance(left_out, dict) and not CHANGED & left_out.keys()
