import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.index import ConflictedIndexEntry, IndexEntry, index_entry_from_stat
from dulwich.repo import Repo
from git_repositories import make_repository
from source_listings import LIMIT, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import git_blob_id, list_sources
from sc2jax.errors import UserError


def test_git_working_trees_among_packages(plant: Callable[..., str]) -> None:
    root = plant(
        "src",
        {
            "owner/one/kept.py": "1",
            "owner/one/gone.py": "2",
            "owner/one/sub/deep.py": "3",
            "owner/loose.py": "4",
            "plain/x.py": "5",
        },
    )
    commit = make_repository(f"{root}/owner/one")
    Path(root, "owner/one/untracked.py").write_text("6")
    Path(root, "owner/one/gone.py").unlink()
    Path(root, "owner/one/kept.py").write_text("changed since")
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [
        ("owner", "loose.py"),
        ("owner/one", "kept.py"),
        ("owner/one", "sub/deep.py"),
        ("plain", "x.py"),
    ]
    assert listing.files["revision"].to_pylist() == ["", f"swh:1:rev:{commit}", f"swh:1:rev:{commit}", ""]
    assert listing.files["swhid"].to_pylist()[1] == git_blob_id(b"changed since")


def test_a_source_that_is_a_working_tree(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("project", {"a.py": "1", "sub/b.py": "2"})
    make_repository(root, commit=False)
    listing = list_sources([SourceFolder(root)], LIMIT, output=f"{root}/run/corpus")
    assert names(listing) == [("project", "a.py"), ("project", "sub/b.py")]
    assert set(listing.files["revision"].to_pylist()) == {""}


def test_tracked_links_are_not_followed(plant: Callable[..., str]) -> None:
    root = plant("project", {"real/a.py": "1", "secret/key.py": "2"})
    make_repository(root)
    Path(root, "real/a.py").unlink()
    Path(root, "real").rmdir()
    Path(root, "real").symlink_to(f"{root}/secret")
    Path(root, "secret/a.py").write_text("not this one")
    assert names(list_sources([SourceFolder(root)], LIMIT)) == [("project", "secret/key.py")]


def test_a_tracked_license_that_is_not_taken_is_not_none(plant: Callable[..., str]) -> None:
    root = plant(
        "project", {"gone/LICENSE": "1", "gone/x.c": "2", "link/COPYING": "3", "real/MIT.txt": "4", "y.c": "5"}
    )
    make_repository(root)
    for name in ("gone/LICENSE", "gone/x.c", "link/COPYING"):
        Path(root, name).unlink()
    Path(root, "link/COPYING").symlink_to("../real/MIT.txt")
    rows = list_sources([SourceFolder(root)], LIMIT).licenses.to_pylist()
    assert sorted((row["folder"], bool(row["swhid"]), row["promised"]) for row in rows) == [
        ("gone", False, True),
        ("link", True, True),
        ("real", True, True),
    ]


def test_a_worktree_has_a_git_file(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("main", {"a.py": "1"})
    make_repository(root)
    porcelain.worktree_add(root, str(tmp_path / "src" / "branch"), branch=b"other")
    listing = list_sources([SourceFolder(str(tmp_path / "src"))], LIMIT)
    assert names(listing) == [("branch", "a.py")]


def test_a_git_file_that_points_nowhere(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("src", {"moved/.git": "gitdir: /nowhere/at/all\n", "moved/a.py": "1", "fine/a.py": "2"})
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [("fine", "a.py")]
    what = "moved: it leads to /nowhere/at/all, where there is no folder"
    assert listing.left_out.statistics == {"unreadable_git": {"count": 1, "named": [what]}}
    with pytest.raises(UserError, match=r"moved is a working tree whose \.git cannot be read .*nowhere.*remove \.git"):
        list_sources([SourceFolder(root)], LIMIT, damaged="stop")
    main = plant("main", {"a.py": "1"})
    make_repository(main)
    porcelain.worktree_add(main, str(tmp_path / "branches" / "one"), branch=b"other")
    Path(main).rename(f"{main}.moved")
    with pytest.raises(UserError, match=r"no file of the sources can be read: 1 working tree whose .*\(one: it leads"):
        list_sources([SourceFolder(str(tmp_path / "branches"))], LIMIT)


def test_a_revision_of_sha256_has_no_identifier(plant: Callable[..., str]) -> None:
    root = plant("project", {"a.py": "1"})
    repository = Repo.init(root, object_format="sha256")
    Path(root, ".git", "HEAD").write_text("1" * 64)
    index = repository.open_index()
    index[b"a.py"] = index_entry_from_stat(Path(root, "a.py").stat(), b"2" * 64)
    index.write()
    assert len(repository.head()) == 64
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert (names(listing), listing.files["revision"].to_pylist()) == ([("project", "a.py")], [""])


def test_files_in_conflict_are_taken_as_they_lie(plant: Callable[..., str]) -> None:
    root = plant("project", {"a.py": "<<<<<<< ours", "b.py": "1", "theirs.py": "2", "link": "3"})
    make_repository(root)
    with Repo(root) as repository:
        index = repository.open_index()
        entry = index[b"a.py"]
        assert isinstance(entry, IndexEntry)
        link = dataclasses.replace(entry, mode=stat.S_IFLNK)
        index[b"a.py"] = ConflictedIndexEntry(ancestor=entry, this=entry, other=entry)
        index[b"theirs.py"] = ConflictedIndexEntry(other=entry)
        index[b"gone.py"] = ConflictedIndexEntry(ancestor=entry, other=entry)
        index[b"link"] = ConflictedIndexEntry(this=link, other=link)
        index.write()
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [("project", "a.py"), ("project", "b.py"), ("project", "theirs.py")]
    assert listing.files["swhid"].to_pylist()[0] == git_blob_id(b"<<<<<<< ours")


def test_bare_repositories_are_refused_and_their_likes_are_not(plant: Callable[..., str]) -> None:
    root = plant("src", {"likes/HEAD": "1", "likes/objects": "2", "likes/refs/x": "3", "likes/a/HEAD/objects/x": "4"})
    assert len(list_sources([SourceFolder(root)], LIMIT).files) == 4
    Path(root, "group").mkdir()
    porcelain.init(f"{root}/group/project.git", bare=True)
    for source in (root, f"{root}/group", f"{root}/group/project.git"):
        with pytest.raises(UserError, match=r"group/project\.git is a bare git repository.*with a working tree"):
            list_sources([SourceFolder(source)], LIMIT, damaged="stop")
    for source in (f"{root}/group", f"{root}/group/project.git"):
        with pytest.raises(UserError, match=r"no file of the sources can be read: 1 bare git repository"):
            list_sources([SourceFolder(source)], LIMIT)
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert len(listing.files) == 4
    assert listing.left_out.statistics == {"bare_repository": {"count": 1, "named": ["group/project.git"]}}
    assert len(list_sources([SourceFolder(root, without=("group",))], LIMIT).files) == 4
