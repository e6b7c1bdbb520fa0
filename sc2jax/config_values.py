"""The keys of a config by their dotted names, and setting one from a file or the command line."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from sc2jax.errors import UserError, did_you_mean
from sc2jax.settings import fitted

GONE = {
    "feed.row_length": "a row is model.context_length long",
    "feed.metadata_rate": "it is format.metadata_rate",
    "feed.long_documents": "a document goes on from row to row, as in StarCoder2's training",
    "feed.streams_per_row": "rows are drawn from all of a source at once",
    "feed.tokenized": "training always reads the tokens that `sc2jax tokenize` wrote",
    "training.warmup_steps": "it is training.warmup_tokens, so many steps x training.batch_size x model.context_length",
    "tokenize.epochs": "it is tokenize.renderings",
}
"""Keys of configs that were saved before, and what became of them."""


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping by their dotted keys."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def override(config: ConfigDict, key: str, text: str, again: bool = False) -> None:
    """Sets a dotted key from what was written on the command line.

    Args:
        config: holds the key.
        key: of the value.
        text: the value; names are separated by commas.
        again: whether the key was given before; then names are added to those.

    Raises:
        UserError: there is no such key, or the text is no value of its type.
    """
    default = value_of(config, key)
    value = _parse(text, default)
    if again and isinstance(default, tuple) and isinstance(value, tuple):
        value = default + value
    elif again and key in _LISTS:
        value = f"{default},{value}"
    set_value(config, key, value)


_LISTS = ("paths.source",)
"""Texts that are names between commas."""


def set_value(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key.

    Raises:
        UserError: there is no such key, or the value is of another type than the default.
    """
    fitting = fitted(key, value_of(config, key), value)
    section, _, field = key.rpartition(".")
    node: Any = config[section] if section else config
    node[field] = fitting


def with_values(config: ConfigDict, *keys: str) -> tuple[str, ...]:
    """Dotted keys with their values, as `ablation.computed_from` takes them.

    Raises:
        UserError: there is no such key.
    """
    return tuple(f"{key}={value_of(config, key)}" for key in keys)


def value_of(config: ConfigDict, key: str) -> Any:
    """The value of a dotted key.

    Raises:
        UserError: there is none; the message names the nearest keys that there are, or what became of it.
    """
    value: Any = config
    for name in key.split("."):
        value = value[name] if isinstance(value, ConfigDict) and name in value else None
    if value is not None and not isinstance(value, ConfigDict):
        return value
    keys = [name for name, _ in leaves(config.to_dict())]
    if key in GONE:
        raise UserError(f"there is no config key {key!r} any more: {GONE[key]}; leave it out")
    raise UserError(f"there is no config key {key[:_LONGEST_KEY]!r}{did_you_mean(key[:_LONGEST_KEY], keys)}")


_LONGEST_KEY = 100
"""Of an unknown one that is shown and looked for: the search for a near one takes long for a long one."""


def _parse(text: str, default: Any) -> Any:
    """What a text says as a value of the type of the default, or the text itself if it says no such value."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}.get(text.lower(), text)
        if isinstance(default, int):
            return int(text, base=0)
        if isinstance(default, float):
            return float(text)
        if isinstance(default, tuple):
            # Names need no quotes on a command line.
            items = ast.literal_eval(text) if text.startswith(("(", "[")) else tuple(filter(None, _names(text)))
            of = default[0] if default else ""
            return tuple(_parse(item, of) if isinstance(item, str) else item for item in items)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deeply
        return text
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
