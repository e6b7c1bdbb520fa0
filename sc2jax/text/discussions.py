"""GitHub issues and question threads as documents; both use the special tokens of issues.

The records already call the authors `username_0`, `username_1`, ...
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sc2jax.text.special_tokens import Piece, Special


def issue(record: Mapping[str, Any]) -> list[Piece]:
    """An issue and its events in chronological order (StarCoder2 paper, section 5).

    `<issue_start>Title: TITLE\\nusername_0: TEXT<issue_comment>username_1: TEXT...<issue_closed>...`: the last
    token stands where the issue was closed; comments may follow it.
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

    `<issue_start>username_0: QUESTION<issue_comment>username_3: ANSWER\\nUpvotes: 42 [selected answer]...`: there
    is no title, and the answer that the asker accepted is marked.
    """
    pieces: list[Piece] = [Special.ISSUE_START, f"{record['author']}: {record['text']}"]
    for index in rng.permutation(len(record["answers"])).tolist():
        answer = record["answers"][index]
        mark = " [selected answer]" if answer["selected"] else ""
        pieces += [Special.ISSUE_COMMENT, f"{answer['author']}: {answer['text']}\nUpvotes: {answer['upvotes']}{mark}"]
    return pieces
