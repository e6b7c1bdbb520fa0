"""A run: the folders of its stages, and the resolved config beside each of them.

The stages of a run lie side by side in the working folder: corpus, tokenizer, train, evaluate, complete, report. Each
reads the manifests of those before it.
"""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from sc2jax import storage
from sc2jax.config import CONFIG_FILE, Settings, settings_json
from sc2jax.display import print_text
from sc2jax.records.manifest import Manifest
from sc2jax.records.stage import Stage
from sc2jax.storage import join

NAMED = ("corpus", "tokenizer", "tokenize", "train")
"""The stages whose folders `paths` may name, because other runs may read them."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The settings of a run and its working folder."""

    settings: Settings
    workdir: str

    def folder(self, stage: str) -> str:
        """Where a stage lies: in the working folder, or where `paths` says."""
        named = getattr(self.settings.paths, stage) if stage in NAMED else ""
        return storage.absolute(named or join(self.workdir, stage))

    def do(self, stage: Stage, name: str = "") -> Manifest:
        """Does a stage in its folder, unless it is complete, and writes the resolved config beside it.

        The folder is that of `name`, by default the stage's own.
        """
        folder = self.folder(name or stage.name)
        done = stage.done(folder)
        if done is not None:
            say("complete already")
            if not saved_config(folder):  # a kill came between the commit and the config, or somebody removed it
                self.write_config(folder, stage.inputs)
            return done
        manifest = stage.run(folder)
        self.write_config(folder, stage.inputs)
        return manifest

    def write_config(self, folder: str, inputs: Collection[str]) -> None:
        """Writes the resolved config beside what it made, with the folders of the stages that were its inputs.

        `--config=FOLDER/config.json --workdir=ELSEWHERE` runs it again on the same inputs.
        """
        read = {name.partition("/")[0] for name in inputs}
        folders = {name: self.folder(name) for name in NAMED if name in read}
        source = ",".join(map(storage.absolute, source_folders(self.settings)))
        paths = dataclasses.replace(self.settings.paths, source=source, **folders)
        content = settings_json(dataclasses.replace(self.settings, paths=paths))
        storage.write_whole(join(folder, CONFIG_FILE), content.encode())


def open_run(settings: Settings, workdir: str) -> Run:
    """The run of a working folder.

    Raises:
        UserError: a folder is a URL of a kind that nothing here can open.
    """
    run = Run(settings, workdir)
    for path in (workdir, *(run.folder(stage) for stage in NAMED)):
        storage.refuse_unknown_kind(path)
    return run


def saved_config(folder: str) -> dict[str, Any]:
    """The config beside a stage; empty where it is missing or damaged."""
    try:
        values = json.loads(storage.read_bytes(join(folder, CONFIG_FILE)))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def source_folders(settings: Settings) -> list[str]:
    """The folders that `paths.source` names."""
    return [source.strip() for source in settings.paths.source.split(",") if source.strip()]


def say(message: str, folder: str = "") -> None:
    """A line about the stage under way, and the folder that it filled."""
    print_text(f"      {message}" + (f" -> {folder}" if folder else ""))
