"""What is completed, and how tokens are drawn."""

import dataclasses

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class CompletionConfig:
    """A completion asked for on the command line; without a prompt, two samples from held-out files are made."""

    prompt: str = ""  # text to go on from; with a suffix, the text before the gap
    suffix: str = ""  # text after the gap; "": complete from left to right
    path: str = ""  # the file's path in its repository; "": a document without metadata
    repository: str = ""  # the repository's name, given together with the path
    max_new_tokens: int = 96
    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float = 0.95  # probability mass that tokens are drawn from, where the temperature is not 0
    context_characters: int = 600  # of the held-out file around the gap of a sample

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of range, or a path without a repository or the other way round.
        """
        if self.max_new_tokens < 1:
            raise UserError(f"completion.max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if self.temperature < 0.0:
            raise UserError(f"completion.temperature is {self.temperature}; it must be at least 0")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"completion.top_p is {self.top_p}; it must lie in (0, 1]")
        if bool(self.path) != bool(self.repository):
            raise UserError("completion.path and completion.repository are given together or not at all")
