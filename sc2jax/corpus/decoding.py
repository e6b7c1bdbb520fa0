"""From the bytes of a file to its text."""

import cchardet


def decode(content: bytes) -> tuple[str, str] | None:
    """The text and the name of its encoding, or None.

    Strict UTF-8, else what cchardet says, strictly; line ends, byte order marks and Unicode forms stay as they are.
    """
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        encoding = cchardet.detect(content)["encoding"]
    if not encoding or encoding.upper().replace("_", "-") in ("UTF-8", "UTF-8-SIG"):
        return None
    text = decode_as(content, encoding)
    return None if text is None else (text, encoding)


def decode_as(content: bytes, encoding: str) -> str | None:
    """The text in an encoding that `decode` has named; None where the bytes are no such text."""
    try:
        text = content.decode(encoding)
        text.encode("utf-8")
    except (ValueError, LookupError):  # a name with a NUL is a ValueError
        return None
    return text
