"""A stage: a piece of work that fills a folder and is done once for the same settings and inputs.

Each step of the recipe of `curate`, each measure of `evaluate` and each verb that leaves a folder is one. Its key is
the digest of all that its outputs depend on; a folder whose manifest has that key is complete.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from sc2jax.records.manifest import Manifest, Output, completed, stage_key, write_output
from sc2jax.records.stage_folder import claimed, delete_unfinished, is_half_committed, refuse_foreign
from sc2jax.settings import decisive, incidental

Written = tuple[list[Output], dict[str, Any]]
"""What a stage wrote: its outputs, and its statistics."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage before it is done.

    Attributes:
        name: stands in the manifest and in the key.
        version: raised when the code changes what comes out, so that folders written before are made anew.
        settings: the sections of the config that it reads, and values such as the seed, by name. What a section's
            fields declare as deciding the result goes into the key; the rest stands in the manifest.
        inputs: the digests of what it reads, by name.
        write: writes the files into the folder that it is given, from where they are moved to the stage's own when all
            is done; returns them with the stage's statistics.
        intact: looks at what the stage left beside the outputs of a manifest, such as checkpoints.
        adopts: looks at a folder without a mark or a manifest, perhaps a copy without hidden files, and says whether
            what lies in it is this very stage, unfinished.
        notes: files that say how the work was done, such as its resolved config: they are committed, and checked,
            like the outputs, but nothing depends on them.
        keeps: the names of files and folders that it leaves beside its outputs.
        resumes: whether `write` goes on where it was interrupted, by its notes in `notes_folder` (`stage_folder.py`)
            of the folder that it is given, which then still holds all that it had written.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    write: Callable[[str], Written]
    intact: Callable[[Manifest], bool] = lambda _: True
    adopts: Callable[[str], bool] = lambda _: False
    notes: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    keeps: tuple[str, ...] = ()
    resumes: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What the outputs depend on, of the settings."""
        return {name: decisive(part) if _is_section(part) else part for name, part in self.settings.items()}

    @property
    def operation(self) -> dict[str, Any]:
        """How the work is done, which changes the outputs by rounding at most."""
        parts = {name: incidental(part) for name, part in self.settings.items() if _is_section(part)}
        return {name: part for name, part in parts.items() if part}

    @property
    def key(self) -> str:
        """The digest of all that the outputs depend on."""
        return stage_key(self.name, self.version, self.config, self.inputs)

    def done(self, folder: str) -> Manifest | None:
        """The manifest of a folder in which this stage is complete and whole, else None.

        What an interrupted run with other settings left in a complete folder is deleted.

        Raises:
            UserError: the folder holds something else, or its manifest is damaged.
        """
        manifest = self._complete(folder)
        if manifest is not None:
            delete_unfinished(folder)
        return manifest

    def _complete(self, folder: str) -> Manifest | None:
        refuse_foreign(folder, self.name, self.adopts)
        if is_half_committed(folder):
            return None
        manifest = completed(folder, self.key)
        return manifest if manifest is not None and self.intact(manifest) else None

    def run(self, folder: str) -> Manifest:
        """Does the work in a folder and commits it, unless it is done.

        Raises:
            UserError: the folder holds something else, or another process is writing in it.
        """
        done = self.done(folder)
        if done is not None:
            return done
        with claimed(folder, self.name, self.adopts, self.key if self.resumes else "") as claim:
            done = self._complete(folder)  # another process may have been quicker, or a commit have been interrupted
            if done is not None:
                return done
            outputs, statistics = self.write(claim.unfinished)
            outputs += [write_output(claim.unfinished, name, note, result=False) for name, note in self.notes.items()]
            manifest = Manifest(
                stage=self.name,
                version=self.version,
                inputs=dict(self.inputs),
                config=self.config,
                operation=self.operation,
                outputs=tuple(sorted(outputs, key=lambda output: output.path)),
                statistics=statistics,
            )
            claim.commit(manifest, self.keeps)
            return manifest


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value)
