"""What is completed, and how tokens are drawn."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting


@dataclasses.dataclass(frozen=True)
class CompletionConfig:
    """A completion asked for on the command line; without a prompt, two samples from held-out files are made."""

    prompt: str = setting("", "Text to go on from; with a suffix, the text before the gap.")
    suffix: str = setting("", 'Text after the gap; "": complete from left to right.')
    path: str = setting("", 'Path of the file in its repository; "": a document without metadata.')
    repository: str = setting("", "Name of the repository, given together with the path.")
    max_new_tokens: int = setting(96, "Length of a completion.", unit="tokens", at_least=1)
    temperature: float = setting(
        0.0, "Divides the logits before a token is drawn; 0: always the likeliest token.", at_least=0
    )
    top_p: float = setting(
        0.95,
        "Probability mass that tokens are drawn from, where the temperature is not 0.",
        more_than=0,
        at_most=1,
    )
    context_characters: int = setting(
        600, "Text of the held-out file shown around the gap of a sample.", unit="characters", at_least=1
    )

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or a path without a repository or the other way round.
        """
        check_ranges("completion", self)
        if bool(self.path) != bool(self.repository):
            raise UserError("completion.path and completion.repository are given together or not at all")
