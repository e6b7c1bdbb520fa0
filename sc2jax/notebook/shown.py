"""What a notebook shows: a page, and a completion within its text."""

import dataclasses
import html
from typing import Literal

from sc2jax.display import page_text


@dataclasses.dataclass(frozen=True)
class Page:
    """A page that sc2jax wrote, shown in a frame of its own, in which nothing runs."""

    html: str
    height: int = 480
    """Of the frame, in pixels."""

    def _repr_html_(self) -> str:
        source = html.escape(self.html)
        return f'<iframe sandbox srcdoc="{source}" width="100%" height="{self.height}" style="border:0"></iframe>'


@dataclasses.dataclass(frozen=True)
class Completion:
    """What a model wrote after `prompt` and, where it filled a gap, before `suffix`; as a terminal shows it.

    `finish` is "stop" where the model ended by itself, "length" where it reached the limit of tokens.
    """

    prompt: str
    text: str
    suffix: str
    finish: Literal["stop", "length"]

    def __str__(self) -> str:
        return f"{self.prompt}{self.text}{self.suffix}"

    def _repr_html_(self) -> str:
        before, middle, after = map(page_text, (self.prompt, self.text, self.suffix))
        end = "" if self.finish == "stop" else "…"
        return f"<pre>{before}<mark>{middle}{end}</mark>{after}</pre>"
