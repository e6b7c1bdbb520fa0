"""The config: a `ConfigDict` with one section a room, made from the rooms' dataclasses and turned back into them.

Defaults live in the dataclasses, which also say what each key means, its unit and its range; a file of `configs/` sets
what differs, the command line overrides both. A field whose value is derived from others (0 or "") is filled in when
the dataclasses are built, so that the config written beside a run is complete.
"""

import dataclasses
import json
import re
import runpy
import traceback
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from sc2jax.ablation.config import AblationConfig
from sc2jax.assets import asset_path
from sc2jax.config_values import leaves, set_value
from sc2jax.corpus.config import CorpusConfig
from sc2jax.errors import UserError, did_you_mean
from sc2jax.evaluation.config import EvaluationConfig
from sc2jax.feed.config import FeedConfig, ShowConfig, TokenizeConfig
from sc2jax.inference.config import CompletionConfig
from sc2jax.interop.config import ConvertConfig
from sc2jax.json_files import read_json
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.parallel.config import HostsConfig, MeshConfig
from sc2jax.plan.config import PlanConfig
from sc2jax.settings import check_ranges, setting
from sc2jax.text.config import FimConfig, FormatConfig, TokenizerConfig
from sc2jax.training.config import TrainingConfig

CONFIG_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class PathsConfig:
    """Where a run's inputs lie; each a local path or a URL; "" is a folder of the workdir."""

    source: str = setting(
        "",
        "Git repositories, archives, and folders of them, separated by commas or given one by one; @FILE names one a "
        'line, whatever its path; "": this machine\'s Python standard library.',
        decides=False,
    )
    corpus: str = setting("", "What `curate` wrote.", decides=False)
    heldout: str = setting(
        "",
        "What `curate` wrote for another run, whose held-out files, and what resembles them, are left out of the "
        'training files that are curated; "": none are.',
        decides=False,  # the digest of that corpus is an input
    )
    manifest: str = setting(
        "",
        "A corpus, or its identities/: `curate` builds that very corpus again from the contents in paths.source, "
        'whatever the section `corpus` says; "": it curates.',
        decides=False,  # the digest of the manifest is an input
    )
    tokenizer: str = setting("", "What `tokenizer` wrote, or a tokenizer's file, a .model or .json.", decides=False)
    tokenize: str = setting("", "What `tokenize` wrote.", decides=False)
    benchmarks: str = setting(
        "", 'Folder of benchmark files (docs/evaluation.md); "": $SC2JAX_BENCHMARKS, or benchmarks/.', decides=False
    )
    train: str = setting("", "What `train` or `convert` wrote.", decides=False)
    compilation_cache: str = setting(
        "",
        'Folder of compiled programs, in which only its user may write; "": sc2jax/compilations in the user\'s cache '
        '($XDG_CACHE_HOME or ~/.cache), "off": none. CPUs have none.',
        decides=False,
    )
    start: str = setting(
        "",
        'What `train` or `convert` wrote for another run, whose parameters a new run begins with; "": random ones.',
        decides=False,
    )

    def __post_init__(self) -> None:
        check_ranges("paths", self)


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
    adapters: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    hosts: HostsConfig = dataclasses.field(default_factory=HostsConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    tokenize: TokenizeConfig = dataclasses.field(default_factory=TokenizeConfig)
    show: ShowConfig = dataclasses.field(default_factory=ShowConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    completion: CompletionConfig = dataclasses.field(default_factory=CompletionConfig)
    convert: ConvertConfig = dataclasses.field(default_factory=ConvertConfig)
    ablation: AblationConfig = dataclasses.field(default_factory=AblationConfig)
    plan: PlanConfig = dataclasses.field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        check_ranges("", self)


def default_config() -> ConfigDict:
    """Every key with its default, locked: a key that does not exist cannot be set."""
    values: dict[str, Any] = {**_defaults(Settings), **{name: _defaults(kind) for name, kind in sections().items()}}
    return ConfigDict(values).lock()


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
        UserError: there is no such config, or it sets what does not exist or does not fit.
    """
    if name.endswith(".json"):
        return _load_json(name)
    file, colon, argument = name.partition(":")
    path = _find(file)
    try:
        # Not by the import system, which would leave a folder of bytecode beside the user's file.
        get_config = runpy.run_path(str(path), run_name=path.stem)["get_config"]
        config = get_config(argument) if colon else get_config()
        values = dict(leaves(config.to_dict())) if isinstance(config, ConfigDict) else {}
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's file may fail in any way
        raise UserError(f"config {name}: {_what_failed(error, path)}") from error
    if not values.keys() >= dict(leaves(default_config().to_dict())).keys():
        raise UserError(f"config {name}: get_config must return sc2jax.config.default_config() with its changes")
    return _with_values(name, values)


def load_base(name: str) -> ConfigDict:
    """The config of this name to base an ablation on, without the ablation that it may be itself.

    Raises:
        UserError: as for `load_config`.
    """
    config: Any = load_config(name)
    config.ablation.update(default_config().ablation)
    return config


def _load_json(name: str) -> ConfigDict:
    try:
        values = read_json(name, _Saved, "give a run's config.json as it was written")
    except FileNotFoundError as error:
        raise UserError(f"there is no config file {name}") from error
    return _with_values(name, dict(leaves(values)))


_Value: TypeAlias = bool | int | float | str | list[str | int]
_Saved: TypeAlias = dict[str, _Value | dict[str, _Value]]
"""What a config.json holds; which keys, and which type each has, the dataclasses say."""


def _with_values(name: str, values: Mapping[str, Any]) -> ConfigDict:
    """The default config with other values of dotted keys."""
    config = default_config()
    try:
        for key, value in values.items():
            set_value(config, key, value)
    except UserError as error:
        raise UserError(f"config {name}: {error}") from error
    return config


def _what_failed(error: BaseException, path: Path) -> str:
    """What an exception says, and where in the file, with ConfigDict's hint, without its dump of the whole section."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    first = text.split("\n")[0][:300]
    hint = re.search(r"Did you mean [^?]*\?", text)
    if hint is not None and hint[0] not in first:
        first += f" {hint[0]}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{where}: {first}"


def _find(file: str) -> Path:
    named = file if file.endswith(".py") else f"{file}.py"
    if Path(named).is_file():
        return Path(named)
    folder = asset_path("configs")
    shipped = folder / named.removeprefix("configs/")
    if shipped.is_file():
        return shipped
    if Path(named).exists():
        raise UserError(f"the config {named} is no regular file; name a Python file")
    names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py"))
    raise UserError(f"there is no config {file!r}{did_you_mean(file, names)}; the shipped ones are {', '.join(names)}")


def differing_keys(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a nested mapping that have another value, or none, in the other."""
    theirs = dict(leaves(other))
    return sorted(key for key, value in leaves(config) if key not in theirs or theirs[key] != value)
