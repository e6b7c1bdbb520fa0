"""What determines the training rows, and how the sources of a mixture are opened over a corpus."""

import dataclasses
from collections.abc import Sequence

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.feed.cache import CachedDocuments, refuse_stale
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.documents import Documents, DocumentWriter, WrittenDocuments
from sc2jax.feed.mixtures import SourceShare
from sc2jax.feed.streams import Source
from sc2jax.feed.units import Units
from sc2jax.records.manifest import is_finished
from sc2jax.storage import inside, join
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.formats import FORMATS, is_infilled
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
        """Whether damaged parts are left out."""
        return self.config.damaged == "skip"


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


def document_writer(inputs: FeedInputs, share: SourceShare) -> DocumentWriter:
    """How the records of a source become documents."""
    return DocumentWriter(share.format, inputs.formats, inputs.fim)


def open_documents(inputs: FeedInputs, mixture: Sequence[SourceShare]) -> list[WrittenDocuments]:
    """The training documents of each source of a mixture.

    Raises:
        UserError: a dataset is unfinished, damaged or empty.
    """
    refuse_absent(inputs.corpus, inputs.config.mixture, mixture)
    opened = []
    for share in mixture:
        units = open_units(inputs, share, "train")
        units.require("train")
        writer = document_writer(inputs, share)
        opened.append(WrittenDocuments(share.name, units, writer, inputs.tokenizer, inputs.seed))
    return opened


def open_sources(inputs: FeedInputs, mixture: Sequence[SourceShare]) -> list[Source]:
    """What streams read, for each source of a mixture.

    Raises:
        UserError: a dataset is unfinished, damaged or empty, or its tokens are those of something else.
    """
    written = open_documents(inputs, mixture)
    documents: Sequence[Documents] = written
    if inputs.config.tokenized:
        refuse_stale(inputs.tokens, written)
        documents = [
            CachedDocuments(inputs.tokens, of_source, skip_damaged=inputs.skip_damaged) for of_source in written
        ]
    return [
        Source(
            share.name,
            share.share,
            of_source,
            share.max_epochs,
            inputs.skip_damaged,
            units.digest,
            is_infilled(share.format, inputs.fim),
        )
        for share, of_source, units in zip(mixture, documents, (source.units for source in written), strict=True)
    ]
