"""Document formats: how records become pieces, in training and in prompts, and where generation stops.

`FORMATS` lists them all. Text is always a piece of its own, never part of a literal, so a file that spells a special
token remains text. A format reads records as the corpus holds them, already filtered and anonymised; its random choices
come from the generator that it is given, which callers key by seed, epoch and the identity of the document.

Prompts are documents cut short: `repository_prompt` cuts inside a file, for a completion or an infilling, and what
`discussions`, `notebooks` and `pull_requests` write is a document without its end, which the model continues.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sc2jax.text import discussions, exercises, notebooks, pull_requests
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.fim import SENTINELS, infill_prompt
from sc2jax.text.special_tokens import Piece, Special

Record: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Format:
    """A document format.

    `kind` is that of the records that it is made of (`records/schemas.py`).
    `columns` are the columns that `render` reads. With `group_by`, consecutive rows with the same value in that column
    make one document; otherwise each row is a document. `render` takes the rows of one document, a random generator and
    the options. `stops` are the special tokens that end a text in this format, and so its generation.
    """

    kind: str
    columns: tuple[str, ...]
    group_by: str
    render: Callable[[Sequence[Record], np.random.Generator, FormatConfig], list[Piece]]
    stops: frozenset[Special]


def repository_document(repository: str, files: Sequence[tuple[str, str]], with_metadata: bool) -> list[Piece]:
    """A whole repository as one document, its files in the order given (StarCoder2 paper, section 5.1).

    With metadata: `<repo_name>NAME<file_sep>PATH1\\nCODE1<file_sep>PATH2\\nCODE2...<|endoftext|>`;
    without: `<file_sep>CODE1<file_sep>CODE2...<|endoftext|>`.
    """
    return _document(_repository(repository, files, with_metadata))


def repository_prompt(
    repository: str,
    files: Sequence[tuple[str, str]],
    path: str,
    prefix: str,
    *,
    suffix: str | None = None,
    with_metadata: bool = True,
    suffix_first: bool = False,
) -> list[Piece]:
    """A document cut off inside its last file, for the model to continue.

    `files` come before the file at `path`, whose text begins with `prefix`. With a `suffix` the file is arranged for
    infilling, and the continuation is its middle.
    """
    if suffix is None:
        return _repository(repository, [*files, (path, prefix)], with_metadata)
    before = _repository(repository, files, with_metadata)
    return [
        *before,
        Special.FILE_SEP,
        *infill_prompt(_file_text(path, prefix, with_metadata), suffix, suffix_first=suffix_first),
    ]


def render_repository(rows: Sequence[Record], rng: np.random.Generator, config: FormatConfig) -> list[Piece]:
    """The files of a repository in random order; name and paths are written both or not at all (paper, section 5.1)."""
    with_metadata = bool(rng.random() < config.metadata_rate)
    files = [(rows[index]["path"], rows[index]["content"]) for index in rng.permutation(len(rows)).tolist()]
    return repository_document(rows[0]["repository"], files, with_metadata)


def intermediate(record: Record, rng: np.random.Generator, config: FormatConfig) -> list[Piece]:
    """Code and the LLVM intermediate representation that it compiles to, in either order.

    Representations optimised for size are chosen more often than those optimised for speed (StarCoder2 paper, section
    2); where only one of them compiled, that one is taken.
    """
    by_size, by_speed = record["size_optimized"], record["speed_optimized"]
    first, second = (by_size, by_speed) if rng.random() < config.size_optimized_rate else (by_speed, by_size)
    compiled = second if first is None else first
    if rng.random() < config.code_first_rate:
        return [record["code"], Special.CODE_TO_INTERMEDIATE, compiled]
    return [compiled, Special.INTERMEDIATE_TO_CODE, record["code"]]


def documentation(record: Record) -> list[Piece]:
    """The pages of one package or site in the order in which they were crawled (StarCoder2 paper, section 2).

    The paper does not say what stands between pages; here it is a blank line.
    """
    return ["\n\n".join(page["text"] for page in record["pages"])]


def _repository(repository: str, files: Sequence[tuple[str, str]], with_metadata: bool) -> list[Piece]:
    pieces: list[Piece] = [Special.REPO_NAME, repository] if with_metadata else []
    for path, text in files:
        pieces += [Special.FILE_SEP, _file_text(path, text, with_metadata)]
    return _filled(pieces)


def _file_text(path: str, text: str, with_metadata: bool) -> str:
    return f"{path}\n{text}" if with_metadata else text


def _filled(pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if piece != ""]


def _document(pieces: Sequence[Piece]) -> list[Piece]:
    return [*_filled(pieces), Special.END_OF_TEXT]


def _ends(*tokens: Special) -> frozenset[Special]:
    return frozenset({Special.END_OF_TEXT, *tokens}) | SENTINELS


def _row_format(
    kind: str,
    columns: tuple[str, ...],
    write: Callable[[Record, np.random.Generator, FormatConfig], list[Piece]],
    *ends: Special,
) -> Format:
    """A format in which every row is a document: `write` gives its pieces without the end of text."""

    def render(rows: Sequence[Record], rng: np.random.Generator, config: FormatConfig) -> list[Piece]:
        (record,) = rows
        return _document(write(record, rng, config))

    return Format(kind, columns, "", render, _ends(*ends))


_FILE_COLUMNS = ("repository", "path", "content")
# A file ends where the next one begins or the repository ends; no other special token follows a file's text.
_FILE_ENDS = _ends(Special.FILE_SEP, Special.REPO_NAME)

FORMATS: dict[str, Format] = {
    "repository": Format("source_file", _FILE_COLUMNS, "repository", render_repository, _FILE_ENDS),
    "file": Format("source_file", _FILE_COLUMNS, "", render_repository, _FILE_ENDS),
    "issue": _row_format(
        "issue",
        ("title", "author", "text", "events"),
        lambda record, *_: discussions.issue(record),
        Special.ISSUE_COMMENT,
        Special.ISSUE_CLOSED,
    ),
    "pull_request": _row_format(
        "pull_request",
        ("repository", "base_files", "heads", "events"),
        pull_requests.pull_request,
        *pull_requests.TOKENS,
    ),
    "jupyter_script": _row_format("jupyter_script", ("script",), lambda record, *_: notebooks.jupyter_script(record)),
    "jupyter_structured": _row_format(
        "jupyter_structured",
        ("cells",),
        lambda record, *_: notebooks.jupyter_structured(record),
        *notebooks.CELL_TOKENS,
    ),
    "kaggle": _row_format(
        "kaggle",
        ("dataset", "tables", "script"),
        lambda record, _, config: notebooks.kaggle_script(record, config),
        *notebooks.CELL_TOKENS,
        Special.JUPYTER_SCRIPT,
    ),
    "kaggle_structured": _row_format(
        "kaggle",
        ("dataset", "tables", "cells"),
        lambda record, _, config: notebooks.kaggle_structured(record, config),
        *notebooks.CELL_TOKENS,
    ),
    "documentation": _row_format("documentation", ("pages",), lambda record, *_: documentation(record)),
    "intermediate": _row_format(
        "intermediate",
        ("code", "size_optimized", "speed_optimized"),
        intermediate,
        Special.CODE_TO_INTERMEDIATE,
        Special.INTERMEDIATE_TO_CODE,
    ),
    "question_thread": _row_format(
        "question_thread",
        ("author", "text", "answers"),
        lambda record, rng, _: discussions.question_thread(record, rng),
        Special.ISSUE_COMMENT,
    ),
    "lhq": _row_format(
        "lhq",
        ("kind", "question", "starter_code", "call_based", "solutions"),
        lambda record, *_: exercises.exercise(record),
    ),
    "plain_text": _row_format("plain_text", ("text",), lambda record, *_: [record["text"]]),
}
"""The formats, by the names that mixtures use."""

SOURCE_CODE = frozenset({"repository", "file"})
"""The formats whose documents are source code."""


def is_infilled(name: str, config: FimConfig) -> bool:
    """Whether documents of a format take part in fill-in-the-middle."""
    return config.level != "off" and (name in SOURCE_CODE or not config.source_code_only)
