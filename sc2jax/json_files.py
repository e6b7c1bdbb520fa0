"""JSON that comes from outside this process: decoded in one place, checked against the type that it should have.

A type is a dataclass, a TypedDict or whatever msgspec knows; what it does not say (the meaning of a number, a name
that must exist) the caller checks. Nothing that a file may hold ends in another error than a `UserError`.
"""

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from sc2jax import storage
from sc2jax.errors import UserError

T = TypeVar("T")

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""How many there are of something: files, bytes, tokens, steps."""

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""A part of a whole."""

Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e40)]
"""What is measured in numbers from 0 on; what float32 holds is less."""

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e40)]
"""The same where there is always some of it."""


def read_json(path: str, kind: type[T], remedy: str) -> T:
    """A JSON file as a value of the type `kind`.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no JSON, or has another shape; the message names the file, the place in it and the remedy.
    """
    return decode_json(storage.read_bytes(path), kind, path, remedy)


def decode_json(content: bytes, kind: type[T], where: str, remedy: str) -> T:
    """The same of content that was read already; `where` names it in the message.

    Raises:
        UserError: it is no JSON, or has another shape.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors and that of bytes that are no text are ValueErrors
        raise _damaged(where, error, remedy) from error


def as_kind(value: Any, kind: type[T], where: str, remedy: str) -> T:
    """The same of a part of what was decoded, whose type follows from the rest.

    Raises:
        UserError: it has another shape.
    """
    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error, remedy) from error


def _damaged(where: str, error: Exception, remedy: str) -> UserError:
    return UserError(f"{where} is damaged: {str(error) or 'nested too deeply'}; {remedy}")
