"""The recipe for source code: from source trees to a curated corpus, in stages that each run once.

    listing -> licenses -> files (decoding, language, licence, filters) -> exact -> near -> split
                 (places of repositories) ... (signatures of files) ...

What grows with the corpus is a table on disk, worked through in portions. The first stages work unit by unit (whole
repositories, `units.py`): where some of the sources changed, the other units are not done again. The stages lie below
`stages/` of the output, each with its parts, its rejects and its manifest. Each is handed what its key is made of: the
stages before it that it reads, and its own part of the config. If a run is killed, the next one goes on after the last
stage or unit that was complete, and the outputs are the same bytes.
"""

import contextlib
import errno
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from sc2jax.assets import asset_path
from sc2jax.corpus import language, vendored
from sc2jax.corpus.config import (
    CorpusConfig,
    EngineConfig,
    FilterConfig,
    LicenseConfig,
    NearConfig,
    PartsConfig,
    RowGroupConfig,
    SignatureConfig,
    SourceConfig,
    SplitConfig,
)
from sc2jax.corpus.engine import use_engine
from sc2jax.corpus.heritage import Archive, open_archived
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.recipes.running import found_what_was_listed, run_stage, run_units
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import LeftOut, together
from sc2jax.corpus.sources.machine import machine_sources
from sc2jax.corpus.sources.walk import FoundRepository
from sc2jax.corpus.stages import licenses
from sc2jax.corpus.stages.corpus import write_corpus
from sc2jax.corpus.stages.exact import write_exact
from sc2jax.corpus.stages.files import write_files
from sc2jax.corpus.stages.identities import CORPUS
from sc2jax.corpus.stages.licenses import write_licenses
from sc2jax.corpus.stages.listing import Listing, write_listing
from sc2jax.corpus.stages.near import write_near
from sc2jax.corpus.stages.places import Places, write_places
from sc2jax.corpus.stages.signatures import write_signatures
from sc2jax.corpus.stages.split import sides_of_split, write_split
from sc2jax.corpus.stages.unseen_split import open_heldout, write_unseen_split
from sc2jax.corpus.tables import Tables
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest, is_finished, read_manifest
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import claimed, refuse_foreign
from sc2jax.settings import part
from sc2jax.storage import absolute, join

VERSION = 9
"""Raised whenever the code changes what comes out."""

STAGE = CORPUS
STAGES = "stages"
"""The folder of the stages, within that of the corpus."""


def curate(config: CorpusConfig, sources: Sequence[str], output: str, seed: int, heldout: str = "") -> Manifest:
    """Curates folders of repositories into `output`, or finds that it has been done; see `curation`."""
    return curation(config, sources, output, seed, heldout).run(output)


def curation(config: CorpusConfig, sources: Sequence[str], output: str, seed: int, heldout: str = "") -> Stage:
    """The stage that curates folders of repositories into a corpus.

    The sources are listed at once, into the folder of their stage; the other stages are run with this one.

    Args:
        config: the thresholds.
        sources: local folders; none means this machine's Python (`sources/machine.py`).
        output: where the corpus will go: `train/`, `heldout/` and `rejects/` in Parquet, and `stages/`.
        seed: of the permutations of MinHash and of the choice among installed distributions.
        heldout: a corpus whose held-out files, and what resembles them, may not be trained on; "" for none.

    Returns:
        The stage; the statistics of its manifest hold the funnel, languages, licences and the two sides of the split.

    Raises:
        UserError: `output` holds something else, a source is missing or empty, or holds something that cannot be read
            where that ends the work, `heldout` holds no such corpus; when it is run, no file is usable, or the disk is
            full.
    """
    refuse_foreign(output, STAGE)
    use_engine(config.engine, config.ray_address)
    unseen = _open_heldout(heldout, output, config) if heldout else None
    chosen = [SourceFolder(root) for root in sources] or machine_sources(config.max_distribution_bytes, seed)
    with explained_full_disk(output, "nothing stays of what was done"), claimed(output, STAGE):
        listing = list_anew(config, chosen, output, join(output, f"{STAGES}/listing"))
    inputs = {
        "listing": listing.digest,
        "repositories": listing.account_digest,
        "left_out": listing.left_out_digest,
        "tables": _tables_digest(),
    }
    if unseen is not None:
        inputs["heldout"] = unseen.digest

    def write(folder: str) -> Written:
        with explained_full_disk(output, "finished stages stay"):
            return _run_stages(output, folder, listing, config, seed, unseen)

    def intact(manifest: Manifest) -> bool:
        return found_what_was_listed(manifest) and not (config.retry_failed and _has_failed(output))

    return Stage(STAGE, VERSION, {"corpus": config, "seed": seed}, inputs, write, intact, keeps=(STAGES,))


@contextlib.contextmanager
def explained_full_disk(output: str, stays: str) -> Iterator[None]:
    """Says in one message that a disk is full, and what stays of the work.

    Raises:
        UserError: it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk that holds {output} is full; make room and run the same command again ({stays})"
        ) from error


def _open_heldout(folder: str, output: str, config: CorpusConfig) -> Committed:
    if absolute(folder) == absolute(output):
        raise UserError(f"paths.heldout is {folder}, the very corpus that is curated; name another one")
    return open_heldout(absolute(folder), part(config, SignatureConfig), part(config, SplitConfig))


def list_anew(config: CorpusConfig, sources: Sequence[SourceFolder], output: str, folder: str) -> Listing:
    """Lists the sources anew, whatever was listed before: nothing else says whether they have changed.

    Args:
        config: of which what says how sources are read matters.
        sources: to list.
        output: a folder that must not lie among the files to list.
        folder: for the listing.
    """
    settings = part(config, SourceConfig)
    archive = Archive(absolute(config.heritage_contents), config.github_archive and absolute(config.github_archive))

    def archived(
        source: str, left_out: LeftOut, within: str
    ) -> contextlib.AbstractContextManager[Iterator[FoundRepository]] | None:
        return open_archived(source, left_out, archive, within)

    write = functools.partial(write_listing, sources=sources, output=output, source_config=settings, archived=archived)
    stage = Stage("listing", VERSION, {"source_config": settings}, {}, write, intact=lambda _: False)
    return Listing(Committed(folder, stage.run(folder)))


def _run_stages(
    output: str, unfinished: str, listing: Listing, config: CorpusConfig, seed: int, unseen: Committed | None
) -> Written:
    """The stages in their order below `output`, and from them the corpus in `unfinished`."""
    run = functools.partial(run_stage, join(output, STAGES), VERSION)
    by_unit = functools.partial(run_units, join(output, STAGES), VERSION)
    parts = {"parts_config": part(config, PartsConfig)}
    engine = {"engine_config": part(config, EngineConfig)}
    reading = {"source_config": part(config, SourceConfig)}
    given = {"listing": listing, "tables": Tables(_tables_digest())}
    found = by_unit("licenses", write_licenses, given, {"license_config": part(config, LicenseConfig), **reading})
    deciding = {"filter_config": part(config, FilterConfig), **reading, **parts}
    files = by_unit("files", write_files, {**given, "licenses": found}, deciding)
    signing = {"signature_config": part(config, SignatureConfig)}
    signatures = by_unit("signatures", write_signatures, {"files": files}, {**signing, "seed": seed})
    places = Places(run("places", write_places, {"listing": listing}, engine), len(listing))
    exact = run("exact", write_exact, {"files": files, "places": places}, {**parts, **engine})
    signed = {"files": files, "places": places, "exact": exact, "signatures": signatures}
    near = run("near", write_near, signed, {"near_config": part(config, NearConfig), **parts, **engine})
    dividing = {"split_config": part(config, SplitConfig), **signing, **parts, **engine}
    if unseen is None:
        split = run("split", write_split, {**signed, "near": near}, dividing)
    else:
        others = {**signed, "near": near, "heldout": unseen}
        split = run("split", write_unseen_split, others, {**dividing, "seed": seed})
    stages = [exact, near, split]
    left_out = together(listing.left_out, *(units.stage.manifest.statistics["left_out"] for units in (found, files)))
    sides = sides_of_split(split)
    row_groups = part(config, RowGroupConfig)
    outputs, statistics = write_corpus(
        unfinished, listing, files, stages, sides, left_out, row_groups, parts["parts_config"]
    )
    if not statistics["split"]["train"]["files"]:
        raise _nothing_left([files.stage, *stages])
    return outputs, statistics


def _has_failed(output: str) -> bool:
    """Whether something that was listed could not be read when the corpus was made."""
    folders = [join(output, f"{STAGES}/{name}") for name in ("licenses", "files")]
    return any(is_finished(folder) and read_manifest(folder).statistics["failed"] for folder in folders)


def _nothing_left(stages: Sequence[Committed]) -> UserError:
    reasons: Counter[str] = Counter()
    for stage in stages:
        for line in stage.manifest.statistics["funnel"]:
            reasons.update(line["dropped"])
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    return UserError(f"no usable file is left of the sources ({listed}); name a folder with source code in it")


def _tables_digest() -> str:
    """A digest of the tables in `data/` that decisions depend on."""
    digest = hashlib.sha256()
    for name in (*language.TABLES, *vendored.TABLES, *licenses.TABLES):
        digest.update(asset_path("data", name).read_bytes())
    return digest.hexdigest()
