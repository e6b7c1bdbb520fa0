"""The seqio view of a corpus: Tasks over its splits, and Mixtures of them.

`register_mixture` makes them known to `seqio.get_mixture_or_task` for those who work with seqio; the training stream
(`streams.py`) takes the same Task objects, but reads their source and calls their preprocessors' Python functions
itself. seqio's own packing and feature converters take id 0 for padding, which in this vocabulary is the end of text;
use `packing.py` instead. Context-level infilling needs windows, so only the stream applies it.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.draws import keyed_generator
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.streams import Source
from sc2jax.feed.units import SPLITS, Repository, Units
from sc2jax.text.config import FimConfig
from sc2jax.text.fim import transform_document
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import UNKNOWN_ID, Tokenizer


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keeps back what native code writes to standard error, unless it ends in an exception."""
    original = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            captured.seek(0)
            os.write(original, captured.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


# TensorFlow greets with the accelerators that it does not find, whatever its log level is.
with _unheard():
    import seqio
    import tensorflow as tf

    # TensorFlow would take a whole accelerator for itself.
    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")

# Examples are whole repositories: a large buffer of them would not fit in memory. Units are shuffled by the source.
_SHUFFLE_BUFFER = 64


class TokenizerVocabulary(seqio.Vocabulary):
    """A tokenizer as seqio knows one; text that spells a special token stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(extra_ids=0)
        self.tokenizer = tokenizer

    @property
    def eos_id(self) -> int:
        """The end of text. seqio thinks of the same id, 0, as padding; nothing here pads with it."""
        return int(Special.END_OF_TEXT)

    @property
    def bos_id(self) -> int:
        """Documents begin after the end of the one before."""
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

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: bytes | np.ndarray) -> np.ndarray:
            content = text if isinstance(text, bytes) else text.item()  # an array of one where TensorFlow is eager
            return np.array(self.tokenizer.encode_text(content.decode()), np.int32)

        ids = tf.numpy_function(encode, [s], tf.int32)
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
    """Repositories of a curated corpus; a shard of it is a row group."""

    def __init__(self, corpus: str) -> None:
        self.units = {split: Units(corpus, split) for split in SPLITS}
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
        """Examples of one repository each, row groups in order or shuffled anew in every epoch."""
        units = self.units[split]
        indices = tf.data.Dataset.range(len(units))
        if shard_info is not None:
            indices = indices.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            indices = indices.shuffle(len(units), seed=seed)
        signature = {
            "repository": tf.TensorSpec((), tf.string),  # pyright: ignore[reportArgumentType]
            "paths": tf.TensorSpec((None,), tf.string),  # pyright: ignore[reportArgumentType]
            "contents": tf.TensorSpec((None,), tf.string),  # pyright: ignore[reportArgumentType]
        }

        def read(index: np.int64) -> Iterable[Repository]:
            return iter(units[int(index)])

        return indices.flat_map(
            lambda index: tf.data.Dataset.from_generator(read, args=(index,), output_signature=signature)
        )


@dataclasses.dataclass(frozen=True)
class RepositoryTokens:
    """The preprocessor of source code: a repository to the tokens of its document."""

    tokenizer: Tokenizer
    metadata_rate: float
    fim: FimConfig

    def document(self, example: Repository, *key: int) -> list[Piece]:
        """A repository's document: files in random order, metadata or not, infilling if it is done on documents.

        The draws depend on the key and on the name of the repository.
        """
        draws = keyed_generator("document", *key, example["repository"])
        with_metadata = bool(draws.random() < self.metadata_rate)
        order = draws.permutation(len(example["paths"])).tolist()
        files = [(example["paths"][index], example["contents"][index]) for index in order]
        pieces = repository_document(example["repository"], files, with_metadata)
        if self.fim.level == "document":
            pieces = transform_document(pieces, self.fim, keyed_generator("fim", *key, example["repository"]))
        return pieces

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same over a seqio dataset, with the feature `targets`.

        seqio hands every shard the same sequence of seeds; the repository's name keeps their draws apart.
        """

        def tokens(repository: bytes, paths: np.ndarray, contents: np.ndarray, seed: np.ndarray) -> np.ndarray:
            example = Repository(
                repository=repository.decode(),
                paths=[path.decode() for path in paths],
                contents=[content.decode() for content in contents],
            )
            return np.array(self.tokenizer.encode(self.document(example, *map(int, seed))), np.int32)

        @seqio.map_over_dataset(num_seeds=1)
        def tokenize(example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = [example["repository"], example["paths"], example["contents"], seed]
            targets = tf.numpy_function(tokens, inputs, tf.int32)
            targets.set_shape([None])
            return {"targets": targets}

        return tokenize(dataset)  # pyright: ignore[reportCallIssue]


FORMATS: dict[str, Callable[[Tokenizer, FeedConfig, FimConfig], RepositoryTokens]] = {
    "repository": lambda tokenizer, config, fim: RepositoryTokens(tokenizer, config.metadata_rate, fim),
}
"""From the format that a mixture names to the preprocessor of its documents."""


def create_mixture(corpus: str, tokenizer: Tokenizer, config: FeedConfig, fim: FimConfig) -> seqio.Mixture:
    """The mixture of a config over a corpus, with a Task for each of its sources, unknown to seqio's registries.

    seqio's rates are shares of examples, ours of tokens: a rate is the share divided by the mean size of a document in
    the source's first row group.

    Raises:
        UserError: the mixture or the corpus cannot be read, or the corpus is empty.
    """
    tasks = []
    for source in read_mixture(config.mixture):
        if source.format not in FORMATS:
            raise UserError(
                f"mixture {config.mixture!r}: the format {source.format!r} is unknown; use one of {', '.join(FORMATS)}"
            )
        data = CuratedSource(corpus)
        data.units["train"].require("train")
        feature = seqio.Feature(TokenizerVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
        task = seqio.Task(
            f"{_seqio_name(config)}.{source.name}",
            source=data,
            output_features={"targets": feature},
            preprocessors=[FORMATS[source.format](tokenizer, config, fim)],
            shuffle_buffer_size=_SHUFFLE_BUFFER,
        )
        tasks.append((task, source.share / _mean_size(data.units["train"])))
    return seqio.Mixture(_seqio_name(config), tasks)


def register_mixture(corpus: str, tokenizer: Tokenizer, config: FeedConfig, fim: FimConfig) -> seqio.Mixture:
    """Makes the mixture and its tasks known to seqio, in place of earlier ones of the same names."""
    mixture = create_mixture(corpus, tokenizer, config, fim)
    for registry, providers in ((seqio.TaskRegistry, mixture.tasks), (seqio.MixtureRegistry, [mixture])):
        for provider in providers:
            registry.remove(provider.name)
            registry.add_provider(provider.name, provider)
    return mixture


def training_sources(corpus: str, tokenizer: Tokenizer, config: FeedConfig, fim: FimConfig) -> list[Source]:
    """What the training stream reads: sources and preprocessors of the mixture's Tasks, with their shares of tokens.

    Raises:
        UserError: as `create_mixture`.
    """
    mixture = create_mixture(corpus, tokenizer, config, fim)
    sources = []
    for part, task in zip(read_mixture(config.mixture), mixture.tasks, strict=True):
        data, preprocessor = task.source, task.preprocessors[0]
        assert isinstance(data, CuratedSource)
        assert isinstance(preprocessor, RepositoryTokens)
        sources.append(Source(part.name, part.share, data.units["train"], preprocessor))
    return sources


def _seqio_name(config: FeedConfig) -> str:
    return Path(config.mixture).stem


def _mean_size(units: Units) -> float:
    sizes = [sum(map(len, example["contents"])) for example in units[0]]
    return max(1.0, sum(sizes) / len(sizes))
