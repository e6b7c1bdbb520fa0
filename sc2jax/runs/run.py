"""A run: the folders of its stages, and the resolved config beside each of them.

The stages of a run lie side by side in the working folder: corpus, tokenizer, train, evaluate, complete, report. Each
reads the manifests of those before it.
"""

import dataclasses
import os
from collections.abc import Collection
from typing import Any, TypedDict

from sc2jax import storage
from sc2jax.config import CONFIG_FILE, Settings, settings_json
from sc2jax.display import print_text
from sc2jax.errors import UserError
from sc2jax.json_files import as_kind, read_json
from sc2jax.records.manifest import MANIFEST, Manifest, is_finished, read_manifest
from sc2jax.records.stage import Stage
from sc2jax.storage import join

NAMED = ("corpus", "tokenizer", "tokenize", "train")
"""The stages whose folders `paths` may name, because other runs may read them."""

OF_OTHERS = ("start", "heldout")
"""The paths that name what other runs wrote, and nothing of this one."""

MADE_BY = {"corpus": "curate"}
"""The verbs that do not have the name of the stage that they write."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The settings of a run and its working folder."""

    settings: Settings
    workdir: str

    def folder(self, stage: str) -> str:
        """Where a stage lies, or a dataset below it: in the working folder, or where `paths` says."""
        first, slash, below = stage.partition("/")
        named = getattr(self.settings.paths, first) if first in NAMED else ""
        return storage.absolute(f"{named or join(self.workdir, first)}{slash}{below}")

    def manifest(self, stage: str) -> Manifest:
        """The manifest of a stage that must be complete.

        Raises:
            UserError: it is not, and which verb completes it; or its manifest is damaged.
        """
        folder, first = self.folder(stage), stage.partition("/")[0]
        if not is_finished(folder):
            storage.refuse_no_folder(folder)
            elsewhere = f", or name a folder that it filled with --config.paths.{first}=DIR" if first in NAMED else ""
            raise UserError(
                f"{folder} holds no {MANIFEST}: `sc2jax {MADE_BY.get(first, first)}` was not run or did not finish; "
                f"run it{elsewhere}"
            )
        return read_manifest(folder)

    def do(self, stage: Stage, name: str = "") -> Manifest:
        """Does a stage in its folder, unless it is complete, with the resolved config beside what it makes.

        The folder is that of `name`, by default the stage's own.
        """
        folder = self.folder(name or stage.name)
        done = stage.done(folder)
        if done is not None:
            say("complete already")
            return done
        return self.with_config(stage).run(folder)

    def with_config(self, stage: Stage) -> Stage:
        """The stage, which will leave the resolved config beside its outputs."""
        return dataclasses.replace(stage, notes={CONFIG_FILE: self.config_json(stage.inputs)})

    def config_json(self, inputs: Collection[str]) -> bytes:
        """The resolved config, with the folders of the stages that were its inputs.

        `--config=FOLDER/config.json --workdir=ELSEWHERE` runs it again on the same inputs.
        """
        read = {name.partition("/")[0] for name in inputs}
        folders = {name: self.folder(name) for name in NAMED if name in read}
        source = absolute_sources(self.settings)
        for name in OF_OTHERS:
            path = getattr(self.settings.paths, name)
            folders[name] = storage.absolute(path) if path else ""
        paths = dataclasses.replace(self.settings.paths, source=source, **folders)
        return settings_json(dataclasses.replace(self.settings, paths=paths)).encode()


def open_run(settings: Settings, workdir: str) -> Run:
    """The run of a working folder.

    Raises:
        UserError: a folder is a URL of a kind that nothing here can open, or something else than a folder.
    """
    run = Run(settings, workdir)
    for name, path in {"--workdir": workdir, **{f"paths.{stage}": run.folder(stage) for stage in NAMED}}.items():
        storage.refuse_unknown_kind(path)
        if not (name == "paths.tokenizer" and is_tokenizer(path)):
            storage.refuse_no_folder(path, name)
    for name in OF_OTHERS:
        storage.refuse_unknown_kind(getattr(settings.paths, name))
    return run


def is_tokenizer(path: str) -> bool:
    """Whether a path of the config names a tokenizer's file, and not the folder of the stage."""
    return path.endswith((".model", ".json"))


def saved_config(folder: str) -> dict[str, Any]:
    """The config beside a stage; empty where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = join(folder, CONFIG_FILE)
    if not storage.exists(path):
        return {}
    return read_json(path, dict[str, Any], f"delete {folder} and run its stage again")


class _Saved(TypedDict, total=False):
    """What is read of a saved config of any version."""

    paths: dict[str, str]


def saved_paths(folder: str) -> dict[str, str]:
    """The paths of the config beside a stage, by name; empty where there is none.

    Raises:
        UserError: it is damaged.
    """
    where = join(folder, CONFIG_FILE)
    saved = as_kind(saved_config(folder), _Saved, where, f"delete {folder} and run its stage again")
    return saved.get("paths", {})


_LIST = "@"
"""Before the name of a file in `paths.source`: it names a source a line."""


def source_folders(settings: Settings) -> list[str]:
    """The sources that `paths.source` names, itself or in files; what such a file names is relative to its folder.

    Raises:
        UserError: a file cannot be read.
    """
    found = []
    for name in _names(settings):
        if name.startswith(_LIST):
            path = storage.absolute(name.removeprefix(_LIST))
            try:
                lines = os.fsdecode(storage.read_bytes(path)).splitlines()
            except OSError as error:
                raise UserError(
                    f"paths.source names {name}, which cannot be read: {error.strerror or error}"
                ) from error
            listed = [line for line in lines if line and not line.startswith("#")]
            found += [os.path.join(os.path.dirname(path), line) for line in listed]  # noqa: PTH118, PTH120
        else:
            found.append(name)
    return found


def absolute_sources(settings: Settings) -> str:
    """`paths.source` for use from another working directory."""
    return ",".join(
        _LIST + storage.absolute(name.removeprefix(_LIST)) if name.startswith(_LIST) else storage.absolute(name)
        for name in _names(settings)
    )


def _names(settings: Settings) -> list[str]:
    return [name.strip() for name in settings.paths.source.split(",") if name.strip()]


def say(message: str, folder: str = "") -> None:
    """A line about the stage under way, and the folder that it filled."""
    print_text(f"      {message}" + (f" -> {folder}" if folder else ""))
