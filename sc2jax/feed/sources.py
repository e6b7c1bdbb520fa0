"""What determines the training rows, and how the datasets of a mixture's sources are opened."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.mixtures import SourceShare, read_mixture
from sc2jax.feed.units import Units
from sc2jax.json_files import Count, as_kind
from sc2jax.records.manifest import MANIFEST, Manifest, is_finished, read_manifest
from sc2jax.storage import inside, join
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.formats import FORMATS
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class FeedInputs:
    """All that determines the rows but the size of the batch; `tokens` is the folder of `sc2jax tokenize`."""

    corpus: str
    tokenizer: Tokenizer
    config: FeedConfig
    row_length: int
    formats: FormatConfig
    fim: FimConfig
    seed: int
    tokens: str = ""

    @property
    def skip_damaged(self) -> bool:
        """Whether damage is left out."""
        return self.config.damaged == "skip"


@dataclasses.dataclass(frozen=True)
class SourceUnits:
    """The row groups of a source's training split, and the format of the documents in there."""

    name: str
    format: str
    units: Units


def refuse_absent(corpus: str, name: str, mixture: Sequence[SourceShare]) -> None:
    """Makes sure that all sources of a mixture that have a folder of their own are there.

    Raises:
        UserError: some are missing; the message names them all.
    """
    absent = [share for share in mixture if share.folder and not is_finished(inside(corpus, share.folder))]
    if absent:
        missing = ", ".join(f"{share.name} ({share.format})" for share in absent)
        places = ", ".join(join(corpus, share.folder) for share in absent[:2]) + (", ..." if len(absent) > 2 else "")
        raise UserError(
            f"the mixture {name!r} has {len(mixture)} sources, of which the corpus lacks {len(absent)}: {missing}; "
            f"each is a dataset with a manifest.json in a folder of its own: {places}. Put them there, or choose "
            "another mixture with --config.feed.mixture: 'repositories' takes what `sc2jax curate` writes, and a .json "
            f"file like those in {asset_path('data', 'mixtures')} whatever it lists"
        )


def open_units(inputs: FeedInputs, share: SourceShare, split: str) -> Units:
    """The units of one split of a source's dataset, of which there may be none.

    Raises:
        UserError: the dataset is unfinished or damaged, or holds other records than the source's format is made of.
    """
    folder = inside(inputs.corpus, share.folder) if share.folder else inputs.corpus
    wanted = FORMATS[share.format]
    units = Units(folder, split, wanted.columns, wanted.group_by, wanted.kind, skip_damaged=inputs.skip_damaged)
    units.refuse_other_records(f"the dataset {folder} of the source {share.name!r}, whose format is {share.format!r},")
    return units


def open_sources(inputs: FeedInputs) -> list[SourceUnits]:
    """What `tokenize` reads of each source of the mixture.

    Raises:
        UserError: a dataset is missing, unfinished, damaged or empty.
    """
    mixture = read_mixture(inputs.config.mixture)
    refuse_absent(inputs.corpus, inputs.config.mixture, mixture)
    opened = []
    for share in mixture:
        units = open_units(inputs, share, "train")
        units.require("train")
        opened.append(SourceUnits(share.name, share.format, units))
    return opened


def tokens_config(inputs: FeedInputs, mixture: Sequence[SourceShare]) -> Mapping[str, Any]:
    """The settings that the tokens depend on, besides how often they are rendered.

    Where damage is skipped the tokens may lack what those of an equal corpus have.
    """
    return {
        **documents_config(inputs.formats, inputs.fim, inputs.seed, mixture),
        "skip_damaged": inputs.skip_damaged,
    }


def documents_config(
    formats: FormatConfig, fim: FimConfig, seed: int, mixture: Sequence[SourceShare]
) -> dict[str, Any]:
    """The settings that the documents depend on, as they are encoded.

    Infilling is one of them at document level alone, and a source's share is none.
    """
    return {
        "seed": seed,
        "format": dataclasses.asdict(formats),
        "fim": dataclasses.asdict(fim) if fim.level == "document" else {},
        "sources": {share.name: {"format": share.format, "folder": share.folder} for share in mixture},
    }


def dataset_names(mixture: Sequence[SourceShare]) -> list[str]:
    """What the datasets of a mixture are called among a stage's inputs: the corpus, or a folder below it, each once."""
    return sorted({f"corpus/{share.folder}" if share.folder else "corpus" for share in mixture})


def tokens_inputs(inputs: FeedInputs, mixture: Sequence[SourceShare]) -> dict[str, str]:
    """The digests of what the tokens are made of, as far as it is there: the tokenizer, and the datasets."""
    digests = {"tokenizer": inputs.tokenizer.digest}
    for name in dataset_names(mixture):
        folder = f"{inputs.corpus}{name.removeprefix('corpus')}"
        if is_finished(folder):
            digests[name] = read_manifest(folder).digest
    return digests


class SourceTokens(TypedDict):
    """What was made of a source: its tokens, by rendering, and what damage left out of it."""

    tokens: Annotated[list[Count], Meta(min_length=1)]
    left_out: dict[str, Count]
    damaged_units: Count


class _TokensStatistics(TypedDict):
    sources: dict[str, SourceTokens]


def tokens_of_sources(folder: str, manifest: Manifest) -> dict[str, SourceTokens]:
    """What a tokens folder's manifest says of each source.

    Raises:
        UserError: the manifest is none of tokens.
    """
    remedy = f"name a folder that `sc2jax tokenize` wrote, or delete {folder} and run it again"
    return as_kind(manifest.statistics, _TokensStatistics, join(folder, MANIFEST), remedy)["sources"]


def lacks_damaged(folder: str, manifest: Manifest) -> bool:
    """Whether something damaged was left out of tokens; else they are whole, whatever was to become of damage.

    Raises:
        UserError: the manifest is none of tokens.
    """
    made = tokens_of_sources(folder, manifest).values()
    return any(source["damaged_units"] or source["left_out"] for source in made)


def refuse_other_tokens(inputs: FeedInputs, mixture: Sequence[SourceShare], manifest: Manifest) -> None:
    """Makes sure that tokens are those that the inputs would be encoded to.

    Raises:
        UserError: naming what they were made of that is another one.
    """
    wanted, found = tokens_config(inputs, mixture), manifest.config
    differing = [name for name in ("seed", "format", "fim") if found.get(name) != wanted[name]]
    sources = found.get("sources", {})
    differing += [f"source {name}" for name, said in wanted["sources"].items() if sources.get(name) != said]
    differing += ["feed.damaged"] if lacks_damaged(inputs.tokens, manifest) and not wanted["skip_damaged"] else []
    digests = tokens_inputs(inputs, mixture)
    differing += [name for name, digest in digests.items() if manifest.inputs.get(name) != digest]
    if differing:
        what = ", ".join(differing)
        raise UserError(
            f"the tokens in {inputs.tokens} were made with another {what}; run `sc2jax tokenize` to make them anew, or "
            "bring back what they were made with"
        )
