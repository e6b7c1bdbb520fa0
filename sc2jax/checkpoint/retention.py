"""Which checkpoints of a run stay."""

import dataclasses
import heapq
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Retention:
    """What stays of a run's checkpoints, the rest of which are deleted.

    Attributes:
        newest: how many of the newest ones.
        every: those whose step is a multiple of this, for ever; 0: none.
        best: how many of those with the lowest evaluation loss, the newer one of two that are equal; 0: none.
    """

    newest: int
    every: int = 0
    best: int = 0

    def outdated(self, saved: Mapping[int, float | None]) -> list[int]:
        """The steps whose checkpoints go, oldest first, of those saved with their evaluation losses.

        One without a loss is none of the best.
        """
        stays = set(heapq.nlargest(self.newest, saved))
        stays |= {step for step in saved if self.every and step % self.every == 0}
        measured = [(loss, -step) for step, loss in saved.items() if loss is not None]
        stays |= {-negated for _, negated in heapq.nsmallest(self.best, measured)}
        return sorted(set(saved) - stays)
