"""The stage `tokenize` of a run, which `train` does first where it is missing."""

import dataclasses
import functools
import json

from sc2jax.config import differing_keys
from sc2jax.errors import UserError
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import open_sources, tokens_config
from sc2jax.feed.tokenizing import lay_tokens
from sc2jax.records.manifest import Manifest, canonical_json, is_finished, read_manifest
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import notes_folder
from sc2jax.runs.inputs import feed_inputs, input_digests
from sc2jax.runs.run import Run, say

VERSION = 6
_WORTH_PROCESSES = 2**23
"""Bytes of compressed text from which on processes are worth their start."""


def tokenize(run: Run) -> Manifest:
    """Lays the tokens of the run's mixture flat, unless it is done.

    Raises:
        UserError: the corpus or the tokenizer is missing or damaged, or the folder holds something else.
    """
    stage = _stage(run)
    whole = _whole(stage)
    # Of whole tokens that are damaged themselves no part is made again where something may be left out of it.
    manifest = run.do(whole if whole.done(run.folder("tokenize")) is not None else stage)
    _say_tokens(run, manifest)
    return manifest


def ready_tokens(run: Run) -> None:
    """Makes the run's tokens where they are missing, and makes sure that they are the run's where they are not.

    Raises:
        UserError: as for the two; or `paths` names a folder for them that has none, in which another run would write.
    """
    if _finished(run) is not None:
        refuse_other_tokens(run)
    elif run.settings.paths.tokenize:
        raise UserError(
            f"paths.tokenize names {run.settings.paths.tokenize}, which holds no finished tokens; run "
            "`sc2jax tokenize` there, or leave paths.tokenize out"
        )
    else:
        tokenize(run)


def refuse_other_tokens(run: Run) -> None:
    """Makes sure that the run's tokens, if there are any, are those that its corpus would be encoded to now.

    Raises:
        UserError: they were made of something else; whether they are made anew is for the user to decide.
    """
    stage, found = _stage(run), _finished(run)
    if found is None or found.key in (stage.key, _whole(stage).key):
        return
    wanted = json.loads(canonical_json(stage.config))
    differing = differing_keys(wanted, dict(found.config))
    differing += [name for name, digest in stage.inputs.items() if found.inputs.get(name) != digest]
    what = ", ".join(differing) or "version of sc2jax"
    raise UserError(
        f"the tokens in {run.folder('tokenize')} were made with another {what}; run `sc2jax tokenize` to make them "
        "anew, or bring back what they were made with"
    )


def _finished(run: Run) -> Manifest | None:
    folder = run.folder("tokenize")
    return read_manifest(folder) if is_finished(folder) else None


def _whole(stage: Stage) -> Stage:
    """The stage with nothing left out, whose tokens are as good where damage would be."""
    return dataclasses.replace(stage, settings={**stage.settings, "skip_damaged": False})


def _stage(run: Run) -> Stage:
    digests = input_digests(run, "tokenize")  # first, so that it is the corpus that is missed first
    settings, inputs = run.settings, feed_inputs(run)
    sections = {**tokens_config(inputs, read_mixture(settings.feed.mixture)), "tokenize": settings.tokenize}

    def write(folder: str) -> Written:
        from sc2jax.corpus.engine import map_units  # Daft takes a while to import

        sources = open_sources(inputs)
        many = sum(sum(source.units.sizes) for source in sources) >= _WORTH_PROCESSES
        spread = functools.partial(map_units, in_processes=many)
        return lay_tokens(folder, notes_folder(folder, stage.key), inputs, sources, settings.tokenize, spread)

    stage = Stage("tokenize", VERSION, sections, digests, write, resumes=True)
    return stage


def _say_tokens(run: Run, manifest: Manifest) -> None:
    sources = manifest.statistics["sources"]
    total = sum(sum(source["tokens"]) for source in sources.values())
    damaged = sum(source["damaged_units"] for source in sources.values())
    left_out = sum(sum(source["left_out"].values()) for source in sources.values())
    renderings = run.settings.tokenize.renderings
    lost = f"; left out as damaged: {damaged:,} row groups, {left_out:,} records" if damaged or left_out else ""
    say(
        f"{total:,} tokens of {len(sources)} source{'s' * (len(sources) > 1)}"
        f"{f' in {renderings} renderings' * (renderings > 1)}{lost}",
        run.folder("tokenize"),
    )
