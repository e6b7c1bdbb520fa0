"""The variants of an ablation, parsed from what `ablation.variants` and `ablation.grid` say.

Only their form is looked at here: which keys there are, and what they may be, the config knows.
"""

import dataclasses
import itertools
import math
import re
import shlex
from collections.abc import Iterator, Sequence

from sc2jax.errors import UserError
from sc2jax.settings import shown

_LONGEST_LABEL = 80
_MOST_VARIANTS = 1000
_LABEL = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{_LONGEST_LABEL - 1}}}")
"""What may be a part of a folder's name on every disk and in every object store."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A label, and the overrides over the base config: keys with values as on the command line."""

    label: str
    overrides: tuple[tuple[str, str], ...]


def parse_variants(variants: Sequence[str], grid: Sequence[str]) -> list[Variant]:
    """The variants, and each of them with every combination of the grid's values, the last key's changing fastest.

    Raises:
        UserError: there are too many, one is not written as such, a label names no folder or two variants, or a key is
            set twice.
    """
    if not variants and not grid:
        raise UserError(
            "the config names no runs: set ablation.variants or ablation.grid, or take a config of configs/ablations, "
            "as in --config=ablations/attention_heads"
        )
    written = [_parse_variant(text) for text in variants] or [Variant("", ())]
    axes = [_parse_axis(text) for text in grid]
    count = len(written) * math.prod(map(len, axes))
    if count > _MOST_VARIANTS:
        raise UserError(
            f"ablation.variants and ablation.grid come to {count:,} variants, more than {_MOST_VARIANTS:,}; name fewer"
        )
    combinations = list(itertools.product(*axes))
    found = [
        Variant(
            "_".join(filter(None, (variant.label, *(_value_label(*override) for override in chosen)))),
            variant.overrides + chosen,
        )
        for variant in written
        for chosen in combinations
    ]
    _refuse_repeated(found)
    return found


def _parse_variant(text: str) -> Variant:
    label, colon, rest = text.partition(":")
    label = label.strip()
    if not colon:
        raise UserError(f"ablation.variants has {shown(text)}; write it as 'LABEL: KEY=VALUE KEY=VALUE'")
    return Variant(label, tuple(_overrides(rest, f"the variant {shown(label)}")))


def _overrides(text: str, where: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{where} ends in the middle of a quotation; close it, or leave its mark out") from error
    for word in words:
        key, equals, value = word.removeprefix("--config.").partition("=")
        if not equals or not key:
            raise UserError(f"{where} has {shown(word)}; an override is KEY=VALUE, without blanks or in quotes")
        yield key, value


def _parse_axis(text: str) -> list[tuple[str, str]]:
    key, equals, values = text.removeprefix("--config.").partition("=")
    if not equals or not key.strip() or not all(value.strip() for value in values.split("|")):
        raise UserError(f"ablation.grid has {shown(text)}; write it as 'KEY=A|B|C'")
    return [(key.strip(), value.strip()) for value in values.split("|")]


def _value_label(key: str, value: str) -> str:
    """A value of the grid as a part of a label: `window-128`."""
    return re.sub(r"[^A-Za-z0-9.+]+", "-", f"{key.rpartition('.')[2]}-{value}").strip("-")


def _refuse_repeated(variants: Sequence[Variant]) -> None:
    labels: dict[str, str] = {}
    for variant in variants:
        label = variant.label
        if not _LABEL.fullmatch(label):
            raise UserError(
                f"the label {shown(label)} cannot name a folder everywhere; use up to {_LONGEST_LABEL} letters, digits "
                "and . _ + - of which the first is a letter or a digit"
            )
        # Not every disk tells the case of letters apart.
        if label.casefold() in labels:
            raise UserError(f"two variants have the labels {labels[label.casefold()]} and {label}; give each its own")
        labels[label.casefold()] = label
        keys = [key for key, _ in variant.overrides]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise UserError(f"the variant {label} sets {', '.join(twice)} twice; leave one out")
