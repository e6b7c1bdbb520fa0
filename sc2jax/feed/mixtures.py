"""Mixtures: which sources a model is trained on, and how much of each."""

import dataclasses
import json
from pathlib import Path

from sc2jax.assets import asset_path
from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SourceShare:
    """A source of a mixture: its name, the format of its documents, and its share of the tokens."""

    name: str
    format: str
    share: float


def read_mixture(name: str) -> list[SourceShare]:
    """The sources of a mixture in data/mixtures, or in a file of one's own.

    Raises:
        UserError: there is no such mixture, or it is not written as one.
    """
    folder = asset_path("data", "mixtures")
    path = Path(name) if name.endswith(".json") else folder / f"{name}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        sources = [SourceShare(**source) for source in fields["sources"]]
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise UserError(f"there is no mixture {name!r}; use one of {known}, or the path of a .json file") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a mixture: {error}; compare {folder / 'repositories.json'}") from error
    for source in sources:
        if not isinstance(source.share, int | float) or not source.share > 0:
            raise UserError(f"{path}: the share of {source.name} is {source.share}; it should be positive")
    if len({source.name for source in sources}) < max(1, len(sources)):
        raise UserError(f"{path}: a mixture needs at least one source, and different names for all of them")
    return sources
