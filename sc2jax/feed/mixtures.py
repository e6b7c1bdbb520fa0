"""Mixtures: which sources a model is trained on, and how much of each."""

import dataclasses
import json
from pathlib import Path

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.text.formats import FORMATS


@dataclasses.dataclass(frozen=True)
class SourceShare:
    """A source of a mixture.

    `format` is the format of its documents. `share` is its share of the training tokens in any unit, such as billions
    of tokens: only proportions matter. `folder` is where its dataset lies in the corpus ("": the corpus itself).
    `max_epochs` is how often it may be read, 0 for no limit: the StarCoder2 models were trained for about five epochs
    at most (paper, section 6.2), after which repetition teaches little. Once a source was read that often, the others
    take over its share.
    """

    name: str
    format: str
    share: float
    folder: str = ""
    max_epochs: int = 5


def read_mixture(name: str) -> list[SourceShare]:
    """The sources of a mixture in data/mixtures, or in a file of the user's own.

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
        _check(source, path)
    if len({source.name for source in sources}) < max(1, len(sources)):
        raise UserError(f"{path}: a mixture needs at least one source, and different names for all of them")
    return sources


def only(sources: list[SourceShare], name: str) -> list[SourceShare]:
    """A mixture of a single one of the sources.

    Raises:
        UserError: the mixture has no such source.
    """
    found = [source for source in sources if source.name == name]
    if not found:
        raise UserError(
            f"the mixture has no source {name!r}; use one of {', '.join(source.name for source in sources)}"
        )
    return found


def _check(source: SourceShare, path: Path) -> None:
    if not isinstance(source.share, int | float) or not source.share > 0:
        raise UserError(f"{path}: the share of {source.name} is {source.share}; it should be positive")
    if not isinstance(source.max_epochs, int) or source.max_epochs < 0:
        raise UserError(f"{path}: max_epochs of {source.name} is {source.max_epochs}; it should be 0 or more")
    if source.format not in FORMATS:
        raise UserError(
            f"{path}: the format {source.format!r} of {source.name} is unknown; use one of {', '.join(FORMATS)}"
        )
