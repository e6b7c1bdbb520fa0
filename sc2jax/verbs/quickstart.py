"""Runs the whole path at toy scale: curate, tokenizer, tokenize, train, evaluate, complete, and a report page.

A stage that is complete is not done again.
"""

import time

from sc2jax.config import Settings
from sc2jax.display import print_text
from sc2jax.runs.run import open_run, say
from sc2jax.verbs import load, sentence

STAGES = ("curate", "tokenizer", "tokenize", "train", "evaluate", "complete", "report")


def run(settings: Settings, workdir: str) -> None:
    """Runs every stage in turn."""
    started = time.monotonic()
    for number, stage in enumerate(STAGES, start=1):
        print_text(f"[{number}/{len(STAGES)}] {stage}: {sentence(stage)}")
        stage_started = time.monotonic()
        load(stage)(settings, workdir)
        say(f"{time.monotonic() - stage_started:.1f} s")
    page = f"{open_run(settings, workdir).folder('report')}/index.html"
    print_text(f"done in {time.monotonic() - started:.0f} s; the report: {page}")
