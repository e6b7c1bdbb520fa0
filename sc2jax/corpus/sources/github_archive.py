# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""GHArchive: stars, forks, licences and default branches of repositories, counted in the hourly events of GitHub.

The rules are those of bigcode-project/the-stack-v2 (`0_repo_data/merge_gha_swh.py`, `get_github_repo_data`). Events of
before 2015 name their repository otherwise (`repository`, not `repo`), and count for nothing, as there.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax import storage
from sc2jax.corpus.sources.heritage_graph import ARCHIVED
from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.storage import join

SUFFIX = ".json.gz"

EVENTS = pa.schema(
    [
        ("github_id", pa.int64()),
        ("name", pa.string()),
        ("stars", pa.int64()),
        ("forks", pa.int64()),
        ("time", pa.int64()),
        ("license", pa.string()),
        ("branch", pa.string()),
    ]
)
"""Events of one kind of a repository: how often it was starred and forked; or one that describes it, with its time in
microseconds since 1970, and nulls for the counts."""

_DESCRIBING = {"PullRequestEvent": ("pull_request", "base", "repo"), "ForkEvent": ("forkee",)}
"""Kind of an event -> where its payload describes a repository. A forkee is the fork, and not what was forked."""

_HEADS = "refs/heads/"
_NEVER = np.iinfo(np.int64).min


_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Named(msgspec.Struct):
    id: _Number | None = None
    name: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    created_at: str | None = None
    repo: _Named | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_Event)


def hourly_files(folder: str) -> list[str]:
    """The files of events in a folder, by name."""
    return [join(folder, name) for name in storage.names(folder) if name.endswith(SUFFIX)]


def events_of(path: str) -> tuple[pa.Table, list[SourceError]]:
    """The events of an hour, counted (schema EVENTS), and what is damaged in its file.

    Of a file that ends early, as some of GHArchive's do, the events before its end count, and so do all lines but
    those that are no events.

    Raises:
        UserError: the file is in a store that cannot be reached.
    """
    faults: list[SourceError] = []
    seen: Counter[tuple[int, str]] = Counter()
    stars: Counter[tuple[int, str]] = Counter()
    forks: Counter[tuple[int, str]] = Counter()
    described = []
    bad = 0
    for line in _lines(path, faults):
        try:
            event = _DECODER.decode(line)
        except msgspec.MsgspecError:
            bad += 1
            continue
        if event.repo and event.repo.id is not None and event.repo.name is not None:
            key = event.repo.id, event.repo.name
            seen[key] += 1
            stars[key] += event.type == "WatchEvent"
            forks[key] += event.type == "ForkEvent"
        if event.type in _DESCRIBING:
            found = _description(event)
            described += [found] if found else []
    if bad:
        faults.append(SourceError("damaged_events", path, f"{bad:,} of its lines are no events"))
    rows = [(*key, stars[key], forks[key], None, None, None) for key in seen]
    return _table([*rows, *described]), faults


def _table(rows: list[tuple]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(EVENTS)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, EVENTS, strict=True)], EVENTS)


def _lines(path: str, faults: list[SourceError]) -> Iterator[bytes]:
    """The lines of a gzip file that are not empty; the last only if it is whole."""
    try:
        with storage.open_file(path) as file, gzip.GzipFile(fileobj=file) as lines:
            for line in lines:
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        faults.append(SourceError("damaged_events", path, str(error)))


def _description(event: _Event) -> tuple | None:
    """What an event tells of a repository: its number, name, no counts, the time, licence and default branch."""
    try:
        found: Any = msgspec.json.decode(event.payload)
    except msgspec.MsgspecError:
        return None
    for key in _DESCRIBING[str(event.type)]:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or type(found.get("id")) is not int or not 0 <= found["id"] < 1 << 63:
        return None
    license_ = found.get("license")
    spdx = license_.get("spdx_id") if isinstance(license_, dict) else None
    name, branch = _text(found.get("full_name")), _text(found.get("default_branch"))
    return found["id"], name, None, None, _time(event.created_at), _text(spdx), branch


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(text: str | None) -> int:
    """Microseconds since 1970, before all others where there is no such date."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return _NEVER
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def archived_repositories(events: pa.Table) -> pa.Table:
    """What is known of each pair of number and name, given all events of some numbers (schema ARCHIVED).

    A repository is described by its newest event, if that has the name too; of several of one time the one that has a
    licence, the first by name, and then the first by branch.
    """
    counted = events.filter(pc.is_valid(events["stars"]))
    counted = counted.group_by(["github_id", "name"], use_threads=False).aggregate([("stars", "sum"), ("forks", "sum")])
    described = events.filter(pc.is_null(events["stars"]))
    order = [("github_id", "ascending"), ("time", "descending"), ("license", "ascending")]
    described = described.sort_by([*order, ("branch", "ascending"), ("name", "ascending")])
    ids = described["github_id"].to_numpy()
    described = described.filter(pa.array(np.diff(ids, prepend=-1) != 0))
    place = pc.index_in(counted["github_id"], described["github_id"].combine_chunks())
    about = described.take(place)
    same = pc.fill_null(pc.equal(about["name"], counted["name"]), False)
    nothing = pa.scalar(None, pa.string())
    license_ = pc.if_else(same, about["license"], nothing)
    branch = pc.binary_join_element_wise(_HEADS, pc.if_else(same, about["branch"], nothing), "")
    columns = [counted["name"], counted["stars_sum"], counted["forks_sum"], license_, counted["github_id"], branch]
    return pa.Table.from_arrays(columns, names=ARCHIVED.names).cast(ARCHIVED)
