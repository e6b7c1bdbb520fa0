import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from heritage_exports import described, event, pull_request, write_events
from heritage_oracle import Draw, github

from sc2jax.corpus.sources.github_archive import EVENTS, archived_repositories, events_of, hourly_files
from sc2jax.errors import UserError


def known(folder: str) -> dict[tuple[int, str], tuple]:
    """What is known of each pair of number and name: stars, forks, licence, branch."""
    tables = [events_of(path)[0] for path in hourly_files(folder)]
    rows = archived_repositories(pa.concat_tables([EVENTS.empty_table(), *tables])).to_pylist()
    return {
        (row["github_id"], row["name"]): (row["stars"], row["forks"], row["license"], row["branch"]) for row in rows
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_plain_loops(seed: int, tmp_path: Path) -> None:
    draw = Draw(seed)
    for group in range(60):
        for _ in range(30):
            draw.event(draw.random.choice([f"owner{group}/r{number}" for number in range(3)]), group)
    draw.random.shuffle(draw.events)
    found = known(write_events(tmp_path, {str(hour): draw.events[hour::4] for hour in range(4)}))
    expected = {
        (row["id"], row["name"]): (row["stars"], row["forks"], row["license"], row["branch"])
        for row in github(draw.events)
    }
    assert len(expected) > 400
    assert found == expected


def test_stars_forks_and_the_newest_description(tmp_path: Path) -> None:
    early, late = "2022-12-31T23:59:59Z", "2023-01-01T01:30:00+01:00"  # half a minute past midnight in Greenwich
    hours = {
        "2023-01-01-0": [
            *[event("WatchEvent", 1, "a/one")] * 3,
            event("ForkEvent", 1, "a/one", {"forkee": described(2, "b/one", "MIT", "trunk")}),
            event("PushEvent", 2, "b/one"),
            pull_request(1, "a/one", "Apache-2.0", "main", late),
        ],
        "2023-01-01-1": [
            event("WatchEvent", 1, "a/renamed"),
            pull_request(1, "a/one", "MIT", "old", early),
            event("PushEvent", 3, "c/three"),
            pull_request(4, "d/four", None, None, early),
        ],
    }
    assert known(write_events(tmp_path, hours)) == {
        (1, "a/one"): (3, 1, "Apache-2.0", b"refs/heads/main"),
        (1, "a/renamed"): (1, 0, None, None),  # its newest event had another name
        (2, "b/one"): (0, 0, "MIT", b"refs/heads/trunk"),  # a forkee is the fork
        (3, "c/three"): (0, 0, None, None),
        (4, "d/four"): (0, 0, None, None),
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "WatchEvent", "created_at": "2012-01-01T00:00:00Z", "repository": {"id": 1, "name": "one"}},
        {"type": "WatchEvent", "repo": None},
        {"type": "WatchEvent", "repo": {"id": None, "name": "a/one"}},
        {"type": "WatchEvent", "repo": {"id": 1}},
        {"type": "WatchEvent"},
        {},
        {"type": "ForkEvent", "repo": None, "payload": {"forkee": {"id": "1", "full_name": "a/one"}}},
        {"type": "ForkEvent", "repo": None, "payload": {"forkee": {"id": 1 << 64, "full_name": "a/one"}}},
        {"type": "ForkEvent", "repo": None, "payload": {"forkee": {"id": -1, "full_name": "a/one"}}},
        {"type": "ForkEvent", "repo": None, "payload": {"forkee": {"id": True, "full_name": "a/one"}}},
        {"type": "ForkEvent", "repo": None, "payload": {"forkee": {"id": 1, "full_name": 7, "license": 7}}},
        {"type": "ForkEvent", "repo": None, "payload": []},
        {"type": "PullRequestEvent", "repo": None, "payload": {"pull_request": {"base": {"repo": None}}}},
        {"type": "PullRequestEvent", "repo": None, "payload": {"pull_request": 1}},
        {"type": "PullRequestEvent"},
    ],
)
def test_events_of_another_form_count_for_nothing(odd: Any, tmp_path: Path) -> None:
    folder = write_events(tmp_path, {"0": [odd, event("WatchEvent", 1, "a/one")]})
    assert events_of(hourly_files(folder)[0])[1] == []
    assert known(folder) == {(1, "a/one"): (1, 0, None, None)}


def test_dates_that_are_none_come_last_and_descriptions_of_one_time_in_an_order(tmp_path: Path) -> None:
    at = "2023-01-01T00:00:00Z"
    for events, expected in [
        ([("Z", "a", "no date"), ("MIT", "b", "0001-01-01T00:00:00Z")], ("MIT", b"refs/heads/b")),
        ([(None, "a", at), ("MIT", "c", at), ("MIT", "b", at), ("Zed", "a", at)], ("MIT", b"refs/heads/b")),
        ([("Z", "a", "2023-01-01T00:30:00+01:00"), ("MIT", "b", "2022-12-31T23:59:59Z")], ("MIT", b"refs/heads/b")),
        ([("MIT", None, at), ("MIT", "b", at)], ("MIT", b"refs/heads/b")),
        ([("MIT", "a", "2023-01-01T00:00:00"), ("BSD", "b", "2022-12-31T23:59:59Z")], ("MIT", b"refs/heads/a")),
    ]:
        found = [pull_request(1, "a/one", *each) for each in events]
        for turn in (found, found[::-1]):
            assert known(write_events(tmp_path, {"0": turn})) == {(1, "a/one"): (0, 0, *expected)}


def test_of_a_damaged_file_what_can_be_read_counts(tmp_path: Path) -> None:
    folder = write_events(tmp_path, {"0": [event("WatchEvent", number, "a/one") for number in range(5000)]})
    (path,) = hourly_files(folder)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    table, (fault,) = events_of(path)
    assert 1000 < len(table) < 4000
    assert (fault.reason, fault.location) == ("damaged_events", path)
    assert "end-of-stream" in fault.detail
    lines = b'{"type": 7}\nno json\n\n{"repo": {"id": 99999999999999999999, "name": "a/b"}}\n'
    good = b'{"type": "WatchEvent", "repo": {"id": 1, "name": "a/one"}}\n'
    Path(path).write_bytes(gzip.compress(lines + good))
    table, (fault,) = events_of(path)
    assert table.to_pylist()[0]["stars"] == 1
    assert len(table) == 1
    assert fault.detail == "3 of its lines are no events"
    for content in (b"", b"no gzip"):
        Path(path).write_bytes(content)
        table, faults = events_of(path)
        assert len(table) == 0
        assert len(faults) == bool(content)
    Path(path).unlink()
    assert events_of(path)[1][0].reason == "damaged_events"


def test_only_hours_are_read(tmp_path: Path) -> None:
    folder = write_events(tmp_path, {"b": [], "a": []})
    (tmp_path / "c.json").write_text("")
    assert hourly_files(folder) == [f"{folder}/a.json.gz", f"{folder}/b.json.gz"]
    assert hourly_files(f"{folder}/nowhere") == []
    with pytest.raises(UserError, match="cannot be reached"):
        events_of("nosuchkind://bucket/a.json.gz")
