"""Arrow schemas of what the corpus keeps on disk.

Records are as the document formats read them: filtered, without bots, their authors called `username_0` and so on.
Every record has an identity: a file its repository and path, any other record its `id`. It says where it
comes from by the Software Heritage identifier of its bytes if the archive has them, else by the address and the
`snapshot` (the dump or crawl) in which it was found. Its bytes are checked by the manifest and the pages of its part; a
source file, whose text later stages edit, has digests of its own.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

SPLITS = ("train", "heldout")
"""The sides of a corpus, each a folder of its own: what is trained on, and what is kept from training."""


_TEXTS = pa.list_(pa.field("item", pa.string(), nullable=False))


def _structure(nullable: Sequence[str] = (), **fields: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field(name, kind, nullable=name in nullable) for name, kind in fields.items()])


def _structures(nullable: Sequence[str] = (), **fields: pa.DataType) -> pa.DataType:
    """A list of structures, of which some fields may be without a value."""
    return pa.list_(pa.field("item", _structure(nullable, **fields), nullable=False))


def _schema(columns: Mapping[str, pa.DataType], nullable: Sequence[str] = ()) -> pa.Schema:
    """The columns of a source, after those that every record but a file has."""
    provenance = {
        "id": pa.string(),
        "url": pa.string(),
        "snapshot": pa.string(),
        "licenses": _TEXTS,
        "license_type": pa.string(),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=name in nullable) for name, kind in (provenance | dict(columns)).items()]
    )


_EDIT = pa.struct(
    [
        pa.field(name, pa.string() if name == "rule" else pa.int64(), nullable=False)
        for name in ("start", "end", "source_start", "source_end", "rule")
    ]
)

_TEXT_OF_ORIGIN = ("url", "branch", "directory", "snapshot", "visit_date", "revision_date", "committer_date")

ORIGIN = pa.schema(
    [
        pa.field("revision", pa.string()),
        *(pa.field(name, pa.string()) for name in _TEXT_OF_ORIGIN),
        pa.field("stars", pa.int64()),
        pa.field("forks", pa.int64()),
        pa.field("gha_license", pa.string()),
    ]
)
"""Where a repository comes from, each column null where that is unknown.

`url` is where it was cloned from, `branch` what is checked out; `revision` (`swh:1:rev:`), `directory` (`swh:1:dir:`)
and `snapshot` (`swh:1:snp:`) are the Software Heritage identifiers of the commit, of its tree, and of all branches at
the visit. `visit_date` is when the archive looked at the repository, the other dates are those of the commit, in UTC,
such as 2023-07-26T10:00:00Z. `stars`, `forks` and `gha_license` (an SPDX identifier) are what GHArchive says.
"""

SOURCE_FILE = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("content", pa.large_string(), nullable=False),
        pa.field("swhid", pa.string(), nullable=False),
        *ORIGIN,
        pa.field("is_vendor", pa.bool_()),
        pa.field("is_generated", pa.bool_()),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("encoding", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("licenses", _TEXTS, nullable=False),
        pa.field("license_type", pa.string(), nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),
        pa.field("edits", pa.list_(pa.field("item", _EDIT, nullable=False)), nullable=False),
        pa.field("edits_sha256", pa.string(), nullable=False),
    ]
)
"""A file of the curated corpus.

`path` is relative to its repository, with forward slashes. `swhid` is the Software Heritage identifier of the bytes as
they were found (`swh:1:cnt:` and their git blob sha1), `source_bytes` their number; what follows it is that of the
repository (ORIGIN). `is_vendor` says whether its path is one of somebody else's code, by Linguist's table, and
`is_generated` whether the text says that a program wrote it; both are null where that was not looked at. `text_sha256`
is the digest of `content` as it is now, in UTF-8, and `edits` says what was changed in it since it was decoded
(`edits.py`), `edits_sha256` their digest. `licenses` are SPDX identifiers, sorted; `license_type` is one of
`permissive`, `no_license`, `non_permissive`.
"""

IDENTITY = pa.schema(
    [
        *(field for field in SOURCE_FILE if field.name != "content"),
        pa.field("replacements", _TEXTS, nullable=False),
        pa.field("part", pa.int64(), nullable=False),
        pa.field("row_group", pa.int64(), nullable=False),
    ]
)
"""A file of the curated corpus without its content, from which and the archive that content follows.

For each of its `edits`, `replacements` holds what stands in the place of the source's characters: a placeholder, and
nothing of what was replaced. `part` is the number in the name of the part that it is in, below its side of the split,
and `row_group` that of the row group within it.
"""

REJECTED_FILE = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("swhid", pa.string(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""A file that was left out: who it is, which stage dropped it by which rule, and the figure or file that decided."""

KEPT_OF_REPOSITORY = ("train_files", "heldout_files", "kept_bytes")
"""The columns of a repository that are known when its files have been decided on."""

REPOSITORY = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("repository", "source", "found")),
        *ORIGIN,
        *(pa.field(name, pa.int64(), nullable=False) for name in ("files", "bytes", *KEPT_OF_REPOSITORY)),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""A repository that a source holds: one line for each, whatever became of it.

`source` is the base name of the source and `found` the name within it; where it comes from follows (ORIGIN). `files`
and `bytes` are those listed; `kept_bytes` those of `train_files` and `heldout_files`. Where nothing is kept, `reason`
says why: what is wrong with the repository, or for what most of its files were left out.
"""

ISSUE = _schema(
    {
        "repository": pa.string(),
        "title": pa.string(),
        "author": pa.string(),
        "text": pa.large_string(),
        "created_at": pa.string(),
        "events": _structures(
            ["author", "text"],
            kind=pa.string(),
            author=pa.string(),
            text=pa.large_string(),
            created_at=pa.string(),
        ),
    }
)
"""An issue: who opened it with which text, and what followed in order of time.

`id` is `owner/repository/issues/number`. An event is a `comment`, which has an author and a text, or `closed`. Times
are as GitHub writes them, such as 2023-07-26T10:00:00Z.
"""

_OF_A_REVIEW_COMMENT = ("review_id", "in_reply_to_id", "path", "line", "hunk")

PULL_REQUEST = _schema(
    {
        "repository": pa.string(),
        "base_commit": pa.string(),
        "base_files": _structures(path=pa.string(), content=pa.large_string(), language=pa.string(), swhid=pa.string()),
        "heads": _structures(
            commit=pa.string(),
            files=_structures(path=pa.string(), content=pa.large_string(), swhid=pa.string()),
        ),
        "events": _structures(
            ["action", "title", "head_commit", "merged", "event_id", "state", *_OF_A_REVIEW_COMMENT],
            kind=pa.string(),
            action=pa.string(),
            author=pa.string(),
            title=pa.string(),
            text=pa.large_string(),
            created_at=pa.string(),
            head_commit=pa.string(),
            merged=pa.bool_(),
            event_id=pa.int64(),
            state=pa.string(),
            review_id=pa.int64(),
            in_reply_to_id=pa.int64(),
            path=pa.string(),
            line=pa.int64(),
            hunk=pa.large_string(),
        ),
    }
)
"""A pull request against one base commit, with what its head commits make of the base files.

`id` is `owner/repository/pull/number`, `repository` that of the base. A head lists the files that it changes and that
exist before and after; one that lists none changes only what is not kept. Events are in order of time:

- `pull_request`: `action` is `opened`, `edited`, `reopened`, `closed` or another of GitHub's; `title` and `text` are
  those that the pull request has then; `merged` says how a closed one ended;
- `comment`: `action` is `created` or another;
- `review`: `state` is `approved`, `dismissed`, `commented` or `changes_requested`, the text may be empty;
- `review_comment`: `review_id` and `in_reply_to_id` say what it belongs to, `line` is its position in GitHub's `hunk`
  of the file at `path`.

All have an author and a text, all but comments a `head_commit`, all but `pull_request` an `event_id`; the rest is null.
"""

_CELLS = _structures(["output"], kind=pa.string(), text=pa.large_string(), output=pa.large_string())

JUPYTER_SCRIPT = _schema(
    {
        "repository": pa.string(),
        "path": pa.string(),
        "swhid": pa.string(),
        "language": pa.string(),
        "script": pa.large_string(),
    }
)
"""A notebook of a repository as a script in the language of its kernel; `swhid` is that of the notebook."""

JUPYTER_STRUCTURED = _schema(
    {"repository": pa.string(), "path": pa.string(), "swhid": pa.string(), "cells": _CELLS},
)
"""A notebook of a repository cell by cell, in its order.

The kind of a cell is `markdown` or `code`; `output` is the text of a code cell's first output, or null. At least one
code cell with text comes after a `markdown` one with text.
"""

KAGGLE_NOTEBOOK = _schema(
    {
        "dataset": _structure(id=pa.string(), title=pa.string(), description=pa.large_string()),
        "tables": _structures(path=pa.string(), info=pa.large_string(), examples=_TEXTS),
        "script": pa.large_string(),
        "cells": _CELLS,
    },
    nullable=["dataset"],
)
"""A notebook of Kaggle, as a script and cell by cell, with what is known of its data.

`dataset` is null where nothing is known; its `id` is `owner/slug`. A table is a CSV file that the notebook reads:
`path` as the notebook writes it, `info` what `DataFrame.info` prints, `examples` its first rows without the header,
each as a line, five if the table has as many.
"""

DOCUMENTATION = _schema({"package": pa.string(), "pages": _structures(url=pa.string(), text=pa.large_string())})
"""The documentation of a package or site in Markdown or plain text, page by page in the order of the crawl."""

INTERMEDIATE = _schema(
    {
        "language": pa.string(),
        "code": pa.large_string(),
        "size_optimized": pa.large_string(),
        "speed_optimized": pa.large_string(),
    },
    nullable=["size_optimized", "speed_optimized"],
)
"""A program and the LLVM intermediate representation that it compiles to, optimised for size and for speed.

One of the two is null where only the other compiled.
"""

QUESTION_THREAD = _schema(
    {
        "author": pa.string(),
        "text": pa.large_string(),
        "answers": _structures(author=pa.string(), text=pa.large_string(), upvotes=pa.int64(), selected=pa.bool_()),
    }
)
"""A question of StackOverflow and its answers; `selected` marks the one that the asker chose."""

EXERCISE = _schema(
    {
        "kind": pa.string(),
        "question": pa.large_string(),
        "starter_code": pa.large_string(),
        "call_based": pa.bool_(),
        "solutions": _structures(language=pa.string(), text=pa.large_string()),
    }
)
"""An exercise of one of the small, high-quality sets (LHQ), with its solutions in their order.

`kind` is `apps`, `code_contests`, `rosetta_code` (the first line of the question is the task's name) or
`question_answer` (GSM8K, SciRel, DeepMind Mathematics). `starter_code`, which may be "", and `call_based` belong to
`apps`.
"""

PLAIN_TEXT = _schema({"text": pa.large_string()})
"""A text without structure: of arXiv, Wikipedia, OpenWebMath, or of an LHQ set such as MultiPL-T and Proofsteps."""

SCHEMAS: Mapping[str, pa.Schema] = {
    "source_file": SOURCE_FILE,
    "issue": ISSUE,
    "pull_request": PULL_REQUEST,
    "jupyter_script": JUPYTER_SCRIPT,
    "jupyter_structured": JUPYTER_STRUCTURED,
    "kaggle": KAGGLE_NOTEBOOK,
    "documentation": DOCUMENTATION,
    "intermediate": INTERMEDIATE,
    "question_thread": QUESTION_THREAD,
    "lhq": EXERCISE,
    "plain_text": PLAIN_TEXT,
}
"""The sources of The Stack v2: from the kind of a record to its schema."""
