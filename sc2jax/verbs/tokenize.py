"""Encodes the documents of the mixture ahead of training, for those who want to encode once.

Reads `corpus/` and `tokenizer/`; writes `tokenize/`, which a feed with `feed.tokenized` reads.
"""

from sc2jax.config import Settings
from sc2jax.feed.cache import token_config, token_inputs, write_tokens
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.sources import open_documents
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import feed_inputs
from sc2jax.runs.run import open_run, say

VERSION = 4


def run(settings: Settings, workdir: str) -> None:
    """Encodes the mixture's training documents."""
    this = open_run(settings, workdir)
    sources = open_documents(feed_inputs(this), read_mixture(settings.feed.mixture))

    def write(folder: str) -> Written:
        return write_tokens(folder, sources, settings.tokenize.epochs)

    sections = token_config(sources) | {"tokenize": settings.tokenize}
    manifest = this.do(Stage("tokenize", VERSION, sections, token_inputs(sources), write))
    tokens = sum(manifest.statistics["tokens"].values())
    folder = this.folder("tokenize")
    say(f"{tokens:,} tokens in {settings.tokenize.epochs} epochs of {len(sources)} sources", folder)
