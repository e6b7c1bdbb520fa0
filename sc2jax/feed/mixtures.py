"""Mixtures: which sources a model is trained on, and how much of each."""

import dataclasses
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from sc2jax import storage
from sc2jax.assets import asset_path
from sc2jax.errors import UserError, did_you_mean
from sc2jax.json_files import decode_json
from sc2jax.text.formats import FORMATS


@dataclasses.dataclass(frozen=True)
class SourceShare:
    """A source of a mixture.

    `name` is also that of a folder, into which its tokens are written.
    `format` is the format of its documents. `share` is its share of the training tokens in any unit, such as billions
    of tokens: only proportions matter. `folder` is where its dataset lies in the corpus ("": the corpus itself).
    `max_epochs` is how often it may be read, 0 for no limit: the StarCoder2 models were trained for about five epochs
    at most (paper, section 6.2), after which repetition teaches little. Once a source was read that often, the others
    take over its share.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")]
    format: str
    share: Annotated[float, Meta(ge=1e-9, le=1e12)]
    folder: str = ""
    max_epochs: Annotated[int, Meta(ge=0, le=10**6)] = 5


class _Mixture(TypedDict):
    """The file of a mixture."""

    sources: list[SourceShare]


class _Entries(TypedDict):
    """The same, with the sources as they are written."""

    sources: list[dict[str, Any]]


def read_mixture(name: str) -> list[SourceShare]:
    """The sources of a mixture in data/mixtures, or in a file of the user's own.

    Raises:
        UserError: there is no such mixture, or it is not written as one.
    """
    folder = asset_path("data", "mixtures")
    path = name if name.endswith(".json") else str(folder / f"{name}.json")
    try:
        content = storage.read_bytes(path)
    except (OSError, ValueError) as error:  # no such file, or no name that a file can have
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise UserError(f"there is no mixture {name!r}; use one of {known}, or the path of a .json file") from error
    remedy = f"compare {folder / 'repositories.json'}"
    sources = decode_json(content, _Mixture, f"the mixture {path}", remedy)["sources"]
    known = {field.name for field in dataclasses.fields(SourceShare)}
    for index, entry in enumerate(decode_json(content, _Entries, f"the mixture {path}", remedy)["sources"]):
        for key in sorted(set(entry) - known):
            raise UserError(f"{path}: source {index} has an unknown field {key!r}{did_you_mean(key, known)}; {remedy}")
    for source in sources:
        if source.format not in FORMATS:
            raise UserError(
                f"{path}: the format {source.format!r} of {source.name} is unknown; use one of {', '.join(FORMATS)}"
            )
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
