"""A mixture of training rows for users of seqio, and the converter of rows and documents to a decoder's features."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.packing import FEATURES, pack_row
from sc2jax.feed.rows import Rows
from sc2jax.feed.schedule import ENDLESS
from sc2jax.feed.sources import FeedInputs
from sc2jax.feed.tensorflow_import import seqio, tf
from sc2jax.text.special_tokens import Special

_SHUFFLED_ROWS = 4096
_ROWS_AT_A_TIME = 64
_ROW_FEATURES = ("targets", "tokens", "weights", "segment_ids", "positions")


class RowSource(seqio.DataSource):
    """The training rows of a mixture over a curated corpus whose tokens `sc2jax tokenize` laid flat.

    An example is a row (`packing.FEATURES`), the rows of a run in their order; they are a whole shuffle of the corpus
    already. A shard holds every so many rows, and any number of shards will do.
    """

    def __init__(self, inputs: FeedInputs) -> None:
        super().__init__(splits=["train"])
        self.inputs = inputs

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Any row is read by itself."""
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        """One name: rows are dealt out one by one."""
        return [split]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        num_epochs: int | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """The rows of `num_epochs` epochs of each source; with None, as many as the mixture's caps allow.

        Shuffled, they come in another order, by the seed; the rows stay what they are.

        Raises:
            UserError: another split than that of training is asked for, or the tokens are missing or cannot be used.
        """
        if split != "train":
            raise UserError(
                f"there are training rows alone, and none of the split {split!r}; the Tasks of a mixture's sources, "
                "such as repositories.source_code, have the documents of every split"
            )
        if num_epochs is not None and num_epochs < 1:
            raise UserError(f"num_epochs is {num_epochs}; use 1 or more, or None for as many as the mixture allows")
        first, by = (shard_info.index or 0, shard_info.num_shards or 1) if shard_info else (0, 1)
        if not 0 <= first < by:
            raise UserError(f"there is no shard {first} of {by}; they are counted from 0")
        rows = Rows(self.inputs, most_epochs=num_epochs or 0)

        def read() -> Iterator[dict[str, np.ndarray]]:
            at, stride = 0, by * _ROWS_AT_A_TIME
            while at < rows.schedule.rows:
                stop = min(at + stride, rows.schedule.rows)
                chosen = np.arange(first, stop - at, by)
                read = rows.read(rows.places(at, stop, chosen)).features
                yield from ({name: read[name][row] for name in FEATURES} for row in range(len(chosen)))
                at = stop

        length = self.inputs.row_length
        signature = {
            name: tf.TensorSpec((length,), tf.float32 if name == "weights" else tf.int32)  # pyright: ignore[reportArgumentType]
            for name in FEATURES
        }
        dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
        return dataset.shuffle(_SHUFFLED_ROWS, seed=seed) if shuffle else dataset

    def num_input_examples(self, split: str) -> int | None:  # noqa: ARG002 (there is one split)
        """How many rows the mixture's caps allow; None where there is no end."""
        rows = Rows(self.inputs).schedule.rows
        return None if rows == ENDLESS else rows


class RowMixture(seqio.Mixture):
    """The Tasks of a mixture's sources, mixed into training rows in their exact shares."""

    def __init__(self, name: str, inputs: FeedInputs, tasks: Sequence[tuple[seqio.Task, float]]) -> None:
        super().__init__(name, list(tasks))
        self.inputs = inputs

    @property
    def splits(self) -> Sequence[str]:
        """That of training alone."""
        return ["train"]

    def num_input_examples(  # pyright: ignore[reportIncompatibleMethodOverride] (seqio's says int, and gives None)
        self, split: str
    ) -> int | None:
        """How many rows the mixture's caps allow; None where there is no end."""
        return RowSource(self.inputs).num_input_examples(split)

    def get_dataset(  # pyright: ignore[reportIncompatibleMethodOverride] (what does not apply to rows is `_`)
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = "train",
        use_cached: bool = False,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        num_epochs: int | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Rows of `sequence_length["targets"]` tokens, by default of those of the inputs.

        Raises:
            UserError: as for `RowSource`.
        """
        if use_cached:
            raise UserError("rows are read from tokens that were encoded once already; leave use_cached out")
        length = (sequence_length or {}).get("targets", self.inputs.row_length)
        source = RowSource(dataclasses.replace(self.inputs, row_length=length))
        return source.get_dataset(split, shuffle, seed, shard_info, num_epochs)


class RowConverter(seqio.FeatureConverter):
    """Rows of a Mixture, or the documents of a Task, as what a decoder is trained on, with weights by position.

    The features have the names of seqio's own `LMFeatureConverter`. A document of a Task, or a piece of one, is a row
    by itself, padded: every token of it is a target, seen from the one before. To pack documents, take the rows of the
    Mixture.
    """

    TASK_FEATURES = {"targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)}  # noqa: RUF012 (seqio's)
    MODEL_FEATURES = {  # noqa: RUF012
        "decoder_target_tokens": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "decoder_input_tokens": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "decoder_loss_weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32),
        "decoder_segment_ids": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "decoder_positions": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    PACKING_FEATURE_DTYPES = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(pack=False)

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        if "segment_ids" not in ds.element_spec:  # pyright: ignore[reportOperatorIssue]
            ds = ds.map(lambda example: _packed(example, task_feature_lengths["targets"]))
        names = dict(
            zip(self.MODEL_FEATURES, ("targets", "tokens", "weights", "segment_ids", "positions"), strict=True)
        )
        return ds.map(lambda row: {model: row[name] for model, name in names.items()})

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """All features are as long as the row."""
        return dict.fromkeys(self.MODEL_FEATURES, task_feature_lengths["targets"])


def _packed(example: Mapping[str, tf.Tensor], length: int) -> dict[str, tf.Tensor]:
    """The row of a document's tokens, and the one before them."""
    preceding = example.get("preceding", tf.constant(int(Special.END_OF_TEXT)))
    ids = tf.concat([[preceding], example["targets"]], axis=0)
    types = [tf.float32 if name == "weights" else tf.int32 for name in FEATURES]

    def pack(window: np.ndarray) -> list[np.ndarray]:
        row = pack_row(window, length, cross_document_attention=True)
        return [row[name] for name in FEATURES]

    features = tf.numpy_function(pack, [ids], types)
    for feature in features:
        feature.set_shape([length])
    return dict(zip(FEATURES, features, strict=True))
