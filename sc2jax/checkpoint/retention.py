"""Which checkpoints of a run stay."""

import dataclasses
import heapq
from collections.abc import Mapping

from sc2jax.checkpoint.ownership import delete_checkpoint, own_steps
from sc2jax.checkpoint.progress import read_progress


@dataclasses.dataclass(frozen=True)
class Retention:
    """What stays of a run's checkpoints, the rest of which are deleted.

    Attributes:
        newest: how many of the newest ones.
        every: those whose step is a multiple of this, for ever; 0: none.
        best: how many of those with the lowest evaluation loss, the newer one of two that are equal; 0: none.
        protected: the step of one that stays whatever comes, as others may be using it; 0: none.
    """

    newest: int
    every: int = 0
    best: int = 0
    protected: int = 0

    def outdated(self, saved: Mapping[int, float | None]) -> list[int]:
        """The steps whose checkpoints go, oldest first, of those saved with their evaluation losses.

        One without a loss is none of the best.
        """
        stays = set(heapq.nlargest(self.newest, saved))
        stays |= {step for step in saved if self.every and step % self.every == 0}
        stays |= {self.protected} & saved.keys()
        measured = [(loss, -step) for step, loss in saved.items() if loss is not None]
        stays |= {-negated for _, negated in heapq.nsmallest(self.best, measured)}
        return sorted(set(saved) - stays)

    def saved(self, folder: str) -> dict[int, float | None]:
        """The steps of the checkpoints in a folder with their evaluation losses, as far as these decide.

        Raises:
            UserError: a checkpoint does not say what it is.
        """
        return {step: read_progress(folder, step).evaluation_loss if self.best else None for step in own_steps(folder)}

    def delete_outdated(self, folder: str, spared: int | None = None) -> None:
        """Deletes the checkpoints in a folder that do not stay, but not that of the step `spared`.

        Raises:
            UserError: a checkpoint does not say what it is.
        """
        for step in self.outdated(self.saved(folder)):
            if step != spared:
                delete_checkpoint(folder, str(step))
