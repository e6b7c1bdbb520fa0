"""Explains the config: every key with its value, unit, range and meaning, in the terminal and as docs/settings.md."""

import textwrap

from ml_collections import ConfigDict

from sc2jax.config import Settings, default_config, sections
from sc2jax.config_values import leaves
from sc2jax.settings import Setting, declared


def declarations() -> dict[str, Setting]:
    """What each dotted key declares of itself."""
    own = dict(declared(Settings))
    of_rooms = {f"{name}.{field}": what for name, kind in sections().items() for field, what in declared(kind)}
    return own | of_rooms


def explain(config: ConfigDict) -> str:
    """Every key of a config with its value, unit, range and meaning, for a terminal."""
    lines = []
    values = dict(leaves(config.to_dict()))
    for key, what in declarations().items():
        limits = "; ".join(filter(None, (what.unit, what.range)))
        lines.append(f"{key}: {values[key]!r}" + (f"  ({limits})" if limits else ""))
        lines += textwrap.wrap(what.meaning, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def settings_page() -> str:
    """docs/settings.md: every key with its default, unit, range and meaning."""
    lines = [
        "# Settings",
        "",
        "Every key of the config with its default, as `sc2jax VERB --help` lists them; made by `make settings`.",
        "Override one with `--config.SECTION.KEY=VALUE`. Results do not follow from the keys marked *how*, which may",
        "change them by rounding at most: a stage is not done again when one of these differs.",
    ]
    defaults = dict(leaves(default_config().to_dict()))
    section = None
    for key, what in sorted(declarations().items(), key=lambda item: "." in item[0]):
        if key.rpartition(".")[0] != section:
            section = key.rpartition(".")[0]
            lines += [
                "",
                f"## {section or 'The whole run'}",
                "",
                "| key | default | range | meaning |",
                "|---|---|---|---|",
            ]
        limits = "; ".join(filter(None, (what.unit, what.range, "" if what.decides else "*how*")))
        lines.append(f"| `{key}` | `{defaults[key]!r}` | {limits} | {what.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"
