"""Pull requests as documents: what was opened, the files it changes, and how its review went.

The grammar is that of the reference pipeline (bigcode's the-stack-v2, pull_requests_and_issues), of which the
StarCoder2 paper, section 5, shows a template; where the two differ, `FormatConfig.variant` says which to follow.
There is nothing between the parts but what is shown here; `...` means more of the same:

    opened, edited,     <pr>Title: TITLE\\nUSER: TEXT<pr_status>ACTION
      or reopened
    anything else       <pr>USER<pr_status>ACTION, and if closed <pr_is_merged>True or <pr_is_merged>False
    comment             <pr_comment>USER: TEXT<pr_event_id>ID, and in the reference <pr_status>ACTION
    review              <pr_review>USER: TEXT<pr_event_id>ID<pr_review_state>STATE
    review comment      <pr_review_comment><pr_event_id>ID<pr_in_reply_to_review_id>ID<pr_in_reply_to_comment_id>ID
                        <pr_file>PATH<pr_diff_hunk_comment_line>LINE<pr_diff_hunk>HUNK<pr_comment>USER: TEXT

Until the pull request is open, its events carry `<repo_name>REPOSITORY` after their status. The event that opens it is
followed by the base files, `<pr_base><pr_file>PATH<pr_base_code>CODE...`, and by what the head commit changes in them,
`<pr_diff><pr_file>PATH<pr_diff_hunk>HUNK...`; an event with a new head commit comes after the changes of that commit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.text.config import FormatConfig
from sc2jax.text.hunks import Change, changes, hunks, shifted_header, split_lines
from sc2jax.text.special_tokens import Piece, Special

TOKENS = (Special.REPO_NAME, *(token for token in Special if token.name.startswith("PR")))
"""The special tokens of pull requests, each of which ends the text before it."""

# This share of the base files is shown whole; of the others only what changes, with some lines around it.
_WHOLE_FILE_RATE = 0.2
_BASE_LINES = 32
_CONTEXT_LINES = (3, 10)
_LONGEST_REVIEW_HUNK = 10_000

# The paper has its own names for two of GitHub's review states; the reference pipeline writes GitHub's.
_PAPER_STATES = {"changes_requested": "changes_required", "dismissed": "rejected"}

Event = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _BaseFile:
    """A file before the pull request, and the part of it that is shown, which begins at line `start`."""

    lines: Sequence[str]
    shown: str
    start: int


def pull_request(record: Mapping[str, Any], rng: np.random.Generator, config: FormatConfig) -> list[Piece]:
    """A pull request and its events in chronological order.

    The random numbers, in order: for each base file, whether it is shown whole, else how many lines before and after
    what changes; then for each file of each head, when that is shown, how many lines of context.
    """
    return _Writer(record, rng, config).write()


class _Writer:
    def __init__(self, record: Mapping[str, Any], rng: np.random.Generator, config: FormatConfig) -> None:
        self._record, self._rng, self._config = record, rng, config
        self._pieces: list[Piece] = []
        self._open = False
        self._shown_head = ""
        self._base: dict[str, _BaseFile] = {}
        self._changes = _changes_by_head(record)

    def write(self) -> list[Piece]:
        for event in self._record["events"]:
            kind = event["kind"]
            if kind == "pull_request":
                self._pull_request(event)
            elif kind == "comment":
                self._comment(event)
            elif kind not in ("review", "review_comment"):
                raise ValueError(f"an event of a pull request cannot be of the kind {kind!r}")
            # Before the pull request is open, what was reviewed has not been shown.
            elif self._open:
                self._diff_of_a_new_head(event)
                if kind == "review":
                    self._review(event)
                else:
                    self._review_comment(event)
        return self._pieces

    def _pull_request(self, event: Event) -> None:
        if self._open and event["action"] != "opened":
            self._diff_of_a_new_head(event)
        if event["action"] in ("opened", "edited", "reopened"):
            self._pieces += [Special.PR, f"Title: {event['title']}\n{_said(event)}"]
        else:
            self._pieces += [Special.PR, event["author"]]
        self._pieces += [Special.PR_STATUS, event["action"]]
        if not self._open:
            self._pieces += [Special.REPO_NAME, self._record["repository"]]
        if event["action"] == "closed":
            self._pieces += [Special.PR_IS_MERGED, str(bool(event["merged"]))]
        if not self._open and event["action"] in ("opened", "reopened"):
            self._open = True
            self._base_files()
            self._diff_of_a_new_head(event)

    def _comment(self, event: Event) -> None:
        self._pieces += [Special.PR_COMMENT, _said(event), *_identified(Special.PR_EVENT_ID, event["event_id"])]
        if self._config.variant == "reference":
            self._pieces += [Special.PR_STATUS, event["action"]]

    def _review(self, event: Event) -> None:
        state = event["state"]
        if self._config.variant == "paper":
            state = _PAPER_STATES.get(state, state)
        self._pieces += [Special.PR_REVIEW, _said(event), *_identified(Special.PR_EVENT_ID, event["event_id"])]
        self._pieces += [Special.PR_REVIEW_STATE, state]

    def _review_comment(self, event: Event) -> None:
        base = self._base.get(event["path"])
        hunk = shifted_header(event["hunk"], base.start if base else 0)
        self._pieces += [
            Special.PR_REVIEW_COMMENT,
            *_identified(Special.PR_EVENT_ID, event["event_id"]),
            *_identified(Special.PR_IN_REPLY_TO_REVIEW_ID, event["review_id"]),
            *_identified(Special.PR_IN_REPLY_TO_COMMENT_ID, event["in_reply_to_id"]),
            Special.PR_FILE,
            event["path"],
            Special.PR_DIFF_HUNK_COMMENT_LINE,
            str(event["line"]),
            Special.PR_DIFF_HUNK,
            hunk if len(hunk) <= _LONGEST_REVIEW_HUNK else "[OMITTED]",
            Special.PR_COMMENT,
            _said(event),
        ]

    def _base_files(self) -> None:
        """The files that the pull request changes, as they were; the lines that any of its heads changes are shown."""
        self._pieces.append(Special.PR_BASE)
        for file in self._record["base_files"]:
            path = file["path"]
            found = [change for head in self._changes.values() for change in head.get(path, ())]
            if not found:
                continue
            self._base[path] = base = self._base_file(file["content"], found)
            self._pieces += [Special.PR_FILE, path, Special.PR_BASE_CODE, base.shown]

    def _base_file(self, content: str, found: Sequence[Change]) -> _BaseFile:
        lines = split_lines(content)
        if self._rng.random() < _WHOLE_FILE_RATE:
            return _BaseFile(lines, content, 0)
        before, after = self._rng.integers(0, _BASE_LINES), self._rng.integers(0, _BASE_LINES)
        start = max(0, min(change.base_start for change in found) - int(before))
        stop = min(len(lines), max(change.base_stop for change in found) + int(after))
        return _BaseFile(lines, "\n".join(lines[start:stop]), start)

    def _diff_of_a_new_head(self, event: Event) -> None:
        if event["head_commit"] == self._shown_head:
            return
        self._shown_head = event["head_commit"]
        if self._shown_head not in self._changes:
            return
        self._pieces.append(Special.PR_DIFF)
        files = {path: found for path, found in self._changes[self._shown_head].items() if path in self._base}
        if not files:
            self._pieces.append("[DIFFS OMITTED]")
        for path, found in files.items():
            base = self._base[path]
            context = int(self._rng.integers(*_CONTEXT_LINES))
            self._pieces += [Special.PR_FILE, path]
            for hunk in hunks(base.lines, found, context, base.start):
                self._pieces += [Special.PR_DIFF_HUNK, hunk]


def _changes_by_head(record: Mapping[str, Any]) -> dict[str, dict[str, list[Change]]]:
    """For each head commit the changes to the files that exist before and after."""
    base = {file["path"]: split_lines(file["content"]) for file in record["base_files"]}
    found: dict[str, dict[str, list[Change]]] = {}
    for head in record["heads"]:
        of_head = found[head["commit"]] = {}
        for file in head["files"]:
            path = file["path"]
            if path in base and (changed := changes(base[path], split_lines(file["content"]))):
                of_head[path] = changed
    return found


def _said(event: Event) -> str:
    """The author and what they said; the author alone if there is no text."""
    return f"{event['author']}: {event['text']}" if event["text"] else event["author"]


def _identified(token: Special, identity: int | None) -> list[Piece]:
    return [] if identity is None else [token, str(identity)]
