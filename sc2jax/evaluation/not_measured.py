"""What a measure leaves where it could not be taken."""

from typing import Literal, TypedDict


class NotMeasured(TypedDict):
    """Why there is no figure."""

    measured: Literal[False]
    reason: str
