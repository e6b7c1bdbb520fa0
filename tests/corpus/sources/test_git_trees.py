"""Git repositories in a source: what git itself says of them, whatever lies in a working tree or an index."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich import porcelain
from git_repositories import (
    FILE,
    FOLDER,
    LINK,
    check_out,
    check_out_entries,
    make_repository,
    put_object,
    put_tree,
    run_git,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from source_listings import LIMIT, WholeListing, list_sources, names

from sc2jax.corpus.sources.contents import read_contents
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.git_objects import close_stores
from sc2jax.corpus.sources.git_trees import git_repository
from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.listing import git_blob_id, read_listed
from sc2jax.corpus.sources.walk import Origin
from sc2jax.errors import UserError


def listed(*roots: str | Path) -> WholeListing:
    return list_sources([SourceFolder(str(root)) for root in roots], LIMIT)


def contents(listing: WholeListing) -> dict[str, bytes | SourceError]:
    found = read_contents(listing.files["location"].to_pylist(), LIMIT)
    return dict(zip(listing.files["path"].to_pylist(), found, strict=True))


def by_git(root: str | Path) -> dict[str, bytes]:
    """What git says are the files of the commit that is checked out."""
    lines = run_git(root, "ls-tree", "-r", "HEAD").splitlines()
    rows = [line.split("\t", 1) for line in lines if line.split()[1] == "blob" and not line.startswith("120000")]
    return {path: run_git(root, "cat-file", "blob", row.split()[2]).encode() for row, path in rows}


def counts(listing: WholeListing) -> dict[str, int]:
    return {reason: share["count"] for reason, share in listing.left_out.statistics.items()}


@pytest.fixture
def project(plant: Callable[..., str]) -> Path:
    root = plant("project", {"a.py": "one", "sub/b.py": "two", "sub/deep/c.py": "three", "LICENSE": "four"})
    make_repository(root)
    return Path(root)


FILES = {"a.py": b"one", "sub/b.py": b"two", "sub/deep/c.py": b"three", "LICENSE": b"four"}


def test_git_repositories_among_packages(plant: Callable[..., str]) -> None:
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
    listing = listed(root)
    assert names(listing) == [
        ("owner", "loose.py"),
        ("owner/one", "gone.py"),
        ("owner/one", "kept.py"),
        ("owner/one", "sub/deep.py"),
        ("plain", "x.py"),
    ]
    assert listing.files["revision"].to_pylist() == ["", *[f"swh:1:rev:{commit}"] * 3, ""]
    assert listing.files["swhid"].to_pylist()[2] == git_blob_id(b"1"), "as it was committed"
    assert listing.left_out.statistics == {
        "modified": {"count": 1, "named": ["owner/one/kept.py"]},
        "untracked": {"count": 1, "named": ["owner/one/untracked.py"]},
    }


def no_checkout(root: Path) -> Path:
    run_git(root.parent, "clone", "-q", "--no-checkout", str(root), "other")
    return root.parent / "other"


def bare(root: Path) -> Path:
    run_git(root.parent, "clone", "-q", "--bare", str(root), "other.git")
    return root.parent / "other.git"


def without_index(root: Path) -> Path:
    (root / ".git/index").unlink()
    return root


def sparse(root: Path) -> Path:
    run_git(root, "sparse-checkout", "set", "--cone", "--sparse-index", "sub")
    return root


def split_index(root: Path) -> Path:
    run_git(root, "update-index", "--split-index")
    return root


def packed(root: Path) -> Path:
    run_git(root, "gc", "-q", "--aggressive", "--prune=now")
    assert not list((root / ".git/objects").glob("[0-9a-f][0-9a-f]"))
    return root


def shallow(root: Path) -> Path:
    run_git(root, "commit", "-q", "--allow-empty", "-m", "second")
    run_git(root.parent, "clone", "-q", "--depth=1", f"file://{root}", "other")
    return root.parent / "other"


def with_other_line_ends(root: Path) -> Path:
    for name in ("a.py", "sub/b.py"):
        (root / name).write_bytes((root / name).read_bytes() + b"\r\n")
    return root


def replaced(root: Path) -> Path:
    """`git replace` shows another content in place of one."""
    other = put_object(root / ".git", "blob", b"another")
    run_git(root, "replace", run_git(root, "rev-parse", "HEAD:a.py"), other)
    return root


@pytest.mark.parametrize(
    "make",
    [no_checkout, bare, without_index, sparse, split_index, packed, shallow, with_other_line_ends, replaced],
)
def test_the_same_files_however_it_was_cloned(project: Path, make: Callable[[Path], Path]) -> None:
    expected = by_git(project)
    assert expected == FILES
    root = make(project)
    listing = listed(root)
    assert contents(listing) == expected
    assert listing.files["swhid"].to_pylist() == [git_blob_id(expected[path]) for _, path in names(listing)]
    assert listing.files["revision"].to_pylist() == [f"swh:1:rev:{run_git(root, 'rev-parse', 'HEAD')}"] * 4
    assert counts(listing) == ({"modified": 2} if make is with_other_line_ends else {})


def test_line_ends_of_windows_alone_are_no_change(project: Path) -> None:
    (project / "a.py").write_bytes(b"x\ny\n")
    run_git(project, "commit", "-qam", "lines")
    (project / "a.py").write_bytes(b"x\r\ny\r\n")
    assert not listed(project).left_out
    (project / "a.py").write_bytes(b"x\r\nz\r\n")
    assert counts(listed(project)) == {"modified": 1}
    (project / "a.py").write_bytes(b"x\nz\n")
    assert counts(listed(project)) == {"modified": 1}, "of the same length"
    (project / "a.py").write_bytes(b"")
    assert counts(listed(project)) == {"modified": 1}


def test_what_is_not_committed_is_counted_once_a_folder(project: Path) -> None:
    for name in ("new/x.py", "new/deep/y.py", "sub/z.py", "__pycache__/w.pyc"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("new")
    (project / "empty").mkdir()
    (project / "link").symlink_to("a.py")
    (project / "inner").mkdir()
    (project / "inner/i.py").write_text("another repository")
    make_repository(str(project / "inner"))
    assert listed(project).left_out.statistics == {"untracked": {"count": 2, "named": ["new", "sub/z.py"]}}
    make_repository(str(project / "sub"))
    assert listed(project).left_out.statistics == {"untracked": {"count": 1, "named": ["new"]}}, "not ours to compare"


@pytest.mark.parametrize("pack", [False, True])
def test_a_repository_in_sha256(tmp_path: Path, pack: bool) -> None:
    root = tmp_path / "project"
    run_git(tmp_path, "init", "-q", "--object-format=sha256", "project")
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    run_git(root, "add", ".")
    run_git(root, "commit", "-q", "-m", "first")
    if pack:
        run_git(root, "gc", "-q")
    listing = listed(root)
    assert contents(listing) == FILES
    assert listing.files["swhid"].to_pylist() == [git_blob_id(FILES[path]) for _, path in names(listing)]
    assert set(listing.files["revision"].to_pylist()) == {""}, "the scheme knows no commit in sha256"
    assert not listing.left_out


def test_alternates_within_the_source_are_read_and_others_are_not(tmp_path: Path, plant: Callable[..., str]) -> None:
    root = Path(plant("src", {"one/a.py": "1"}))
    make_repository(str(root / "one"))
    run_git(root, "clone", "-q", "--shared", "one", "two")
    assert names(listed(root)) == [("one", "a.py"), ("two", "a.py")]
    with pytest.raises(UserError, match=r"leads out of the source to a place that does not know it \(two: to "):
        listed(root / "two")
    (root / "two/.git/objects/info/alternates").write_text("../../../one/.git/objects\n")
    assert names(listed(root)) == [("one", "a.py"), ("two", "a.py")], "relative to the folder of objects"


def test_a_clone_with_a_filter_has_no_contents(project: Path) -> None:
    run_git(project, "config", "uploadpack.allowFilter", "true")
    run_git(project.parent, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{project}", "other")
    with pytest.raises(UserError, match=r"4 files whose contents are not in their clones .*without a filter"):
        listed(project.parent / "other")
    run_git(project.parent / "other", "checkout", "-q", "HEAD", "--", "a.py")
    listing = listed(project.parent / "other")
    assert contents(listing) == {"a.py": b"one"}
    assert counts(listing) == {"missing_object": 3}
    run_git(project.parent, "clone", "-q", "--no-checkout", "--filter=tree:1", f"file://{project}", "flat")
    with pytest.raises(UserError, match=r"1 folder of a commit that is not in its clone \(sub;"):
        listed(project.parent / "flat")


def test_a_repository_without_a_commit(plant: Callable[..., str]) -> None:
    root = plant("src", {"empty/a.py": "1", "plain/x.py": "2", "bare.git/description": "3"})
    make_repository(f"{root}/empty", commit=False)
    porcelain.init(f"{root}/bare.git", bare=True)
    listing = listed(root)
    assert names(listing) == [("plain", "x.py")]
    assert listing.left_out.statistics == {"no_commit": {"count": 2, "named": ["bare.git", "empty"]}}


def test_likes_of_a_bare_repository_are_folders(plant: Callable[..., str]) -> None:
    root = plant("src", {"likes/HEAD": "1", "likes/objects": "2", "likes/refs/x": "3", "likes/a/HEAD/objects/x": "4"})
    assert len(listed(root).files) == 4


def test_a_source_that_is_a_repository(project: Path) -> None:
    listing = list_sources([SourceFolder(str(project))], LIMIT, output=f"{project}/run/corpus")
    assert names(listing) == [("project", path) for path in sorted(FILES)]


def test_links_are_not_followed_but_that_of_a_licence(project: Path) -> None:
    git = project / ".git"
    text, other = put_object(git, "blob", b"licence"), put_object(git, "blob", b"../real/MIT.txt")
    out, up = put_object(git, "blob", b"../../etc/passwd"), put_object(git, "blob", b"../real")
    real = put_tree(git, [(b"MIT.txt", FILE, text)])
    inner = put_tree(git, [(b"COPYING", LINK, other), (b"LICENSE", LINK, out), (b"folder", LINK, up)])
    check_out_entries(git, [(b"link", FOLDER, inner), (b"real", FOLDER, real), (b"x.c", FILE, text)])
    listing = listed(project)
    assert names(listing) == [("project", "real/MIT.txt"), ("project", "x.c")]
    assert counts(listing)["link"] == 3
    rows = sorted((row["folder"], row["swhid"], row["promised"]) for row in listing.licenses.to_pylist())
    assert rows == [
        ("link", "", True),
        ("link", git_blob_id(b"licence"), True),
        ("real", git_blob_id(b"licence"), True),
    ]


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o160000, "submodule"), (0o060000, "special_file"), (0o100755, ""), (0o100664, "")]
)
def test_modes(project: Path, mode: int, reason: str) -> None:
    blob = put_object(project / ".git", "blob", b"x")
    check_out_entries(project / ".git", [(b"a.py", FILE, blob), (b"b.py", mode, blob)])
    assert len(listed(project).files) == (1 if reason else 2)
    assert counts(listed(project)).get(reason, 0) == bool(reason)


def test_names_that_are_no_text_and_names_that_occur_twice(project: Path) -> None:
    git = project / ".git"
    one, two = put_object(git, "blob", b"1"), put_object(git, "blob", b"2")
    tree = [(b"a.py", FILE, one), (b"a.py", FILE, two), (b"\xff.py", FILE, one), (b"\\xff.py", FILE, two)]
    check_out_entries(git, tree)
    listing = listed(project)
    assert [path for _, path in names(listing)] == ["\\x5cxff.py", "\\xff.py", "a.py"]
    assert counts(listing)["same_name"] == 1


def test_files_deeper_than_64_levels_are_left_out(project: Path) -> None:
    git = project / ".git"
    blob = put_object(git, "blob", b"x")
    tree = put_tree(git, [(b"deepest.py", FILE, blob)])
    for _ in range(70):
        tree = put_tree(git, [(b"d", FOLDER, tree), (b"f.py", FILE, blob)])
    check_out(git, tree)
    listing = listed(project)
    assert sorted(path.count("/") for _, path in names(listing)) == list(range(64))
    assert counts(listing)["too_deep"] == 1


def test_trees_that_name_each_other_without_end(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sc2jax.corpus.sources.git_trees.MOST_IN_A_LEVEL", 1000)
    git = project / ".git"
    tree = put_tree(git, [(b"x.py", FILE, put_object(git, "blob", b"x"))])
    for _ in range(40):
        tree = put_tree(git, [(b"%d" % number, FOLDER, tree) for number in range(10)])
    check_out(git, put_tree(git, [(b"a.py", FILE, put_object(git, "blob", b"y")), (b"d", FOLDER, tree)]))
    listing = listed(project)
    assert names(listing) == [("project", "a.py")]
    assert counts(listing)["too_many_paths"] == 1


@pytest.mark.parametrize("how", ["tree", "commit", "blob", "missing", "short", "no space", "mode"])
def test_objects_that_are_not_what_they_should_be(project: Path, how: str) -> None:
    git = project / ".git"
    blob, other = put_object(git, "blob", b"x"), put_object(git, "blob", b"100644 a.py\0short")
    nonsense = {"short": b"100644 a.py\0short", "no space": b"nonsense", "mode": b"999 a.py\0" + b"1" * 20}
    if how in nonsense:
        inner = (b"sub", FOLDER, put_object(git, "tree", nonsense[how]))
    elif how == "blob":
        inner = (b"sub", FOLDER, other)
    else:
        names_ = {"tree": put_tree(git, [(b"x", FILE, blob)]), "missing": "1" * 40}
        inner = (b"b.py", FILE, names_.get(how) or check_out_entries(git, [(b"x", FILE, blob)]))
    check_out_entries(git, [(b"a.py", FILE, blob), inner])
    listing = listed(project)
    assert names(listing) == [("project", "a.py")]
    lost = {"missing": "missing_object"}.get(how, "damaged_object" if inner[1] == FILE else "damaged_folder")
    assert counts(listing)[lost] == 1


def test_a_content_that_is_another_one_than_its_name_says(project: Path) -> None:
    """Git itself does not look when it reads; an archive that is told a name must get that content."""
    git = project / ".git"
    blob, other = put_object(git, "blob", b"x" * 50), put_object(git, "blob", b"y" * 50)
    check_out_entries(git, [(b"a.py", FILE, blob)])
    shutil.copy(git / "objects" / other[:2] / other[2:], git / "objects" / blob[:2] / blob[2:])
    listing = listed(project)
    (found,) = read_listed(listing.files["location"].to_pylist(), listing.files["swhid"].to_pylist(), LIMIT)
    assert isinstance(found, SourceError)


def test_a_damaged_pack_gives_what_is_sound(project: Path) -> None:
    draw = hashlib.sha256(b"0").digest()
    for number in range(40):
        draw = hashlib.sha256(draw).digest()
        (project / f"f{number}.py").write_bytes(draw * 40)
    run_git(project, "add", ".")
    run_git(project, "commit", "-qm", "many")
    run_git(project, "gc", "-q", "--prune=now")
    whole = listed(project)
    expected = contents(whole)
    (pack,) = (project / ".git/objects/pack").glob("*.pack")
    damaged = bytearray(pack.read_bytes())
    for at in range(len(damaged) // 2, len(damaged) // 2 + 40):
        damaged[at] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(damaged)
    listing = listed(project)
    found = contents(listing)
    sound = {path: content for path, content in found.items() if not isinstance(content, SourceError)}
    assert 30 < len(sound) < 44
    assert all(expected[path] == content for path, content in sound.items())
    swhids, locations = (listing.files[name].to_pylist() for name in ("swhid", "location"))
    again = list(read_listed(locations, swhids, LIMIT))
    assert {fault.reason for fault in again if isinstance(fault, SourceError)} == {"damaged_object"}
    assert [content for content in again if isinstance(content, bytes)] == list(sound.values())
    (project / ".git/objects").rename(project / "gone")
    close_stores()
    gone = [each.reason if isinstance(each, SourceError) else "" for each in read_listed(locations, swhids, LIMIT)]
    assert gone == ["unreadable_git"] * len(locations)


def test_where_a_repository_comes_from(project: Path) -> None:
    run_git(project, "remote", "add", "origin", "https://example.org/a")
    tree = run_git(project, "rev-parse", "HEAD^{tree}")
    head = (project / ".git/HEAD").read_text()
    commit = check_out(project / ".git", tree)
    (project / ".git/HEAD").write_text(head)
    (project / ".git" / head.removeprefix("ref:").strip()).write_text(commit)
    found = git_repository(str(project), str(project), "project", LeftOut())
    assert found is not None
    assert found.revision == f"swh:1:rev:{commit}"
    assert found.origin == Origin(
        url="https://example.org/a",
        branch=head.removeprefix("ref:").strip(),
        directory=f"swh:1:dir:{tree}",
        revision_date="2023-11-14T22:13:20Z",
        committer_date="2023-11-14T22:13:21Z",
    )
    check_out(project / ".git", tree, dates=("nonsense", str(1 << 80)))
    found = git_repository(str(project), str(project), "project", LeftOut())
    assert found is not None
    assert (found.origin.revision_date, found.origin.committer_date, found.origin.branch) == ("", "", "")


NAMES = st.sampled_from([b"a", b"b.py", b"\xff", "ä".encode(), b"c d", b"LICENSE", b'"q"', b"\n"])
TREES = st.recursive(
    st.binary(max_size=30),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: dict) -> None:
    """Beside the same files as a plain folder."""
    top = tmp_path_factory.mktemp("any")
    write(os.fsencode(top / "plain/x"), tree)
    shutil.copytree(top / "plain/x", top / "git/x")
    run_git(top / "git/x", "init", "-q")
    run_git(top / "git/x", "add", ".")
    run_git(top / "git/x", "commit", "-q", "-m", "first")
    plain, git = listed(top / "plain"), listed(top / "git")
    assert git.files.drop_columns(["location", "revision"]) == plain.files.drop_columns(["location", "revision"])
    assert git.licenses.drop_columns("location") == plain.licenses.drop_columns("location")
    assert contents(git) == contents(plain)
    assert not git.left_out


def write(folder: bytes, tree: dict) -> None:
    os.makedirs(folder)  # noqa: PTH103 (names are bytes)
    for name, inner in tree.items():
        if isinstance(inner, dict):
            write(folder + b"/" + name, inner)
        else:
            with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
                file.write(inner)
