"""StarCoder2's special tokens: the only place that defines their literals and ids.

Order and ids: StarCoder2 paper, section 5.1, table 5 (ids 0-33); the released tokenizer adds the four redaction
placeholders of section 4.3 (ids 34-37).
"""

import enum
from typing import TypeAlias


class Special(enum.IntEnum):
    """A special token; its value is its id, `.literal` the way it is written."""

    END_OF_TEXT = 0
    FIM_PREFIX = 1
    FIM_MIDDLE = 2
    FIM_SUFFIX = 3
    FIM_PAD = 4
    REPO_NAME = 5
    FILE_SEP = 6
    ISSUE_START = 7
    ISSUE_COMMENT = 8
    ISSUE_CLOSED = 9
    JUPYTER_START = 10
    JUPYTER_TEXT = 11
    JUPYTER_CODE = 12
    JUPYTER_OUTPUT = 13
    JUPYTER_SCRIPT = 14
    EMPTY_OUTPUT = 15
    CODE_TO_INTERMEDIATE = 16
    INTERMEDIATE_TO_CODE = 17
    PR = 18
    PR_STATUS = 19
    PR_IS_MERGED = 20
    PR_BASE = 21
    PR_FILE = 22
    PR_BASE_CODE = 23
    PR_DIFF = 24
    PR_DIFF_HUNK = 25
    PR_COMMENT = 26
    PR_EVENT_ID = 27
    PR_REVIEW = 28
    PR_REVIEW_STATE = 29
    PR_REVIEW_COMMENT = 30
    PR_IN_REPLY_TO_REVIEW_ID = 31
    PR_IN_REPLY_TO_COMMENT_ID = 32
    PR_DIFF_HUNK_COMMENT_LINE = 33
    NAME = 34
    EMAIL = 35
    KEY = 36
    PASSWORD = 37

    @property
    def literal(self) -> str:
        """How the token is written, for example `<fim_prefix>`."""
        return _LITERALS[self]


_IRREGULAR = {
    Special.END_OF_TEXT: "<|endoftext|>",
    Special.NAME: "<NAME>",
    Special.EMAIL: "<EMAIL>",
    Special.KEY: "<KEY>",
    Special.PASSWORD: "<PASSWORD>",
}
_LITERALS = {token: _IRREGULAR.get(token, f"<{token.name.lower()}>") for token in Special}

Piece: TypeAlias = Special | str
"""A part of a document: a special token, or text, which never becomes a special token, whatever it spells."""
