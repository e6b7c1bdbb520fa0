"""Where git's own files may lie, and what is made of them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.reftable import ReftableRefsContainer
from dulwich.repo import Repo
from git_repositories import FILE, FOLDER, GIT, check_out_entries, make_repository, put_object, put_tree, run_git
from source_listings import LIMIT, WholeListing, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.git_folder import find_git_folder, read_origin
from sc2jax.errors import UserError


def listed(root: str | Path) -> WholeListing:
    return list_sources([SourceFolder(str(root))], LIMIT)


def reasons(listing: WholeListing) -> dict[str, list[str]]:
    return {reason: list(share["named"]) for reason, share in listing.left_out.statistics.items()}


@pytest.fixture
def source(plant: Callable[..., str]) -> Path:
    """A source with a plain package, and a working tree `tree` with one commit and one file, a.py."""
    root = Path(plant("src", {"plain/x.py": "0", "tree/a.py": "1"}))
    make_repository(f"{root}/tree")
    return root


PLAIN, TREE = ("plain", "x.py"), ("tree", "a.py")


def test_the_revision_over_every_way_that_git_notes_it(source: Path) -> None:
    git = source / "tree/.git"
    with Repo(str(source / "tree")) as repository:
        commit = repository.head().decode()

    def revision() -> str:
        listing = listed(source)
        assert names(listing) == [PLAIN, TREE]
        assert not listing.left_out
        return listing.files["revision"].to_pylist()[1]

    branch = git / os.fsdecode((git / "HEAD").read_bytes()[5:].strip())
    head = (git / "HEAD").read_bytes()
    later = check_out_entries(git, [(b"a.py", FILE, put_object(git, "blob", b"1"))])
    (git / "HEAD").write_bytes(head)
    assert revision() == f"swh:1:rev:{commit}"
    branch.unlink()
    assert reasons(listed(source)) == {"no_commit": ["tree"]}
    other = f"{'2' * 40} refs/heads/other\n^{'3' * 40}\n"
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{other}{commit} {branch.relative_to(git)}\n")
    assert revision() == f"swh:1:rev:{commit}"
    branch.write_text(f"{later}\n")
    assert revision() == f"swh:1:rev:{later}", "a loose ref comes before a packed one"
    (git / "HEAD").write_text(f"{commit}\n")
    assert revision() == f"swh:1:rev:{commit}", "detached"
    (git / "HEAD").write_text("ref: refs/heads/alias")
    (git / "refs/heads/alias").write_text(f"ref: {branch.relative_to(git)}\n")
    assert revision() == f"swh:1:rev:{later}"


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("HEAD", None, "it has no HEAD"),
        ("HEAD", "", "its HEAD holds no commit"),
        ("HEAD", "ref: ../../secret", "its HEAD names ../../secret"),
        ("HEAD", "ref: refs/../../../secret", "its HEAD names refs/../../../secret"),
        ("HEAD", "ref: refs/heads/a\0b", "its HEAD names refs/heads/a\\x00b"),
        ("HEAD", "ref: refs/heads/loop", "its refs name each other without end"),
        ("HEAD", "ref: refs", "its HEAD names refs"),
        ("HEAD", "ref: refs/heads", "its refs/heads: no regular file"),
        ("HEAD", "1" * 41, "its HEAD holds no commit"),
        ("HEAD", "x" * 70_000, "its HEAD: more than 65,536 bytes"),
        ("refs/heads/main", "", "its refs/heads/main holds no commit"),
        ("refs/heads/main", "G" * 40, "its refs/heads/main holds no commit"),
        ("packed-refs", "nonsense\n", "its packed-refs are damaged"),
    ],
)
def test_a_damaged_repository_is_left_out_and_the_others_go_on(
    source: Path, file: str, content: str | None, what: str
) -> None:
    git = source / "tree/.git"
    (git / "refs/heads/loop").write_text("ref: refs/heads/loop")
    (git / "HEAD").write_text("ref: refs/heads/main")
    (git / "refs/heads/main").unlink(missing_ok=True)
    if content is None:
        (git / file).unlink()
    else:
        (git / file).write_text(content)
    listing = listed(source)
    assert names(listing) == [PLAIN]
    assert reasons(listing) == {"unreadable_git": [f"tree: {what}"]}


def test_what_is_not_read_may_be_damaged(source: Path) -> None:
    """The index, and the config, which may include a file that never ends."""
    git = source / "tree/.git"
    os.mkfifo(git / "endless")
    (git / "index").write_text("nonsense")
    (git / "config").write_text(f"[include]\npath = {git}/endless\n[include]\npath = /dev/zero\n[core\n")
    listing = listed(source)
    assert names(listing) == [PLAIN, TREE]
    assert not listing.left_out


@pytest.mark.parametrize("branch", ["main", "master"])
def test_a_branch_of_a_usual_name_where_head_has_no_commit(source: Path, branch: str) -> None:
    git = source / "tree/.git"
    commit = run_git(source / "tree", "rev-parse", "HEAD")
    run_git(source / "tree", "branch", "-m", branch)
    (git / "HEAD").write_text("ref: refs/heads/unborn\n")
    assert listed(source).files["revision"].to_pylist()[1] == f"swh:1:rev:{commit}"
    run_git(source / "tree", "branch", "-m", branch, "other")
    assert reasons(listed(source)) == {"no_commit": ["tree"]}


def test_refs_in_tables(source: Path) -> None:
    git = source / "tree/.git"
    commit = run_git(source / "tree", "rev-parse", "HEAD")
    refs = ReftableRefsContainer(str(git))
    refs.set_if_equals(Ref(b"refs/heads/first"), None, ObjectID(b"1" * 40))
    refs.set_if_equals(Ref(b"refs/heads/first"), ObjectID(b"1" * 40), ObjectID(commit.encode()))
    refs.set_symbolic_ref(Ref(b"HEAD"), Ref(b"refs/heads/first"))
    (git / "HEAD").write_text("ref: refs/heads/.invalid\n")
    listing = listed(source)
    assert names(listing) == [PLAIN, TREE]
    assert listing.files["revision"].to_pylist()[1] == f"swh:1:rev:{commit}"
    for table in (git / "reftable").glob("*.ref"):
        table.write_bytes(table.read_bytes()[:10])
    assert list(reasons(listed(source))) == ["unreadable_git"]
    (git / "reftable/tables.list").write_text("../../../secret\n")
    assert list(reasons(listed(source))) == ["unreadable_git"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://me:secret@example.org/a", "https://example.org/a"),
        ("https://token@example.org/a", "https://example.org/a"),
        ("https://me:se@cret@example.org/a", "https://example.org/a"),
        ("git@example.org:a/b", "git@example.org:a/b"),
        ("ssh://git@example.org/a@b", "ssh://example.org/a@b"),
    ],
)
def test_the_origin_is_told_without_a_password(source: Path, url: str, told: str) -> None:
    run_git(source / "tree", "remote", "add", "origin", url)
    assert read_origin(find_git_folder(str(source), str(source / "tree"))) == told


@pytest.mark.parametrize("name", ["HEAD", "packed-refs", "commondir", ""])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "loop", "outside"])
def test_files_of_git_that_are_none(source: Path, tmp_path: Path, name: str, kind: str) -> None:
    git = source / "tree/.git"
    shutil.copytree(git, tmp_path / "outside")
    target = git / name if name else git
    if name:
        shutil.rmtree(git / "refs/heads")  # so that packed refs are asked
        target.unlink(missing_ok=True)
    else:
        shutil.rmtree(git)
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        links = {"endless": "/dev/zero", "loop": target.name, "outside": tmp_path / "outside" / name}
        target.symlink_to(links[kind])
    listing = listed(source)
    assert names(listing) == [PLAIN]
    [(reason, [name])] = reasons(listing).items()
    assert name.startswith("tree: ")
    assert reason in ("unreadable_git", "git_elsewhere")


def test_links_within_the_source_are_followed(source: Path) -> None:
    """As the tool `repo` sets its projects up."""
    (source / "tree/.git").rename(source / "store")
    (source / "tree/.git").mkdir()
    for name in ("HEAD", "refs", "objects"):
        (source / "tree/.git" / name).symlink_to(f"../../store/{name}")
    assert names(listed(source)) == [PLAIN, ("store", "a.py"), TREE], "the store is a repository by itself"
    shutil.rmtree(source / "tree/.git")
    (source / "tree/.git").symlink_to("../store")
    assert TREE in names(listed(source))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_worktrees(source: Path, tmp_path: Path, relative: bool, together: bool) -> None:
    """The git folder may lie outside of the source, for it names the worktree; it does not name a copy."""
    root = source if together else tmp_path / "branches"
    branch = root / "branch"
    porcelain.worktree_add(str(source / "tree"), str(branch), branch=b"other")
    own = source / "tree/.git/worktrees/branch"
    if relative:
        (branch / ".git").write_text(f"gitdir: {os.path.relpath(own, branch)}\n")
        (own / "gitdir").write_text(f"{os.path.relpath(branch / '.git', own)}\n")
    shutil.copytree(branch, root / "copy")
    listing = listed(root)
    revisions = dict(zip(listing.files["repository"].to_pylist(), listing.files["revision"].to_pylist(), strict=True))
    assert revisions["branch"].startswith("swh:1:rev:")
    if together:
        assert names(listing) == [("branch", "a.py"), ("copy", "a.py"), PLAIN, TREE]
    else:
        assert names(listing) == [("branch", "a.py")]
        assert reasons(listing) == {"git_elsewhere": [f"copy: to {own}"]}


def test_a_worktree_has_a_commit_of_its_own(source: Path) -> None:
    run_git(source / "tree", "worktree", "add", "-q", "-b", "other", str(source / "branch"))
    run_git(source / "branch", "commit", "-q", "--allow-empty", "-m", "second")
    listing = listed(source)
    revisions = dict(zip(listing.files["repository"].to_pylist(), listing.files["revision"].to_pylist(), strict=True))
    for name in ("tree", "branch"):
        assert revisions[name] == f"swh:1:rev:{run_git(source / name, 'rev-parse', 'HEAD')}"
    assert revisions["tree"] != revisions["branch"]


def test_a_commondir_does_not_lead_out(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "tree/.git", tmp_path / "outside")
    for note in ("../../../outside", str(tmp_path / "outside"), "/"):
        (source / "tree/.git/commondir").write_text(f"{note}\n")
        listing = listed(source)
        assert names(listing) == [PLAIN]
        assert list(reasons(listing)) == ["git_elsewhere"]
    (tmp_path / "note").write_text(".\n")
    (source / "tree/.git/commondir").unlink()
    (source / "tree/.git/commondir").symlink_to(tmp_path / "note")
    assert list(reasons(listed(source))) == ["git_elsewhere"], "the note itself lies outside"
    (source / "tree/.git/commondir").unlink()
    (source / "tree/.git/commondir").write_text("\n")
    assert list(reasons(listed(source))) == ["unreadable_git"]


def test_a_submodule_is_a_source_of_its_own(tmp_path: Path, plant: Callable[..., str]) -> None:
    upstream = plant("upstream", {"a.py": "1"})
    make_repository(upstream)
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    for arguments in (["init", "-q", "super"], ["-C", "super", "submodule", "--quiet", "add", upstream, "sub"]):
        subprocess.run([GIT, *who, *arguments], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([GIT, *who, "-C", "super", "commit", "-qm", "first"], cwd=tmp_path, check=True)
    assert names(listed(tmp_path / "super/sub")) == [("sub", "a.py")]
    whole = listed(tmp_path / "super")
    assert names(whole) == [("super", ".gitmodules")]
    assert whole.left_out.statistics == {"submodule": {"count": 1, "named": []}}
    shutil.copytree(tmp_path / "super/sub", tmp_path / "super/other")
    with pytest.raises(UserError, match=r"leads out of the source to a place that does not know it \(other: to "):
        listed(tmp_path / "super/other")
    config = tmp_path / "super/.git/modules/sub/config"
    for content in (
        b"[core",
        b"\xff[",
        b"[core]\nworktree\n",
        b'[core]\nworktree = "\\q"\n',
        b"",
        b"[include]\npath=/dev/zero",
    ):
        config.write_bytes(content)
        with pytest.raises(UserError, match="does not know it"):
            listed(tmp_path / "super/sub")


def test_paths_that_lead_out_of_the_repository(source: Path) -> None:
    git = source / "tree/.git"
    blob = put_object(git, "blob", b"2")
    inner = put_tree(git, [(name, FILE, blob) for name in (b".", b"..", b".git", b"b.py", b"sub/c.py")])
    folders = [(name, FOLDER, inner) for name in (b"..", b".GIT", b"/etc", b"sub")]
    check_out_entries(git, [(b"", FILE, blob), (b"/dev/zero", FILE, blob), (b"../../secret.py", FILE, blob), *folders])
    listing = listed(source)
    assert names(listing) == [PLAIN, ("tree", "sub/b.py")]
    assert listing.left_out.statistics["unsafe_path"]["count"] == 3 + 3 + 4
