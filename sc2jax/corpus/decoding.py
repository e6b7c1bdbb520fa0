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
    try:
        text = content.decode(encoding)
        text.encode("utf-8")
    except (UnicodeError, LookupError):
        return None
    return text, encoding
