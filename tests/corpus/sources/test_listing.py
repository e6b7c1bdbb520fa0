import dataclasses
import hashlib
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.index import ConflictedIndexEntry, IndexEntry, index_entry_from_stat
from dulwich.objects import Blob
from dulwich.repo import Repo
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import Listing, git_blob_id, list_sources
from sc2jax.errors import UserError

LIMIT = 1 << 20


def names(listing: Listing) -> list[tuple[str, str]]:
    return list(zip(listing.files["repository"].to_pylist(), listing.files["path"].to_pylist(), strict=True))


def licensed(listing: Listing) -> set[tuple[str, str, str]]:
    rows = listing.licenses.to_pylist()
    return {(row["repository"], row["folder"], Path(os.fsdecode(row["location"])).name) for row in rows}


def make_repository(folder: str, commit: bool = True) -> str:
    """Puts all files of a folder under git; returns the commit."""
    repository = porcelain.init(folder)
    porcelain.add(
        repository, [str(path) for path in Path(folder).rglob("*") if path.is_file() and ".git/" not in str(path)]
    )
    who = b"Ada <ada@example.org>"
    return porcelain.commit(repository, b"first", author=who, committer=who).decode() if commit else ""


@given(st.binary(max_size=200))
def test_swhid_is_gits_own_hash(content: bytes) -> None:
    assert git_blob_id(content) == f"swh:1:cnt:{Blob.from_string(content).id.decode()}"


def test_packages_of_a_plain_folder(plant: Callable[..., str]) -> None:
    root = plant(
        "src",
        {
            "pkg/b.py": "b",
            "pkg/sub/a.py": "a",
            "pkg/__pycache__/b.pyc": "no",
            ".hg/store": "no",
            "module.py": "m",
            "pkg/.hidden": "h",
        },
    )
    Path(root, "pkg/link.py").symlink_to(f"{root}/module.py")
    Path(root, "loop").symlink_to("/")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(os.path.relpath(f"{root}/pkg/s"))
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [("module.py", "module.py"), ("pkg", ".hidden"), ("pkg", "b.py"), ("pkg", "sub/a.py")]
    assert listing.files["source_bytes"].to_pylist() == [1] * 4
    assert set(listing.files["revision"].to_pylist()) == {""}


def test_only_and_without(plant: Callable[..., str]) -> None:
    root = plant("src", {"a/x": "1", "b/x": "2", "c/x": "3"})
    assert names(list_sources([SourceFolder(root, only=("a", "c"))], LIMIT)) == [("a", "x"), ("c", "x")]
    assert names(list_sources([SourceFolder(root, without=("a",))], LIMIT)) == [("b", "x"), ("c", "x")]


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


def test_a_worktree_has_a_git_file(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("main", {"a.py": "1"})
    make_repository(root)
    porcelain.worktree_add(root, str(tmp_path / "src" / "branch"), branch=b"other")
    listing = list_sources([SourceFolder(str(tmp_path / "src"))], LIMIT)
    assert names(listing) == [("branch", "a.py")]


def test_a_git_file_that_points_nowhere(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("src", {"moved/.git": "gitdir: /nowhere/at/all\n", "moved/a.py": "1", "fine/a.py": "2"})
    with pytest.raises(UserError, match=r"moved/\.git cannot be read as a git repository .*nowhere.*remove \.git"):
        list_sources([SourceFolder(root)], LIMIT)
    main = plant("main", {"a.py": "1"})
    make_repository(main)
    porcelain.worktree_add(main, str(tmp_path / "branches" / "one"), branch=b"other")
    Path(main).rename(f"{main}.moved")
    with pytest.raises(UserError, match=r"one/\.git cannot be read as a git repository"):
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
            list_sources([SourceFolder(source)], LIMIT)
    assert len(list_sources([SourceFolder(root, without=("group",))], LIMIT).files) == 4


def test_equal_names_are_told_apart(plant: Callable[..., str]) -> None:
    one = SourceFolder(plant("x/src", {"pkg/a.py": "1", "own/a.py": "2"}))
    two = SourceFolder(plant("y/src", {"pkg/a.py": "3"}))
    there, back = list_sources([one, two], LIMIT), list_sources([two, one], LIMIT)
    assert names(there) == [("own", "a.py"), ("x/src/pkg", "a.py"), ("y/src/pkg", "a.py")]
    assert there.digest == back.digest
    assert len(list_sources([one, one], LIMIT).files) == 2, "the same source twice counts once"


def test_license_files_of_distributions(plant: Callable[..., str]) -> None:
    root = plant(
        "site-packages",
        {
            "pkg/a.py": "1",
            "pkg/vendor/LICENSE": "2",
            "six.py": "3",
            "other/b.py": "4",
            "LICENSE": "of whom?",
            "pkg-1.0.dist-info/RECORD": "pkg/a.py,,\nsix.py,,\n../../bin/tool,,\npkg-1.0.dist-info/RECORD,,\n",
            "pkg-1.0.dist-info/licenses/LICENSE.txt": "5",
            "other-2.egg-info/top_level.txt": "other\n",
            "other-2.egg-info/COPYING": "6",
        },
    )
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert {repository for repository, _ in names(listing)} == {"pkg", "six.py", "other", "LICENSE"}
    assert licensed(listing) == {
        ("pkg", "vendor", "LICENSE"),
        ("pkg", "", "LICENSE.txt"),
        ("six.py", "", "LICENSE.txt"),
        ("other", "", "COPYING"),
        ("LICENSE", "", "LICENSE"),
    }


def test_loose_licenses_cover_all_packages(plant: Callable[..., str]) -> None:
    root = plant("lib", {"a/x.py": "1", "b.py": "2", "LICENSE.txt": "3"})
    found = licensed(list_sources([SourceFolder(root)], LIMIT))
    assert found == {(name, "", "LICENSE.txt") for name in ("a", "b.py", "LICENSE.txt")}


def test_digest_follows_contents_and_names_alone(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("one/src", {"pkg/a.py": "1", "pkg/LICENSE": "2"})
    digest = list_sources([SourceFolder(root)], LIMIT).digest
    shutil.copytree(root, tmp_path / "two/src")
    assert list_sources([SourceFolder(str(tmp_path / "two/src"))], LIMIT).digest == digest
    os.utime(f"{root}/pkg/a.py", (1, 1))
    assert list_sources([SourceFolder(root)], LIMIT).digest == digest
    Path(root, "pkg/a.py").write_text("3")
    assert list_sources([SourceFolder(root)], LIMIT).digest != digest


def test_large_files_are_not_read(plant: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant("src", {"pkg/big.py": "x" * 100, "pkg/small.py": "x" * 99})
    listing = list_sources([SourceFolder(root)], 100)
    assert listing.files["swhid"].to_pylist() == ["", git_blob_id(b"x" * 99)]


def test_names_that_are_not_utf8(plant: Callable[..., str]) -> None:
    root = plant("src", {"pkg/a.py": "1"})
    Path(os.fsdecode(os.fsencode(root) + b"/pkg/gr\xfc\xdfe.py")).write_text("2")
    assert names(list_sources([SourceFolder(root)], LIMIT)) == [("pkg", "a.py"), ("pkg", "gr\\xfc\\xdfe.py")]


def test_missing_empty_and_wrong_sources(plant: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        list_sources([SourceFolder(str(tmp_path / "nowhere"))], LIMIT)
    with pytest.raises(UserError, match=r"file.py is not a folder"):
        list_sources([SourceFolder(plant("src", {"file.py": "1"}) + "/file.py")], LIMIT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no files"):
        list_sources([SourceFolder(str(tmp_path / "empty"))], LIMIT)
    with pytest.raises(UserError, match="would lie inside the source"):
        list_sources([SourceFolder(str(tmp_path / "src"))], LIMIT, output=str(tmp_path / "src/run/corpus"))
    with pytest.raises(UserError, match=r"\.git cannot be read as a git repository"):
        list_sources([SourceFolder(plant("broken", {"pkg/.git/HEAD": "nonsense"}))], LIMIT)


def test_what_cannot_be_read_is_named(plant: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant("src", {"pkg/a.py": "1", "pkg/closed/b.py": "2"})
    scandir, read_bytes = os.scandir, Path.read_bytes

    def closed_folder(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def closed_file(self: Path) -> bytes:
        if self.name == "a.py":
            raise PermissionError(13, "Permission denied")
        return read_bytes(self)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed_folder)
        with pytest.raises(UserError, match=r"pkg/closed cannot be read \(Permission denied\)"):
            list_sources([SourceFolder(root)], LIMIT)
    monkeypatch.setattr(Path, "read_bytes", closed_file)
    with pytest.raises(UserError, match=r"pkg/a.py cannot be read \(Permission denied\)"):
        list_sources([SourceFolder(root)], LIMIT)


def test_digest_is_a_sha256(plant: Callable[..., str]) -> None:
    assert len(list_sources([SourceFolder(plant("s", {"a/b": "1"}))], LIMIT).digest) == hashlib.sha256().digest_size * 2
