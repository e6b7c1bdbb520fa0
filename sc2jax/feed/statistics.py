"""What the feed has done so far, computed from its state: restarts and the number of hosts make no difference."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sc2jax.feed.rows import LOSSES
from sc2jax.feed.streams import POSITION_FIELDS, Source, Stream
from sc2jax.records.faults import REASONS

ROW_FIELDS = ("fingerprint", "batches")
"""The first fields of a row's state; the positions of the row's streams follow."""


def summarize(state: np.ndarray, sources: Sequence[Source]) -> dict[str, Any]:
    """Tokens, share and epochs of every source, and what was lost.

    `epochs` counts finished units; `exhausted_streams` is how many streams have read a source as often as the mixture
    allows, so that the other sources took over its share there.
    """
    stream_fields = len(LOSSES) + len(Stream.FIELDS) + len(sources) * len(POSITION_FIELDS)
    streams = state[:, len(ROW_FIELDS) :].reshape(len(state), -1, stream_fields)
    count = streams.shape[0] * streams.shape[1]
    # Row r reads the streams r, r + rows, r + 2 rows, ...
    numbers = np.arange(count).reshape(streams.shape[1], streams.shape[0]).T
    positions = streams[..., -len(sources) * len(POSITION_FIELDS) :].reshape(count, len(sources), -1)
    field = {name: positions[..., index] for index, name in enumerate(POSITION_FIELDS)}
    total = int(field["tokens"].sum())
    summary: dict[str, Any] = {name: int(streams[..., index].sum()) for index, name in enumerate(LOSSES)}
    summary["cut_documents"] = int(field["cut"].sum())
    summary["damaged_units"] = int(field["damaged"].sum())
    summary["left_out_records"] = {reason: int(field[reason].sum()) for reason in REASONS}
    summary["sources"] = {}
    for index, source in enumerate(sources):
        units, tokens = field["units"][:, index], int(field["tokens"][:, index].sum())
        epochs_begun = (numbers.reshape(-1) + units * count) // len(source.documents)
        exhausted = (epochs_begun >= source.max_epochs) if source.max_epochs else np.zeros(count, bool)
        summary["sources"][source.name] = {
            "tokens": tokens,
            "share": round(tokens / max(total, 1), 6),
            "epochs": round(int(units.sum()) / len(source.documents), 3),
            "exhausted_streams": int(exhausted.sum()),
        }
    return summary
