"""Small exports of Software Heritage that the tests make: tables in ORC, contents, and hours of GHArchive."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from dulwich.objects import Blob, Commit, Tree
from dulwich.refs import HEADREF
from dulwich.repo import Repo
from pyarrow import orc
from swh.model.model import Snapshot

SCHEMAS = {
    "origin_visit_status": [
        ("origin", "string"),
        ("visit", "bigint"),
        ("date", "timestamp"),
        ("status", "string"),
        ("snapshot", "string"),
        ("type", "string"),
    ],
    "snapshot_branch": [
        ("snapshot_id", "string"),
        ("name", "binary"),
        ("target", "string"),
        ("target_type", "string"),
    ],
    "revision": [
        ("id", "string"),
        ("message", "binary"),
        ("author", "binary"),
        ("date", "timestamp"),
        ("date_offset", "smallint"),
        ("date_raw_offset_bytes", "binary"),
        ("committer", "binary"),
        ("committer_date", "timestamp"),
        ("committer_offset", "smallint"),
        ("committer_date_raw_offset_bytes", "binary"),
        ("directory", "string"),
        ("type", "string"),
        ("raw_manifest", "binary"),
    ],
    "directory_entry": [
        ("directory_id", "string"),
        ("name", "binary"),
        ("type", "string"),
        ("target", "string"),
        ("perms", "int"),
    ],
    "content": [
        ("sha1", "string"),
        ("sha1_git", "string"),
        ("sha256", "string"),
        ("blake2s256", "string"),
        ("length", "bigint"),
        ("status", "string"),
        ("data", "binary"),
    ],
}
"""Copied from swh.export 1.12.0, `swh/export/relational.py` (MAIN_TABLES, RELATION_TABLES), which a test compares."""

_TYPES = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "int": pa.int32(),
    "smallint": pa.int16(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("ns"),
}

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]


def no_tables() -> Tables:
    return {name: [] for name in SCHEMAS}


def arrow_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table in its columns and types; dates are given in microseconds."""
    schema = pa.schema([(column, _TYPES[kind]) for column, kind in SCHEMAS[name]])
    dates = {column for column, kind in SCHEMAS[name] if kind == "timestamp"}

    def value(row: Mapping[str, Any], column: str) -> Any:
        found = row.get(column)
        return found * 1000 if column in dates and found is not None else found

    return pa.Table.from_pylist([{column: value(row, column) for column in schema.names} for row in rows], schema)


def write_export(folder: Path, tables: Tables, files: int = 2, stripe_rows: int = 0) -> str:
    """Writes tables as an export does, a folder for each, dealt over several files."""
    for name in SCHEMAS:
        for number in range(files):
            table = arrow_table(name, tables[name][number::files])
            path = folder / "orc" / name / f"{name}-{number}.orc"
            path.parent.mkdir(parents=True, exist_ok=True)
            how: dict[str, Any] = {"stripe_size": 1, "batch_size": stripe_rows} if stripe_rows else {}
            orc.write_table(table, path, compression="zstd", **how)
    return str(folder)


def put_content(store: Path, content: bytes) -> dict[str, Any]:
    """Puts a content where the archive would; returns its row."""
    sha1 = hashlib.sha1(content).hexdigest()
    path = store / "content" / sha1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))
    return {
        "sha1": sha1,
        "sha1_git": Blob.from_string(content).id.decode(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "blake2s256": hashlib.blake2s(content).hexdigest(),
        "length": len(content),
        "status": "visible",
    }


def add_git(tables: Tables, store: Path, repository: str, url: str, visit: int = 1, date: int = 0) -> None:
    """Adds a repository of git as an archive's visit would have found it: all of its objects and refs."""
    repo = Repo(repository)
    for name in repo.object_store:
        found = repo.object_store[name]
        if isinstance(found, Blob):
            tables["content"].append(put_content(store, found.data))
        elif isinstance(found, Tree):
            tables["directory_entry"] += [_entry(found.id, item) for item in found.items()]
        elif isinstance(found, Commit):
            tables["revision"].append(_revision(found))
    branches: dict[bytes, Any] = {
        name: {"target": target, "target_type": "revision"} for name, target in _refs(repo).items()
    }
    following = repo.refs.read_ref(HEADREF) or b""
    if following.startswith(b"ref: "):
        branches[b"HEAD"] = {"target": following.removeprefix(b"ref: "), "target_type": "alias"}
    snapshot = Snapshot.from_dict({"branches": branches}).id.hex()
    for name, branch in branches.items():
        row = {"snapshot_id": snapshot, "name": name, "target": branch["target"].hex()}
        tables["snapshot_branch"].append(row | {"target_type": branch["target_type"]})
    row = {"origin": url, "visit": visit, "date": date, "status": "full", "snapshot": snapshot, "type": "git"}
    tables["origin_visit_status"].append(row)
    repo.close()


def _refs(repo: Repo) -> dict[bytes, bytes]:
    return {bytes(name): bytes.fromhex(target.decode()) for name, target in repo.get_refs().items()}


def _entry(tree: bytes, item: Any) -> dict[str, Any]:
    kind = {0o040000: "dir", 0o160000: "rev"}.get(item.mode, "file")
    target = item.sha.decode()
    return {"directory_id": tree.decode(), "name": item.path, "type": kind, "target": target, "perms": item.mode}


def _revision(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id.decode(),
        "message": commit.message,
        "date": commit.author_time * 1_000_000,
        "committer_date": commit.commit_time * 1_000_000,
        "directory": commit.tree.decode(),
        "type": "git",
    }


def write_events(folder: Path, hours: Mapping[str, Sequence[Any]]) -> str:
    """Writes events as GHArchive does: a file an hour, an event a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for hour, events in hours.items():
        lines = "".join(f"{json.dumps(event)}\n" for event in events)
        (folder / f"{hour}.json.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return str(folder)


def event(kind: str, number: int, name: str, payload: Any = None, at: str = "2023-01-01T00:00:00Z") -> dict[str, Any]:
    return {"type": kind, "repo": {"id": number, "name": name}, "payload": payload or {}, "created_at": at}


def described(number: int, name: str, license_: str | None, branch: str | None) -> dict[str, Any]:
    """A repository as GitHub's events tell of it."""
    spdx = {"key": "x", "spdx_id": license_} if license_ else None
    return {"id": number, "full_name": name, "license": spdx, "default_branch": branch, "stargazers_count": 7}


def pull_request(number: int, name: str, license_: str | None, branch: str | None, at: str) -> dict[str, Any]:
    """An event that describes the repository that it is of."""
    payload = {"pull_request": {"base": {"repo": described(number, name, license_, branch)}}}
    return event("PullRequestEvent", number, name, payload, at)
