"""The stage `tokenize` of a run, which `train` does first where it is missing."""

import dataclasses
import functools

from sc2jax.errors import UserError
from sc2jax.feed import sources
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import lacks_damaged, open_sources, tokens_config, tokens_of_sources
from sc2jax.feed.tokenizing import lay_tokens
from sc2jax.records.manifest import Manifest, is_finished, read_manifest
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import notes_folder
from sc2jax.runs.inputs import feed_inputs, input_digests, refuse_mixed
from sc2jax.runs.run import Run, say
from sc2jax.settings import decisive

VERSION = 6
_WORTH_PROCESSES = 2**23
"""Bytes of compressed text from which on processes are worth their start."""


def tokenize(run: Run) -> Manifest:
    """Lays the tokens of the run's mixture flat, unless it is done.

    Raises:
        UserError: the corpus or the tokenizer is missing or damaged, or the folder holds something else.
    """
    stage, found = _stage(run), _finished(run)
    if found is not None and not lacks_damaged(run.folder("tokenize"), found):
        # Whole tokens serve, whatever was to become of damage then and now; damaged ones are made by today's rule.
        same = dataclasses.replace(stage, settings={**stage.settings, "skip_damaged": found.config.get("skip_damaged")})
        stage = same if same.done(run.folder("tokenize")) is not None else stage
    manifest = run.do(stage)
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
    found = _finished(run)
    if found is None:
        return
    refuse_mixed(run, "tokenize")
    settings, folder = run.settings, run.folder("tokenize")
    sources.refuse_other_tokens(feed_inputs(run), read_mixture(settings.feed.mixture), found)
    others = ["version of sc2jax"] if found.version != VERSION else []
    others += ["tokenize.renderings"] if found.config.get("tokenize") != decisive(settings.tokenize) else []
    if others:
        what = ", ".join(others)
        raise UserError(
            f"the tokens in {folder} were made with another {what}; run `sc2jax tokenize` to make them anew"
        )


def _finished(run: Run) -> Manifest | None:
    folder = run.folder("tokenize")
    return read_manifest(folder) if is_finished(folder) else None


def _stage(run: Run) -> Stage:
    digests = input_digests(run, "tokenize")  # first, so that it is the corpus that is missed first
    settings, inputs = run.settings, feed_inputs(run)
    sections = {**tokens_config(inputs, read_mixture(settings.feed.mixture)), "tokenize": settings.tokenize}

    def write(folder: str) -> Written:
        from sc2jax.corpus.engine import map_units  # Daft takes a while to import

        opened = open_sources(inputs)
        many = sum(sum(source.units.sizes) for source in opened) >= _WORTH_PROCESSES
        spread = functools.partial(map_units, in_processes=many)
        return lay_tokens(folder, notes_folder(folder, stage.key), inputs, opened, settings.tokenize, spread)

    stage = Stage("tokenize", VERSION, sections, digests, write, resumes=True)
    return stage


def _say_tokens(run: Run, manifest: Manifest) -> None:
    made = tokens_of_sources(run.folder("tokenize"), manifest)
    total = sum(sum(source["tokens"]) for source in made.values())
    damaged = sum(source["damaged_units"] for source in made.values())
    left_out = sum(sum(source["left_out"].values()) for source in made.values())
    renderings = run.settings.tokenize.renderings
    lost = ""
    if damaged or left_out:
        lost = f"; left out as damaged: {damaged:,} row groups, {left_out:,} records (to try again, delete the folder)"
    say(
        f"{total:,} tokens of {len(made)} source{'s' * (len(made) > 1)}"
        f"{f' in {renderings} renderings' * (renderings > 1)}{lost}",
        run.folder("tokenize"),
    )
