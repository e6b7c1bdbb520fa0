"""GitHub issues and question threads as documents; both take the special tokens of issues.

Authors are called `username_0`, `username_1`, ... in the records already.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sc2jax.text.special_tokens import Piece, Special


def issue(record: Mapping[str, Any]) -> list[Piece]:
    """An issue and its events in order of time (StarCoder2 paper, section 5).

    `<issue_start>Title: TITLE\\nusername_0: TEXT<issue_comment>username_1: TEXT...<issue_closed>...`: the mark of its
    end stands where the issue was closed, and comments may follow.
    """
    pieces: list[Piece] = [Special.ISSUE_START, f"Title: {record['title']}\n{record['author']}: {record['text']}"]
    for event in record["events"]:
        if event["kind"] == "closed":
            pieces.append(Special.ISSUE_CLOSED)
        elif event["kind"] == "comment":
            pieces += [Special.ISSUE_COMMENT, f"{event['author']}: {event['text']}"]
        else:
            raise ValueError(f"an event of an issue is a comment or closed, not {event['kind']!r}")
    return pieces


def question_thread(record: Mapping[str, Any], rng: np.random.Generator) -> list[Piece]:
    """A question with its answers in random order (StarCoder2 paper, section 5).

    `<issue_start>username_0: QUESTION<issue_comment>username_3: ANSWER\\nUpvotes: 42 [selected answer]...`: no title,
    and a mark at the answer that the asker chose.
    """
    pieces: list[Piece] = [Special.ISSUE_START, f"{record['author']}: {record['text']}"]
    for index in rng.permutation(len(record["answers"])).tolist():
        answer = record["answers"][index]
        mark = " [selected answer]" if answer["selected"] else ""
        pieces += [Special.ISSUE_COMMENT, f"{answer['author']}: {answer['text']}\nUpvotes: {answer['upvotes']}{mark}"]
    return pieces
