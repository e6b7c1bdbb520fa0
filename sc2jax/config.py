"""The config: a `ConfigDict` with one section a room, made from the rooms' dataclasses and turned back into them.

Defaults live in the dataclasses, which also say what each key means, its unit and its range; a file of `configs/` sets
what differs, the command line overrides both. A field whose value is derived from others (0 or "") is filled in when
the dataclasses are built, so that the config written beside a run is complete.
"""

import ast
import dataclasses
import importlib.util
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sc2jax.assets import asset_path
from sc2jax.corpus.config import CorpusConfig
from sc2jax.errors import UserError, did_you_mean
from sc2jax.evaluation.config import EvaluationConfig
from sc2jax.feed.config import FeedConfig, ShowConfig, TokenizeConfig
from sc2jax.inference.config import CompletionConfig
from sc2jax.interop.config import ConvertConfig
from sc2jax.model.config import ModelConfig
from sc2jax.parallel.config import MeshConfig
from sc2jax.settings import check_ranges, setting
from sc2jax.text.config import FimConfig, FormatConfig, TokenizerConfig
from sc2jax.training.config import TrainingConfig

CONFIG_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class PathsConfig:
    """Where a run's inputs lie; each a local path or a URL; "" is a folder of the workdir."""

    source: str = setting(
        "", 'Folders of repositories, separated by commas; "": this machine\'s Python standard library.', decides=False
    )
    corpus: str = setting("", "What `curate` wrote.", decides=False)
    tokenizer: str = setting("", "What `tokenizer` wrote, or a tokenizer's file, a .model or .json.", decides=False)
    tokenize: str = setting("", "What `tokenize` wrote.", decides=False)
    train: str = setting("", "What `train` or `convert` wrote.", decides=False)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The whole config as frozen dataclasses, one a room."""

    seed: int = setting(0, "Every random choice of a run follows from it.", at_least=0, less_than=2**31)
    paths: PathsConfig = dataclasses.field(default_factory=PathsConfig)
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    feed: FeedConfig = dataclasses.field(default_factory=FeedConfig)
    format: FormatConfig = dataclasses.field(default_factory=FormatConfig)
    fim: FimConfig = dataclasses.field(default_factory=FimConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    tokenize: TokenizeConfig = dataclasses.field(default_factory=TokenizeConfig)
    show: ShowConfig = dataclasses.field(default_factory=ShowConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    completion: CompletionConfig = dataclasses.field(default_factory=CompletionConfig)
    convert: ConvertConfig = dataclasses.field(default_factory=ConvertConfig)

    def __post_init__(self) -> None:
        check_ranges("", self)


def default_config() -> ConfigDict:
    """Every key with its default, locked: a key that does not exist cannot be set."""
    of_rooms = {name: _defaults(kind) for name, kind in sections().items()}
    return ConfigDict(_defaults(Settings) | of_rooms).lock()


def sections() -> dict[str, Any]:
    """The dataclass of each section."""
    return {name: kind for name, kind in typing.get_type_hints(Settings).items() if dataclasses.is_dataclass(kind)}


def _defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}


def to_settings(config: ConfigDict) -> Settings:
    """The dataclasses of a config, with derived fields filled in.

    Raises:
        UserError: a dataclass refuses its values.
    """
    values = config.to_dict()
    return Settings(**values | {name: kind(**values[name]) for name, kind in sections().items()})


def settings_json(settings: Settings) -> str:
    """The resolved config as it is written beside a run."""
    return json.dumps(dataclasses.asdict(settings), indent=1, sort_keys=True) + "\n"


def load_config(name: str) -> ConfigDict:
    """The config of a name in `configs/` (`quickstart`), a Python file or a run's config.json.

    What follows a colon after a Python config is handed to its `get_config`: `starcoder2:3b`.

    Raises:
        UserError: there is no such config, or it sets what does not exist.
    """
    if name.endswith(".json"):
        return _load_json(name)
    file, colon, argument = name.partition(":")
    path = _find(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if colon else module.get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's file may fail in any way
        raise UserError(f"config {name}: {_first_line(error)}") from error
    if not isinstance(config, ConfigDict) or set(config) != set(default_config()):
        raise UserError(f"config {name}: get_config must return sc2jax.config.default_config() with its changes")
    return config


def _first_line(error: BaseException) -> str:
    """What an exception says, with ConfigDict's hint, without its dump of the whole section."""
    text = str(error).strip().strip("\"'")
    hint = re.search(r"Did you mean [^?]*\?", text)
    first = text.split("\n")[0][:300] or type(error).__name__
    return first if hint is None or hint[0] in first else f"{first} {hint[0]}"


def _find(file: str) -> Path:
    named = file if file.endswith(".py") else f"{file}.py"
    if Path(named).is_file():
        return Path(named)
    folder = asset_path("configs")
    shipped = folder / named.removeprefix("configs/")
    if shipped.is_file():
        return shipped
    names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py"))
    raise UserError(f"there is no config {file!r}{did_you_mean(file, names)}; the shipped ones are {', '.join(names)}")


def _load_json(name: str) -> ConfigDict:
    try:
        values = json.loads(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no config file {name}") from error
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise UserError(f"the config file {name} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"the config file {name} holds no object; it should be a run's config.json")
    config = default_config()
    for key, value in leaves(values):
        check_key(config, key)
        set_value(config, key, value)
    return config


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets a dotted key from what was written on the command line.

    Raises:
        UserError: there is no such key, or the text is no value of its type.
    """
    check_key(config, key)
    default = _value(config, key)
    try:
        set_value(config, key, text if isinstance(default, str) else _parse(text, default))
    except (ValueError, SyntaxError) as error:
        raise _misfit(key, default, text) from error


def _parse(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(default, tuple) and not text.startswith(("(", "[")):
        return tuple(name.strip() for name in text.split(",") if name.strip())  # names need no quotes on a command line
    return ast.literal_eval(text)


def set_value(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key.

    Raises:
        UserError: the value is of another type than the default.
    """
    section, _, field = key.rpartition(".")
    node: Any = config[section] if section else config
    node[field] = _fitted(key, _value(config, key), value)


def _fitted(key: str, default: Any, value: Any) -> Any:
    """The value in the type of the default: an integer serves as a float, a list as a tuple, and nothing else."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config key {key} is {value}; it must be finite")
    if isinstance(default, tuple) and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value) is not type(default) or isinstance(default, tuple):
        raise _misfit(key, default, value)
    return value


def _value(config: ConfigDict, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node[name]
    return node


def _misfit(key: str, default: Any, value: Any) -> UserError:
    return UserError(f"config key {key} is of type {type(default).__name__} (now {default!r}); {value!r} does not fit")


def check_key(config: ConfigDict, key: str) -> None:
    """Refuses a dotted key that does not exist.

    Raises:
        UserError: naming the nearest keys that do.
    """
    keys = [name for name, _ in leaves(config.to_dict())]
    if key not in keys:
        raise UserError(f"there is no config key {key!r}{did_you_mean(key, keys)}")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping by their dotted keys."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differing_keys(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a nested mapping that have another value, or none, in the other."""
    theirs = dict(leaves(other))
    return sorted(key for key, value in leaves(config) if key not in theirs or theirs[key] != value)
