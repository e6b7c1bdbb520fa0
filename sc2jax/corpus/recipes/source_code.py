"""The recipe for source code: from source trees to a curated corpus, in stages that each run once.

    sources -> licenses -> files (decoding, language, licence, filters) -> exact -> signatures -> near -> split

The stages lie below `stages/` of the output, each with its parts, its rejects and its manifest. Each is handed what its
key is made of: the stages before it that it reads, and its own part of the config. If a run is killed, the next one
goes on after the last stage that was complete, and the outputs are the same bytes.
"""

import errno
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sc2jax.assets import asset_path
from sc2jax.corpus import language
from sc2jax.corpus.config import (
    CorpusConfig,
    FilterConfig,
    LicenseConfig,
    NearConfig,
    PartsConfig,
    RowGroupConfig,
    SourceConfig,
    SplitConfig,
)
from sc2jax.corpus.heritage import Archive, open_archived
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import CHANGED, together
from sc2jax.corpus.sources.listing import Listing, list_sources
from sc2jax.corpus.sources.machine import machine_sources
from sc2jax.corpus.stages import licenses
from sc2jax.corpus.stages.corpus import write_corpus
from sc2jax.corpus.stages.exact import write_exact
from sc2jax.corpus.stages.files import write_files
from sc2jax.corpus.stages.licenses import write_licenses
from sc2jax.corpus.stages.near import write_near
from sc2jax.corpus.stages.signatures import write_signatures
from sc2jax.corpus.stages.split import write_split
from sc2jax.corpus.stages.unseen_split import open_heldout, write_unseen_split
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import refuse_foreign
from sc2jax.settings import part
from sc2jax.storage import absolute, join

VERSION = 7
"""Raised whenever the code changes what comes out."""

STAGE = "curate"
_STAGES = "stages"
"""The folder of the stages, within that of the corpus."""


def curate(config: CorpusConfig, sources: Sequence[str], output: str, seed: int, heldout: str = "") -> Manifest:
    """Curates folders of repositories into `output`, or finds that it has been done; see `curation`."""
    return curation(config, sources, output, seed, heldout).run(output)


def curation(config: CorpusConfig, sources: Sequence[str], output: str, seed: int, heldout: str = "") -> Stage:
    """The stage that curates folders of repositories into a corpus.

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
    unseen = _open_heldout(heldout, output, config) if heldout else None
    chosen = [SourceFolder(root) for root in sources] or machine_sources(config.max_distribution_bytes, seed)
    archive = Archive(absolute(config.heritage_contents), config.github_archive and absolute(config.github_archive))
    archived = functools.partial(open_archived, archive=archive)
    listing = list_sources(chosen, config.max_file_bytes, output, config.damaged, config.sample, archived)
    inputs = {
        "listing": listing.digest,
        "repositories": listing.account_digest,
        "left_out": listing.left_out.digest,
        "tables": _tables_digest(),
    }
    if unseen is not None:
        inputs["heldout"] = unseen.digest

    def write(folder: str) -> Written:
        try:
            return _run_stages(output, folder, listing, config, seed, unseen)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"the disk that holds {output} is full; make room and run the same command again (finished stages stay)"
            ) from error

    intact = _found_what_was_listed
    return Stage(STAGE, VERSION, {"corpus": config, "seed": seed}, inputs, write, intact, keeps=(_STAGES,))


def _open_heldout(folder: str, output: str, config: CorpusConfig) -> Committed:
    if absolute(folder) == absolute(output):
        raise UserError(f"paths.heldout is {folder}, the very corpus that is curated; name another one")
    return open_heldout(absolute(folder), part(config, NearConfig), part(config, SplitConfig))


def _run_stages(
    output: str, unfinished: str, listing: Listing, config: CorpusConfig, seed: int, unseen: Committed | None
) -> Written:
    """The stages in their order below `output`, and from them the corpus in `unfinished`."""
    run = functools.partial(_run, output)
    parts = {"parts_config": part(config, PartsConfig)}
    reading = {"source_config": part(config, SourceConfig)}
    signing = {"near_config": part(config, NearConfig), "seed": seed}
    found = run(
        "licenses",
        write_licenses,
        {"listing": listing},
        {"license_config": part(config, LicenseConfig), **reading, **parts},
    )
    files = run(
        "files",
        write_files,
        {"listing": listing, "licenses": found},
        {"filter_config": part(config, FilterConfig), **reading, **parts},
    )
    exact = run("exact", write_exact, {"files": files}, parts)
    signatures = run(
        "signatures",
        write_signatures,
        {"files": files, "exact": exact},
        signing,
    )
    near = run("near", write_near, {"files": files, "exact": exact, "signatures": signatures}, parts)
    divided = {"files": files, "near": near, "signatures": signatures}
    dividing = {"split_config": part(config, SplitConfig), **parts}
    if unseen is None:
        split = run("split", write_split, divided, dividing)
    else:
        split = run("split", write_unseen_split, {**divided, "heldout": unseen}, {**dividing, **signing})
    deciding = [files, exact, near, split]
    _refuse_empty(split, deciding)
    changed = (stage.manifest.statistics["left_out"] for stage in (found, files))
    left_out = together(listing.left_out.statistics, *changed)
    found = listing.repositories
    return write_corpus(unfinished, files, split, deciding, found, left_out, part(config, RowGroupConfig), **parts)


def _run(
    output: str,
    name: str,
    write: Callable[..., Written],
    inputs: Mapping[str, Listing | Committed],
    settings: Mapping[str, Any],
) -> Committed:
    """Runs one stage: `write` is handed its inputs and settings, and nothing else, so its key holds all it reads."""
    digests = {of: given.digest for of, given in inputs.items()}
    if "listing" in inputs:
        digests["tables"] = _tables_digest()
    work = functools.partial(write, **inputs, **settings)
    stage = Stage(name, VERSION, settings, digests, work, _found_what_was_listed)
    folder = join(output, f"{_STAGES}/{name}")
    return Committed(folder, stage.run(folder))


def _found_what_was_listed(manifest: Manifest) -> bool:
    """Whether all files were what was listed when they were read: the key of a stage stands for those alone."""
    left_out = manifest.statistics.get("left_out", {})
    return isinstance(left_out, dict) and not CHANGED & left_out.keys()


def _refuse_empty(split: Committed, stages: Sequence[Committed]) -> None:
    if split.manifest.under("train"):
        return
    reasons: Counter[str] = Counter()
    for stage in stages:
        for line in stage.manifest.statistics["funnel"]:
            reasons.update(line["dropped"])
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    raise UserError(f"no usable file is left of the sources ({listed}); name a folder with source code in it")


def _tables_digest() -> str:
    """A digest of the tables in `data/` that decisions depend on."""
    digest = hashlib.sha256()
    for name in (*language.TABLES, *licenses.TABLES):
        digest.update(asset_path("data", name).read_bytes())
    return digest.hexdigest()
