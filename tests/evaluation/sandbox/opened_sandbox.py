"""A sandbox as the tests look at it."""

from dataclasses import dataclass

import attacks

from sc2jax.evaluation.sandbox import Sandbox


@dataclass
class Open:
    """A sandbox, and how many processes of its own it has when nothing of a program is left."""

    sandbox: Sandbox
    keeper: int
    at_rest: int

    def processes(self) -> list[int]:
        return attacks.descendants(self.keeper)
