"""From windows of tokens to the rows that a model is trained on."""

import numpy as np

from sc2jax.text.special_tokens import Special

FEATURES = ("tokens", "targets", "segment_ids", "positions", "weights")


def pack_row(window: np.ndarray, row_length: int, cross_document_attention: bool) -> dict[str, np.ndarray]:
    """The features of one row, each an array of `row_length`.

    `targets[t]` is the token after `tokens[t]`, and `weights[t]` says whether it counts. A window longer than a row and
    its last target is cut; a shorter one is padded with `<fim_pad>`, in segment 0 and with weight 0: the model should
    never predict it, although StarCoder2's training left it in the loss. Weights depend on where a token stands, not on
    its id; the end of text, id 0, is a target like any other.

    The end of a document predicts the first token of the next one only if attention may cross documents; otherwise that
    position has weight 0, as what it sees has no bearing on the next document. Segments number the documents of the row
    from 1, and positions start at 0 in each, also in a document that continues from the row before. With attention
    across documents the row is one segment.
    """
    window = window[: row_length + 1]
    inputs, targets = window[:row_length], window[1:]
    at = np.arange(len(inputs), dtype=np.int32)
    ends = inputs == Special.END_OF_TEXT
    weights = np.ones(len(targets), np.float32)
    if cross_document_attention:
        segment_ids, positions = np.ones_like(at), at
    else:
        starts_here = np.concatenate([[True], ends[:-1]])[: len(at)]
        segment_ids = np.cumsum(starts_here, dtype=np.int32)
        positions = at - np.maximum.accumulate(np.where(starts_here, at, 0))
        weights[ends[: len(targets)]] = 0
    features = {
        "tokens": (inputs, Special.FIM_PAD),
        "targets": (targets, Special.FIM_PAD),
        "segment_ids": (segment_ids, 0),
        "positions": (positions, 0),
        "weights": (weights, 0),
    }
    return {name: _padded(values, int(fill), row_length) for name, (values, fill) in features.items()}


def _padded(values: np.ndarray, fill: int, length: int) -> np.ndarray:
    dtype = np.float32 if values.dtype == np.float32 else np.int32
    row = np.full(length, fill, dtype)
    row[: len(values)] = values
    return row
