"""What is completed, and how tokens are drawn."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

MOST_NEW_TOKENS = 1_000_000
"""A limit far beyond what any model has seen in one sequence, and far below what 32 bits count."""

BY_THE_MODEL = -1.0
"""The temperature that stands for the model's own."""

TEMPERATURE = 0.7
"""That of a model trained here: the likeliest tokens of a small one go round in circles."""


@dataclasses.dataclass(frozen=True)
class CompletionConfig:
    """A completion asked for on the command line; without a prompt, two samples from held-out files are made."""

    prompt: str = setting("", "Text to go on from; with a suffix, the text before the gap.")
    suffix: str = setting("", 'Text after the gap; "": complete from left to right.')
    path: str = setting("", 'Path of the file in its repository; "": a document without metadata.')
    repository: str = setting("", "Name of the repository, given together with the path.")
    max_new_tokens: int = setting(96, "Length of a completion.", unit="tokens", at_least=1, at_most=MOST_NEW_TOKENS)
    temperature: float = setting(
        BY_THE_MODEL,
        "Divides the logits before a token is drawn; 0: always the likeliest token; -1: of an imported model what its "
        f"generation_config.json says, the likeliest token if it says nothing, and {TEMPERATURE} of one trained here.",
        at_least=BY_THE_MODEL,
        at_most=100,
    )
    top_p: float = setting(
        0.95,
        "Probability mass that tokens are drawn from, where they are drawn.",
        more_than=0,
        at_most=1,
    )
    context_characters: int = setting(
        600,
        "Text of the held-out file shown around the gap of a sample.",
        unit="characters",
        at_least=1,
        at_most=1_000_000,
    )

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or a path without a repository or the other way round.
        """
        check_ranges("completion", self)
        if BY_THE_MODEL < self.temperature < 0:
            raise UserError(f"completion.temperature is {self.temperature}; it must be {BY_THE_MODEL:g} or at least 0")
        if bool(self.path) != bool(self.repository):
            raise UserError("completion.path and completion.repository are given together or not at all")
