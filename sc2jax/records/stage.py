"""A stage: a piece of work that fills a folder and is done once for the same settings and inputs.

Each step of the recipe of `curate`, each measure of `evaluate` and each verb that leaves a folder is one. Its key is
the digest of all that its outputs depend on; a folder whose manifest has that key is complete.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from sc2jax.records.manifest import Manifest, Output, commit, completed, stage_key
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
        write: writes the files into a folder, and returns them with the stage's statistics.
        intact: looks at what the stage left beside the outputs of a manifest, such as checkpoints.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    write: Callable[[str], Written]
    intact: Callable[[Manifest], bool] = lambda _: True

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
        """The manifest of a folder in which this stage is complete and whole, else None."""
        manifest = completed(folder, self.key)
        return manifest if manifest is not None and self.intact(manifest) else None

    def run(self, folder: str) -> Manifest:
        """Does the work in a folder and commits it, unless it is done."""
        done = self.done(folder)
        if done is not None:
            return done
        outputs, statistics = self.write(folder)
        manifest = Manifest(
            stage=self.name,
            version=self.version,
            key=self.key,
            inputs=dict(self.inputs),
            config=self.config,
            operation=self.operation,
            outputs=tuple(sorted(outputs, key=lambda output: output.path)),
            statistics=statistics,
        )
        return commit(folder, manifest)


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value)
