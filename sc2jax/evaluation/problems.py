"""What a benchmark asks of a model, before anything is written."""

import dataclasses
from collections.abc import Sequence

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Piece, Special


@dataclasses.dataclass(frozen=True)
class Problem:
    """A prompt, and the texts that end what is written after it.

    A prompt ends in no white space: StarCoder2's tokens hold a newline together with the indentation after it, so such
    a prompt cuts a token in two, which costs most of the score.

    Attributes:
        task_id: of the task in its benchmark.
        pieces: the prompt.
        stops: a completion is cut at the first place where one of them begins.
    """

    task_id: str
    pieces: Sequence[Piece]
    stops: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses a prompt that no benchmark may send.

        Raises:
            UserError: it is empty, as in a damaged file.
            ValueError: it ends in white space, or a stop is empty.
        """
        last = next((piece for piece in reversed(self.pieces) if piece != ""), "")
        if not isinstance(last, Special) and last.rstrip() != last:
            raise ValueError(f"the prompt of {self.task_id} ends in white space: {last[-20:]!r}")
        if last == "":
            raise UserError(f"the prompt of {self.task_id} is empty, in its benchmark's file; bring the published file")
        if "" in self.stops:
            raise ValueError(f"a stop of {self.task_id} is empty and would end every completion at once")

    @property
    def prompt(self) -> str:
        """The prompt for a reader, special tokens as their literals."""
        return "".join(piece.literal if isinstance(piece, Special) else piece for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: divides the logits before a token is drawn; 0 takes the likeliest token.
        top_p: probability mass that tokens are drawn from.
        samples: of each task.
        max_new_tokens: the most tokens of a completion.
    """

    temperature: float
    top_p: float
    samples: int
    max_new_tokens: int
