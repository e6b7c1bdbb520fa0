"""The recipe that builds a corpus again: from its identities, which hold no content, and an archive of contents.

    identities, sources -> places of contents -> parts

Nothing is decided anew: which files there are, in which order, and what was changed in them stands in the identities
(`stages/identities.py`). The result is the same bytes, or nothing.
"""

import dataclasses
from collections.abc import Sequence

from sc2jax import storage
from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import STAGE, STAGES, explained_full_disk, list_anew
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.machine import machine_sources
from sc2jax.corpus.stages.identities import open_corpus
from sc2jax.corpus.stages.rebuild import refuse_other_writer, write_rebuilt
from sc2jax.errors import UserError
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import refuse_foreign
from sc2jax.storage import absolute, join

VERSION = 1
"""Raised whenever the code changes what comes out beside the parts, which are what they were."""


def rebuilding(config: CorpusConfig, sources: Sequence[str], output: str, seed: int, manifest: str) -> Stage:
    """The stage that builds a corpus again.

    Args:
        config: of which only what says how sources are read matters.
        sources: local folders and archives with the contents; none means this machine's Python.
        output: where the corpus will go: `train/`, `heldout/` and `identities/`.
        seed: of the choice among installed distributions.
        manifest: the identities of the corpus, or a corpus.

    Raises:
        UserError: `output` holds something else, `manifest` no identities, or Parquet is written in another way here;
            when it is run, contents are missing, or something comes out other than it was.
    """
    refuse_foreign(output, STAGE)
    corpus = open_corpus(absolute(manifest))
    if f"{corpus.folder}/".startswith(f"{absolute(output)}/"):
        raise UserError(f"paths.manifest is {manifest}, the very corpus that would be built; name another output")
    refuse_other_writer(corpus)

    def write(folder: str) -> Written:
        chosen = [SourceFolder(root) for root in sources] or machine_sources(config.max_distribution_bytes, seed)
        with explained_full_disk(output, "nothing stays of what was done"):
            largest = corpus.statistics["largest_file"]
            reading = dataclasses.replace(config, max_file_bytes=largest + 1, sample=1.0)
            place = join(folder, "listing")
            try:
                return write_rebuilt(folder, corpus, list_anew(reading, chosen, output, place))
            finally:
                storage.delete_folder(place)

    return Stage(STAGE, VERSION, {}, {"identities": corpus.digest}, write, keeps=(STAGES,))
