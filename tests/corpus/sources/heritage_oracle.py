"""The rules of The Stack v2's traversal as plain loops over rows, and random exports that are full of ties."""

import os
import random
import re
from collections import defaultdict
from typing import Any

from heritage_exports import Rows, Tables, no_tables

from sc2jax.corpus.sources.left_out import as_text

NO_DATE = -(2**63)
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
USUAL = (b"HEAD", b"refs/heads/master", b"refs/heads/main")

Found = dict[str, dict[str, Any]]
"""Repositories by name: what is known of each, and `files` and `left` by path."""


def largest_first(value: bytes) -> tuple[int, ...]:
    """A key by which bytes sort from the largest to the smallest."""
    return (*(-byte for byte in value), 1)


def github(events: Rows) -> Rows:
    """What GHArchive knows of each pair of number and name."""
    known: dict[tuple[int, str], dict[str, Any]] = {}
    newest: dict[int, tuple] = {}
    for found in events:
        key = found["repo"]["id"], found["repo"]["name"]
        row = known.setdefault(key, {"id": key[0], "name": key[1], "stars": 0, "forks": 0, "license": None})
        row["stars"] += found["type"] == "WatchEvent"
        row["forks"] += found["type"] == "ForkEvent"
        about = found["payload"].get("forkee") if found["type"] == "ForkEvent" else None
        if found["type"] == "PullRequestEvent":
            about = found["payload"]["pull_request"]["base"]["repo"]
        if about:
            license_ = about["license"]["spdx_id"] if about["license"] else None
            branch = about["default_branch"]
            moment = tuple(-int(digits) for digits in re.findall(r"\d+", found["created_at"]))
            order = (license_ is None, license_ or "", branch is None, branch or "", about["full_name"])
            entry = (moment, order, about["full_name"], license_, branch)
            if about["id"] not in newest or entry[:2] < newest[about["id"]][:2]:
                newest[about["id"]] = entry
    for (number, name), row in known.items():
        _, _, full_name, license_, branch = newest.get(number, (0, 0, None, None, None))
        row["license"] = license_ if full_name == name else None
        row["branch"] = f"refs/heads/{branch}".encode() if full_name == name and branch is not None else None
    return list(known.values())


def preferred(row: dict[str, Any]) -> tuple:
    license_ = row["license"]
    return license_ is None, license_ or "", -(row["stars"] or 0), -(row["forks"] or 0)


def number(value: int | None) -> int:
    return NO_DATE if value is None else value


def roots(tables: Tables, events: Rows) -> Rows:
    """The root directories that are walked, with their repositories."""
    by_name = defaultdict(list)
    for row in github(events):
        by_name[row["name"]].append(row)
    newest: dict[str, dict[str, Any]] = {}
    for row in tables["origin_visit_status"]:
        if row["status"] == "full" and re.match("https://github.com/[^/]+/[^/]+", row["origin"]):
            old = newest.get(row["origin"])
            order = row["visit"], row["date"], row["snapshot"] or ""
            if old is None or order > (old["visit"], old["date"], old["snapshot"] or ""):
                newest[row["origin"]] = row
    revisions = {row["id"]: row for row in tables["revision"] if row["type"] == "git"}
    branches = defaultdict(list)
    for row in tables["snapshot_branch"]:
        if row["target_type"] == "revision" and row["target"] in revisions:
            branches[row["snapshot_id"]].append(row)
    candidates = []
    for url, visit in newest.items():
        name = "/".join(url.removeprefix("https://github.com/").split("/")[:2])
        known = by_name[name]
        none = {"stars": None, "forks": None, "license": None, "id": None}
        best = min(known, key=lambda row: (*preferred(row), row["id"])) if known else none
        defaults = {row["branch"] for row in known} or {None}
        for branch in branches[visit["snapshot"]]:
            if branch["name"] in defaults or (None in defaults and branch["name"] in USUAL):
                about = {key: best[key] for key in none}
                revision = revisions[branch["target"]]
                origin = {"name": name, "url": url, "visit_date": visit["date"], "snapshot": visit["snapshot"]}
                candidates.append(about | origin | {"branch": branch["name"]} | {"revision": revision})
    one_each: dict[str, dict[str, Any]] = {}
    for row in candidates:
        key = row["revision"]["id"]
        if key not in one_each or by_revision(row) < by_revision(one_each[key]):
            one_each[key] = row
    best_each: dict[str, dict[str, Any]] = {}
    for row in one_each.values():
        key = row["revision"]["directory"]
        if key not in best_each or by_directory(row) < by_directory(best_each[key]):
            best_each[key] = row
    return list(best_each.values())


def last(row: dict[str, Any]) -> tuple:
    return row["visit_date"], row["url"], largest_first(row["branch"])


def by_revision(row: dict[str, Any]) -> tuple:
    return largest_first(row["branch"]), *preferred(row), number(row["id"]), *last(row)


def by_directory(row: dict[str, Any]) -> tuple:
    date = number(row["revision"]["date"])
    return *preferred(row), date, number(row["id"]), *last(row), row["revision"]["id"]


def named(found: Rows) -> dict[str, dict[str, Any]]:
    """Roots by names of their own."""
    names: dict[str, dict[str, Any]] = {}
    for row in sorted(
        found,
        key=lambda row: (
            row["name"],
            -number(row["revision"]["date"]),
            largest_first(row["branch"]),
            row["url"],
            row["revision"]["directory"],
        ),
    ):
        branch = f"{row['name']}/{as_text(os.fsdecode(row['branch']))}"
        for name in (row["name"], branch, f"{row['name']}/{row['revision']['directory']}"):
            if name not in names:
                names[name] = row
                break
    return names


def walk(tables: Tables, found: dict[str, dict[str, Any]], levels: int, most: int) -> Found:
    """The files below each root, and what is left out below it."""
    entries = defaultdict(set)
    for row in tables["directory_entry"]:
        if row["name"] is None:
            continue
        entries[row["directory_id"]].add((row["name"], row["type"], row["target"], row["perms"]))
    contents = {row["sha1_git"]: row for row in tables["content"]}
    result: Found = {name: {"about": row, "files": [], "left": []} for name, row in found.items()}
    of_root = {row["revision"]["directory"]: name for name, row in found.items()}
    level = [(root, "", root) for root in of_root]
    for depth in range(levels):
        by_node = defaultdict(list)
        for row in level:
            by_node[row[2]].append(row)
        level = []
        for node, rows in by_node.items():
            for place, (root, path, _) in enumerate(sorted(rows)):
                into = result[of_root[root]]
                if place >= most:
                    into["left"].append(("crowded_folder", path))
                    continue
                if not entries[node] and node != EMPTY_TREE:
                    into["left"].append(("lost_folder", path))
                for name, kind, target, perms in entries[node]:
                    below = f"{path}/{as_text(os.fsdecode(name))}".removeprefix("/")
                    if name in (b"", b".", b"..") or name.lower() == b".git" or b"/" in name:
                        into["left"].append(("unsafe_path", below))
                    elif kind == "rev":
                        into["left"].append(("submodule", below))
                    elif kind == "dir" and depth == levels - 1:
                        into["left"].append(("too_deep", below))
                    elif kind == "dir":
                        level.append((root, below, target))
                    elif perms is not None and perms & 0o170000 == 0o120000:
                        into["left"].append(("link", below))
                    elif target in contents:
                        into["files"].append((below, contents[target]["sha1"], target, contents[target]["length"]))
                    else:
                        into["left"].append(("not_archived", below))
    return result


NAMES = [b"a", b"b.py", b"LICENSE", b"\xff", b"\\xff", b"..", b".", b"", b".GIT", b"c/d", b"x\n", "\u00e9".encode()]
LICENSES = [None, None, "Apache-2.0", "MIT", "NOASSERTION"]
BRANCHES = [b"HEAD", b"refs/heads/master", b"refs/heads/main", b"refs/heads/dev", b"refs/heads/\xff"]
DATES = [None, -5, 0, 0, 1_700_000_000_000_000, 1_700_000_000_000_001]


class Draw:
    """Draws rows of an export; each of `groups` has names and identifiers of its own, and few of them."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.tables = no_tables()
        self.events: Rows = []
        self._group = 0

    def identifier(self, kind: int, number: int) -> str:
        # Their order is drawn too: what is taken first must not be what was made first.
        order = (number * 2654435761 + kind * 40503 + self._group * 97) % 2**32
        return f"{order:08x}{kind:08x}{self._group:012x}{number:012x}"

    def group(self, group: int) -> None:
        """A few origins, with all that lies below."""
        self._group = group
        draw, some = self.random, self.random.randrange
        names = [f"owner{group}/r{number}" for number in range(1 + some(3))]
        for _ in range(some(8)):
            self.event(draw.choice(names), group)
        snapshots = [self.identifier(1, number) for number in range(2)]
        for _ in range(2 + some(6)):
            tail = draw.choice(["", "", "", "/", "/tree", ".git"])
            url = f"https://github.com/{draw.choice(names)}{tail}"
            url = draw.choice(
                [url] * 12 + ["https://github.com/alone", f"https://gitlab.com/{names[0]}", "http://github.com/a/b"]
            )
            row = {"origin": url, "visit": 1 + some(3), "date": draw.choice([1, 2, 3]), "type": "git"}
            status = draw.choice(["full", "full", "full", "partial", "failed"])
            self.tables["origin_visit_status"].append(
                row | {"status": status, "snapshot": draw.choice([*snapshots, *snapshots, None])}
            )
        revisions = [self.identifier(2, number) for number in range(3)]
        for snapshot in snapshots:
            for branch in draw.sample(BRANCHES, 2 + some(3)):
                kind = draw.choice(["revision"] * 6 + ["alias", "release"])
                row = {"snapshot_id": snapshot, "name": branch, "target_type": kind}
                self.tables["snapshot_branch"].append(row | {"target": draw.choice(revisions)})
        for revision in draw.sample(revisions, 2 + some(2)):
            dates = {"date": draw.choice(DATES), "committer_date": draw.choice(DATES)}
            row = {"id": revision, "directory": self.directory(some(3)), "type": draw.choice(["git"] * 9 + ["hg"])}
            self.tables["revision"].append(row | dates)
        self.trees()

    def event(self, name: str, group: int) -> None:
        draw = self.random
        number = 1000 * group + draw.randrange(4)
        kind = draw.choice(["WatchEvent", "WatchEvent", "ForkEvent", "PullRequestEvent", "PushEvent"])
        other = draw.choice([name, name, f"owner{group}/r0"])
        license_ = draw.choice(LICENSES)
        about = {
            "id": draw.choice([number, 1000 * group]),
            "full_name": other,
            "license": {"spdx_id": license_} if license_ else None,
            "default_branch": draw.choice([None, "main", "master", "dev"]),
        }
        payload: dict[str, Any] = {"forkee": about} if kind == "ForkEvent" else {}
        payload = {"pull_request": {"base": {"repo": about}}} if kind == "PullRequestEvent" else payload
        at = f"2023-01-0{draw.choice('123')}T00:00:00Z"
        self.events.append({"type": kind, "repo": {"id": number, "name": name}, "payload": payload, "created_at": at})

    def directory(self, number: int) -> str:
        return self.identifier(3, number)

    def trees(self) -> None:
        """Twelve directories in four layers, of which each leads to later ones; some are not there."""
        draw, some = self.random, self.random.randrange
        for number in range(12):
            if not some(8):
                continue
            rows = []
            for name in draw.sample(NAMES, some(5)):
                kind = draw.choice(["file", "file", "dir", "dir", "rev"])
                last = number >= 9
                kind = "file" if last and kind == "dir" else kind
                below = (
                    EMPTY_TREE if not some(9) else self.directory(3 * (number // 3 + 1) + some(3)) if not last else ""
                )
                target = {"file": self.identifier(4, some(5)), "dir": below, "rev": self.identifier(2, 9)}[kind]
                perms = {"file": draw.choice([0o100644, 0o100755, 0o120000, None]), "dir": 0o040000, "rev": 0o160000}[
                    kind
                ]
                rows.append(
                    {
                        "directory_id": self.directory(number),
                        "name": name,
                        "type": kind,
                        "target": target,
                        "perms": perms,
                    }
                )
            rows += [{"directory_id": self.directory(number), "name": None, "type": "file"}] * (not some(20))
            self.tables["directory_entry"] += rows * (1 + (not some(10)))
        for number in range(5):
            if some(6):
                row = {"sha1": self.identifier(5, number), "sha1_git": self.identifier(4, number), "length": some(99)}
                self.tables["content"] += [row] * (1 + (not some(10)))
