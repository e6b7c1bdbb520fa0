"""From windows of tokens to the rows that a model is trained on."""

from collections.abc import Sequence

import numpy as np

from sc2jax.text.special_tokens import Special

FEATURES = ("tokens", "targets", "segment_ids", "positions", "weights")


def pack_rows(windows: Sequence[np.ndarray], row_length: int, cross_document_attention: bool) -> dict[str, np.ndarray]:
    """The features of rows, each an array of (rows, row_length).

    `targets[:, t]` are the tokens after `tokens[:, t]`, and `weights[:, t]` says whether they count. A window longer
    than a row and its last target is cut; a shorter one is padded with `<fim_pad>`, in segment 0 and with weight 0: the
    model should never predict it, although StarCoder2's training left it in the loss. Weights depend on where a token
    stands, not on its id; the end of text, id 0, is a target like any other.

    The end of a document predicts the first token of the next one only if attention may cross documents; otherwise that
    position has weight 0, as what it sees has no bearing on the next document. Segments number the documents of the row
    from 1, and positions start at 0 in each, also in a document that continues from the row before. With attention
    across documents the row is one segment.
    """
    whole = np.full((len(windows), row_length + 1), int(Special.FIM_PAD), np.int32)
    for row, window in zip(whole, windows, strict=True):
        row[: len(window)] = window[: row_length + 1]
    lengths = np.array([[min(len(window), row_length + 1)] for window in windows], np.int64).reshape(-1, 1)
    at = np.arange(row_length, dtype=np.int32)
    tokens, targets = whole[:, :-1].copy(), whole[:, 1:].copy()
    is_token, weights = at < lengths, (at + 1 < lengths).astype(np.float32)
    if cross_document_attention:
        segment_ids, positions = np.ones_like(tokens), np.broadcast_to(at, tokens.shape)
    else:
        ends = (tokens == int(Special.END_OF_TEXT)) & is_token
        starts = np.ones_like(ends)
        starts[:, 1:] = ends[:, :-1]
        segment_ids = np.cumsum(starts, axis=1, dtype=np.int32)
        positions = at - np.maximum.accumulate(np.where(starts, at, 0), axis=1)
        weights[ends] = 0
    return {
        "tokens": tokens,
        "targets": targets,
        "segment_ids": np.where(is_token, segment_ids, 0),
        "positions": np.where(is_token, positions, 0),
        "weights": weights,
    }


def pack_row(window: np.ndarray, row_length: int, cross_document_attention: bool) -> dict[str, np.ndarray]:
    """The same of one row, without the axis of rows."""
    packed = pack_rows([window], row_length, cross_document_attention)
    return {name: values[0] for name, values in packed.items()}
