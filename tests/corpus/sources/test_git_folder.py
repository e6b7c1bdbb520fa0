"""Where git's own files may lie, and what is made of them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from git_repositories import FILE, make_repository
from git_repositories import index_bytes as index
from source_listings import LIMIT, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import Listing, list_sources
from sc2jax.errors import UserError

GIT = shutil.which("git")
COMMIT = "1" * 40


def listed(root: str | Path) -> Listing:
    return list_sources([SourceFolder(str(root))], LIMIT)


def reasons(listing: Listing) -> dict[str, list[str]]:
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
    assert revision() == f"swh:1:rev:{commit}"
    branch.unlink()
    assert not revision(), "before the first commit"
    other = f"{'2' * 40} refs/heads/other\n^{'3' * 40}\n"
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{other}{commit} {branch.relative_to(git)}\n")
    assert revision() == f"swh:1:rev:{commit}"
    branch.write_text(f"{COMMIT}\n")
    assert revision() == f"swh:1:rev:{COMMIT}", "a loose ref comes before a packed one"
    (git / "HEAD").write_text(f"{commit}\n")
    assert revision() == f"swh:1:rev:{commit}", "detached"
    (git / "HEAD").write_text("ref: refs/heads/alias")
    (git / "refs/heads/alias").write_text(f"ref: {branch.relative_to(git)}\n")
    assert revision() == f"swh:1:rev:{COMMIT}"


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
        ("index", "", "its index: its checksum does not match"),
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


def test_a_repository_without_an_index_is_not_an_empty_one(source: Path) -> None:
    (source / "tree/.git/index").unlink()
    assert reasons(listed(source)) == {"no_index": ["tree"]}
    with pytest.raises(UserError, match=r"1 working tree without an index.*run `git reset`"):
        listed(source / "tree")


def test_what_is_not_read_may_be_damaged(source: Path) -> None:
    """Objects, alternates and the config, which may include a file that never ends."""
    git = source / "tree/.git"
    shutil.rmtree(git / "objects")
    (git / "objects/info").mkdir(parents=True)
    (git / "objects/info/alternates").write_text("/dev\n")
    os.mkfifo(git / "endless")
    (git / "config").write_text(f"[include]\npath = {git}/endless\n[include]\npath = /dev/zero\n[core\n")
    listing = listed(source)
    assert names(listing) == [PLAIN, TREE]
    assert not listing.left_out


@pytest.mark.parametrize("name", ["HEAD", "index", "packed-refs", "commondir", ""])
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
    for name in ("HEAD", "refs", "index"):
        (source / "tree/.git" / name).symlink_to(f"../../store/{name}")
    (source / "store/objects").rename(source / "store/elsewhere")  # so that it is no bare repository
    assert TREE in names(listed(source))
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


@pytest.mark.skipif(GIT is None, reason="needs git")
def test_a_submodule_is_a_source_of_its_own(tmp_path: Path, plant: Callable[..., str]) -> None:
    upstream = plant("upstream", {"a.py": "1"})
    make_repository(upstream)
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    for arguments in (["init", "-q", "super"], ["-C", "super", "submodule", "--quiet", "add", upstream, "sub"]):
        subprocess.run([str(GIT), *who, *arguments], cwd=tmp_path, check=True, capture_output=True)
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


def test_paths_that_lead_out_of_the_working_tree(source: Path, tmp_path: Path) -> None:
    (source / "tree/sub").mkdir()
    (source / "tree/sub/b.py").write_text("2")
    (source / "tree/link").symlink_to(tmp_path)
    (source / "tree/inner").symlink_to("sub")
    (source / "tree/loop").symlink_to("loop")
    (source / "tree/sub/.git").mkdir()
    (source / "tree/sub/.git/config").write_text("secret")
    (source / "secret.py").write_text("secret")
    unsafe = [
        b"../secret.py",
        b"/a.py",
        b"/etc/passwd",
        b"a.py/",
        b"a.py/x",
        b".git/HEAD",
        b"sub/.GIT/config",
        b"sub/../a.py",
        b"./a.py",
        b"sub//b.py",
        b"link/src/secret.py",
        b"sub/..",
        b".git",
        b"..",
        b"loop/x",
        b"x" * 300,
        b"y/" * 2040 + b"z",
        b"inner/b.py",
        b"plain.py",
        b"sub",
    ]
    wanted = [b"a.py", b"sub/b.py"]
    entries = [(path, FILE) for path in sorted([*unsafe, *wanted])]
    (source / "tree/.git/index").write_bytes(index(entries))
    listing = listed(source)
    assert [name for name in names(listing) if name[0] == "tree"] == [("tree", "a.py"), ("tree", "sub/b.py")]
    counts = {reason: share["count"] for reason, share in listing.left_out.statistics.items()}
    assert counts == {"link": 1, "not_in_working_tree": 6, "unreadable_file": 3, "unsafe_path": 10}
    assert sum(counts.values()) == len(unsafe)
