"""Held-out bits per byte while a model is trained: as a whole, by source and by language.

The rows are the same at every measurement, so that its figures can be compared. Each target belongs to a group, a
source and a language; the devices sum the losses of each, and every process of several gets all sums.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sc2jax.model.params import Params
from sc2jax.parallel import rules

TargetLosses: TypeAlias = Callable[[Params, Params, Mapping[str, jax.Array]], jax.Array]
"""`losses(params, frozen, batch)`: the loss of each target (B, T), in nats, float32."""

GROUPS = "groups"
"""The array of a batch that says which group each target belongs to."""


class Group(NamedTuple):
    """What a target's text is of; the language is "" where a source has none."""

    source: str
    language: str


@dataclasses.dataclass(frozen=True)
class HeldoutRows:
    """The rows that are measured.

    Attributes:
        features: what the losses are computed from, arrays of (rows, positions): those of the feed, whose `weights` say
            which targets are measured, and int32 `groups`.
        groups: the groups by their numbers.
        bytes: of the UTF-8 text of each group that is measured.
    """

    features: Mapping[str, np.ndarray]
    groups: tuple[Group, ...]
    bytes: tuple[int, ...]


class BitsPerByte(TypedDict):
    """Bits per byte of all text, in which every byte weighs the same, and of each source and language."""

    bits_per_byte: float
    by_source: dict[str, float]
    by_language: dict[str, float]


class Evaluation:
    """Measures the parameters of a training on a mesh."""

    def __init__(self, rows: HeldoutRows, losses: TargetLosses, mesh: Mesh, params: Any, frozen: Any) -> None:
        """On these rows, with the placements of the parameters, and of the frozen ones, as trees of shardings."""
        self._rows = rows
        # A row for each part of the batch: measuring takes less memory than a step of training.
        self._size = rules.shard_count(mesh, rules.BATCH)
        _, length = rows.features[GROUPS].shape
        self._placement = rules.sharding(mesh, (rules.BATCH, rules.LENGTH), (self._size, length))
        count = len(rows.groups)

        def sums(params: Params, frozen: Params, batch: Mapping[str, jax.Array]) -> jax.Array:
            return _sums_of_groups(losses(params, frozen, batch), batch, count)

        self._sums = jax.jit(sums, in_shardings=(params, frozen, self._placement), out_shardings=rules.replicated(mesh))

    def __call__(self, params: Params, frozen: Params) -> BitsPerByte:
        """The bits per byte of these parameters; all processes of a mesh call it together."""
        nats = np.zeros(len(self._rows.groups))
        for batch in self._batches():
            nats += np.asarray(self._sums(params, frozen, batch), np.float64)
        return bits_per_byte(self._rows, nats)

    def _batches(self) -> Iterator[dict[str, jax.Array]]:
        """The rows in batches of one size, of which each process holds its part; rows without weight fill the last."""
        count, length = self._rows.features[GROUPS].shape
        for start in range(0, count, self._size):
            batch: dict[str, jax.Array] = {}
            for name, values in self._rows.features.items():
                whole = np.zeros((self._size, length), values.dtype)
                part = values[start : start + self._size]
                whole[: len(part)] = part
                batch[name] = jax.make_array_from_callback(whole.shape, self._placement, whole.__getitem__)
            yield batch


def _sums_of_groups(losses_BT: jax.Array, batch: Mapping[str, jax.Array], count: int) -> jax.Array:
    """The weighted sum of the losses of each group, float32 (groups,)."""
    weights_BT, groups_BT = batch["weights"], batch[GROUPS]
    weighted_BT = jnp.where(weights_BT > 0, losses_BT * weights_BT, 0.0)  # what has no weight may be infinite
    is_of_BTG = groups_BT[..., None] == jnp.arange(count)[None, None]
    return jnp.sum(jnp.where(is_of_BTG, weighted_BT[..., None], 0.0), axis=(0, 1))


def bits_per_byte(rows: HeldoutRows, nats: np.ndarray) -> BitsPerByte:
    """From the nats of each group to bits per byte; languages are those of all sources together."""

    def rate(belongs: Callable[[Group], bool]) -> float:
        chosen = [index for index, group in enumerate(rows.groups) if belongs(group)]
        return float(nats[chosen].sum()) / math.log(2) / sum(rows.bytes[index] for index in chosen)

    sources = dict.fromkeys(group.source for group in rows.groups)
    languages = sorted({group.language for group in rows.groups} - {""})
    return BitsPerByte(
        bits_per_byte=rate(lambda _: True),
        by_source={source: rate(lambda group, source=source: group.source == source) for source in sources},
        by_language={name: rate(lambda group, name=name: group.language == name) for name in languages},
    )
