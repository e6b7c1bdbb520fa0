"""An ablation: the runs over one base config, the stages that they share, and the command of each.

In the working folder lie `base.json`, the config that every command begins with; below `shared/` the stages that
several runs read; below `runs/` a run each. A command is one that may be given by hand: `sc2jax VERB --config=base.json
--config.KEY=VALUE --workdir=FOLDER`.
"""

import dataclasses
import shlex
from collections.abc import Mapping

from ml_collections import ConfigDict

from sc2jax.ablation.config import AblationConfig
from sc2jax.ablation.variants import Variant
from sc2jax.config import Settings
from sc2jax.storage import join

BASE = "base.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """A verb that is run in a process of its own.

    Attributes:
        name: also that of its log.
        verb: of the command line.
        overrides: over the base config.
        workdir: its working folder.
        leaves: the folders of the stages that it does.
        after: the names of the jobs whose outputs it reads.
    """

    name: str
    verb: str
    overrides: Mapping[str, str]
    workdir: str
    leaves: tuple[str, ...]
    after: tuple[str, ...]

    def arguments(self, base: str) -> list[str]:
        """What follows `sc2jax` on the command line; `base` is the file of the base config."""
        given = [f"--config.{key}={value}" for key, value in self.overrides.items()]
        return [self.verb, f"--config={base}", *given, f"--workdir={self.workdir}"]


@dataclasses.dataclass(frozen=True)
class AblationRun:
    """A variant trained with a seed; `settings` are those of its training."""

    variant: Variant
    seed: int
    settings: Settings
    train: Job
    evaluate: Job

    @property
    def name(self) -> str:
        """That of its folder."""
        return run_name(self.variant, self.seed)

    @property
    def jobs(self) -> tuple[Job, Job]:
        """In their order."""
        return self.train, self.evaluate


@dataclasses.dataclass(frozen=True)
class Ablation:
    """All of it; `config` is the base, `corpus` is where its corpus lies, on which every run is scored."""

    config: ConfigDict
    settings: AblationConfig
    workdir: str
    corpus: str
    shared: tuple[Job, ...]
    runs: tuple[AblationRun, ...]

    @property
    def base(self) -> str:
        """The file of the base config."""
        return join(self.workdir, BASE)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job, each after those whose outputs it reads."""
        return (*self.shared, *(job for run in self.runs for job in run.jobs))

    def lines(self) -> list[str]:
        """The commands as a shell takes them, one line a stage that is shared, and one a run."""
        lines = [self._command(job) for job in self.shared]
        return lines + [" && ".join(map(self._command, run.jobs)) for run in self.runs]

    def _command(self, job: Job) -> str:
        return shlex.join(["sc2jax", *job.arguments(self.base)])


def run_name(variant: Variant, seed: int) -> str:
    """The name of a run's folder."""
    return f"{variant.label}-seed{seed}"
