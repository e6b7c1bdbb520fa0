"""Curates source trees into a deduplicated, documented corpus.

Reads the repositories, folders and archives of `paths.source` (this machine's Python where it is empty); writes
`corpus/`. What cannot be read is left out, counted by reason and named at the end, unless `corpus.damaged` is "stop". A
repository above `corpus.max_document_bytes` becomes several documents, which is said too. The held-out files of the
corpus that `paths.heldout` names, and what resembles them, are left out of what is trained on, so that models of both
corpora can be compared on them.

With `paths.manifest`, a corpus or its `identities/`, that very corpus is built again, to the byte: the contents of its
files are looked for in the sources by their identifiers, and nothing is decided anew.
"""

from collections.abc import Sequence

from sc2jax.config import Settings
from sc2jax.corpus.recipes.rebuild import rebuilding
from sc2jax.corpus.recipes.source_code import curation
from sc2jax.corpus.sources.left_out import in_a_line
from sc2jax.errors import UserError
from sc2jax.records.stage import Stage
from sc2jax.records.statistics import corpus_statistics
from sc2jax.runs.run import open_run, say, source_folders


def run(settings: Settings, workdir: str) -> None:
    """Curates the sources of the config."""
    this = open_run(settings, workdir)
    folder = this.folder("corpus")
    sources = source_folders(settings)
    if settings.paths.source and not sources:
        raise UserError(f"paths.source {settings.paths.source!r} names no folder; leave it empty for the default")
    manifest = this.do(_stage(settings, sources, folder), "corpus")
    statistics = corpus_statistics(folder, manifest)
    first, last, split = statistics["funnel"][0], statistics["funnel"][-1], statistics["split"]
    say(
        f"{first['files_in']:,} files, {last['files_out']:,} kept ({last['bytes_out'] / 1e6:.1f} MB); "
        f"repositories: {split['train']['repositories']:,} train, {split['heldout']['repositories']:,} held out",
        folder,
    )
    cut = statistics["cut"]
    if cut["repositories"]:
        say(
            f"repositories above {settings.corpus.max_document_bytes:,} bytes: {cut['repositories']:,}, "
            f"which became {cut['documents']:,} documents"
        )
    left_out = in_a_line(statistics["left_out"])
    if left_out:
        say(f"left out of the sources: {left_out}")


def _stage(settings: Settings, sources: Sequence[str], folder: str) -> Stage:
    paths = settings.paths
    if not paths.manifest:
        return curation(settings.corpus, sources, folder, settings.seed, paths.heldout)
    if paths.heldout:
        raise UserError(
            "paths.manifest and paths.heldout are both set; what is built again holds out what it did; name one of them"
        )
    return rebuilding(settings.corpus, sources, folder, settings.seed, paths.manifest)
