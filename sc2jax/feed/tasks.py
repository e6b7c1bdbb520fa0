"""The seqio view of a corpus: a Mixture of training rows, and Tasks of the documents that these are cut from.

`register_mixture` makes them available to users of seqio by `seqio.get_mixture_or_task`. The Mixture, asked for
`sequence_length={"targets": row_length}`, gives the very rows that `sc2jax train` reads, with their segments, positions
and weights. A Task gives the documents of one source as text and ids, a long one in consecutive pieces of the length
that is asked for, where seqio would trim it to the first.

seqio's own packing and feature converters take id 0 for padding, which in this vocabulary is the end of text: they give
it no weight, and drop it when they pack. `RowConverter` weights by position, the end of text included.

Training needs neither seqio nor TensorFlow: importing these takes more than 5 s and almost 1 GB.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.documents import DocumentWriter
from sc2jax.feed.mixtures import SourceShare, read_mixture
from sc2jax.feed.row_mixture import RowMixture
from sc2jax.feed.sources import FeedInputs, open_units
from sc2jax.feed.tensorflow_import import seqio, tf
from sc2jax.records.schemas import SPLITS
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import UNKNOWN_ID, Tokenizer

# Examples may be whole repositories: a large buffer of them would not fit in memory. The source shuffles units.
_SHUFFLE_BUFFER = 64


class TokenizerVocabulary(seqio.Vocabulary):
    """A tokenizer as a vocabulary of seqio; text that spells a special token stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(extra_ids=0)
        self.tokenizer = tokenizer

    @property
    def eos_id(self) -> int:
        """The end of text. seqio takes this id, 0, for padding; nothing here pads with it."""
        return int(Special.END_OF_TEXT)

    @property
    def bos_id(self) -> int:
        """A document begins after the end of the one before."""
        return int(Special.END_OF_TEXT)

    @property
    def unk_id(self) -> int:
        """What seqio writes for an id beyond the vocabulary."""
        return UNKNOWN_ID

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def _encode(self, s: str) -> Sequence[int]:
        return self.tokenizer.encode_text(s)

    def _decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(list(ids))

    def _encode_tf(self, s: tf.Tensor | str | bytes) -> tf.Tensor:
        def encode(text: bytes | np.ndarray) -> np.ndarray:
            content = text if isinstance(text, bytes) else text.item()  # an array of one where TensorFlow is eager
            return np.array(self.tokenizer.encode_text(content.decode()), np.int32)

        ids = tf.numpy_function(encode, [tf.convert_to_tensor(s, tf.string)], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(array: np.ndarray) -> np.ndarray:
            rows = [self.tokenizer.decode(row.tolist()).encode() for row in array.reshape(-1, array.shape[-1])]
            return np.array(rows, dtype=object).reshape(array.shape[:-1])

        text = tf.numpy_function(decode, [ids], tf.string)
        text.set_shape(ids.shape[:-1])
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerVocabulary) and other.tokenizer.digest == self.tokenizer.digest

    def __hash__(self) -> int:
        return hash(self.tokenizer.digest)


class CuratedSource(seqio.DataSource):
    """Documents of one source of a curated corpus; a shard of it is a row group.

    An example is a document before its format is applied: `records`, its rows as JSON, and its place, the number of its
    `unit` and of the `document` in that unit, which tells its random choices from those of all others.
    """

    def __init__(self, inputs: FeedInputs, share: SourceShare) -> None:
        self.units = {split: open_units(inputs, share, split) for split in SPLITS}
        super().__init__(splits=[split for split in SPLITS if len(self.units[split])])

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """A row group is read as a whole, so there are no more shards than row groups."""
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        """The names of the row groups."""
        return [self.units[split].name(index) for index in range(len(self.units[split]))]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Examples of one document each, row groups in order or shuffled anew in every epoch."""
        units = self.units[split]
        indices = tf.data.Dataset.range(len(units))
        if shard_info is not None:
            indices = indices.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            indices = indices.shuffle(len(units), seed=seed)
        signature = {
            "records": tf.TensorSpec((), tf.string),  # pyright: ignore[reportArgumentType]
            "unit": tf.TensorSpec((), tf.int64),  # pyright: ignore[reportArgumentType]
            "document": tf.TensorSpec((), tf.int64),  # pyright: ignore[reportArgumentType]
        }

        def read(index: np.int64) -> Iterator[dict[str, Any]]:
            unit = units.read(int(index))
            for document in range(len(unit) if unit is not None else 0):
                assert unit is not None
                records = json.dumps(unit[document], ensure_ascii=False)
                yield {"records": records, "unit": int(index), "document": document}

        return indices.flat_map(
            lambda index: tf.data.Dataset.from_generator(read, args=(index,), output_signature=signature)
        )


@dataclasses.dataclass(frozen=True)
class DocumentTokens:
    """The preprocessor of a Task: records to their document, as tokens (`targets`) and text (`targets_pretokenized`).

    `preceding` is the token before those: of the piece before, or the end of the text before.

    seqio gives every shard the same sequence of seeds, so random choices that followed from the seed alone would be the
    same in all shards; the document's place in the corpus tells them apart. With a `sequence_length`, which seqio fills
    in, a document is as many examples as it needs, each with its own part of the text, in which a character that their
    edge splits is U+FFFD. Inside of another Mixture of seqio ours is its Tasks: seqio takes a Mixture for no more.
    """

    source: str
    writer: DocumentWriter
    tokenizer: Tokenizer
    sequence_length: Mapping[str, int] | None = None

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset of the documents, or of their pieces."""
        length = (self.sequence_length or {}).get("targets", 0)

        def pieces(records: bytes, unit: np.int64, document: np.int64, seed: np.ndarray) -> Iterator[dict[str, Any]]:
            key = (*map(int, seed), self.source, int(unit), int(document))
            ids = self.tokenizer.encode_array(self.writer.pieces(json.loads(records), *key))
            for start in range(0, len(ids), length or max(1, len(ids))):
                piece = ids[start : start + length] if length else ids
                preceding = ids[start - 1] if start else int(Special.END_OF_TEXT)
                text = self.tokenizer.decode(piece)
                yield {"targets": piece, "targets_pretokenized": text, "preceding": preceding}

        signature = {
            "targets": tf.TensorSpec((None,), tf.int32),  # pyright: ignore[reportArgumentType]
            "targets_pretokenized": tf.TensorSpec((), tf.string),  # pyright: ignore[reportArgumentType]
            "preceding": tf.TensorSpec((), tf.int32),  # pyright: ignore[reportArgumentType]
        }

        @seqio.map_over_dataset(num_seeds=1)
        def seeded(example: dict[str, tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return example["records"], example["unit"], example["document"], seed

        return seeded(dataset).flat_map(  # pyright: ignore[reportCallIssue]
            lambda *arguments: tf.data.Dataset.from_generator(pieces, args=arguments, output_signature=signature)
        )


def create_mixture(inputs: FeedInputs) -> RowMixture:
    """The mixture of a config over a corpus, with a Task for each of its sources, not registered with seqio.

    Raises:
        UserError: the mixture or the corpus cannot be read, or the corpus is empty.
    """
    tasks = []
    for share in read_mixture(inputs.config.mixture):
        data, writer = CuratedSource(inputs, share), DocumentWriter(share.format, inputs.formats, inputs.fim)
        data.units["train"].require("train")
        feature = seqio.Feature(TokenizerVocabulary(inputs.tokenizer), add_eos=False, dtype=tf.int32)
        task = seqio.Task(
            f"{_seqio_name(inputs.config)}.{share.name.replace('-', '_')}",
            source=data,
            output_features={"targets": feature},
            preprocessors=[DocumentTokens(share.name, writer, inputs.tokenizer)],
            shuffle_buffer_size=_SHUFFLE_BUFFER,
        )
        tasks.append((task, share.share))
    return RowMixture(_seqio_name(inputs.config), inputs, tasks)


def register_mixture(inputs: FeedInputs) -> RowMixture:
    """Registers the mixture and its tasks with seqio, in place of earlier ones of the same names."""
    mixture = create_mixture(inputs)
    for registry, providers in ((seqio.TaskRegistry, mixture.tasks), (seqio.MixtureRegistry, [mixture])):
        for provider in providers:
            registry.remove(provider.name)
            registry.add_provider(provider.name, provider)
    return mixture


def _seqio_name(config: FeedConfig) -> str:
    """The mixture's name in letters that seqio takes."""
    return re.sub(r"[^A-Za-z0-9_]", "_", Path(config.mixture).stem)
