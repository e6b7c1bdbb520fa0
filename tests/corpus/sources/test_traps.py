"""A source with any set of traps: what is sound is listed as ever, nothing outside is read, nothing is waited for."""

import dataclasses
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git_repositories import FILE, FOLDER, LINK, SUBMODULE, Entry, check_out, make_repository, put_object, put_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from source_listings import LIMIT, LISTING, WholeListing, list_sources, names

from sc2jax.corpus.sources import git_trees
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import REASONS

CANARY = b"secret = outside\n"


def commit(tree: Path, *entries: tuple[bytes, int]) -> None:
    """Checks a tree of such names out, as git itself would not make it."""
    git = tree / ".git"
    blob = put_object(git, "blob", CANARY)
    check_out(git, put_tree(git, [(name, mode, blob) for name, mode in entries]))


def endless(tree: Path, levels: int, width: int) -> None:
    """A few small trees that name each other: width ** levels files."""
    git = tree / ".git"
    entries: list[Entry] = [(b"t.py", FILE, put_object(git, "blob", b"tree"))]
    for _ in range(levels):
        inner = put_tree(git, entries)
        entries = [(b"%d" % number, FOLDER, inner) for number in range(width)]
    check_out(git, put_tree(git, entries))


def objects_of(tree: Path) -> list[Path]:
    return sorted(path for path in (tree / ".git/objects").rglob("*") if path.is_file())


def clear(path: Path) -> None:
    """Makes room for a trap where another one may be: shutil.rmtree would wait for a pipe."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def put(path: Path, content: str | bytes) -> None:
    clear(path)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def pipe_for(path: Path) -> None:
    clear(path)
    os.mkfifo(path)


def link_for(path: Path, target: Path) -> None:
    clear(path)
    path.symlink_to(target)


def deep(folder: Path, name: str, levels: int) -> None:
    """Folders in each other, which may go beyond what one path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, tempfile.TemporaryDirectory(dir="/tmp") as short:
        made.bind(f"{short}/s")
        Path(short, "s").rename(path)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where traps are set: a package and a working tree of the source, and a folder outside of it."""

    package: Path
    tree: Path
    outside: Path


TRAPS: dict[str, Callable[[Place], object]] = {
    # name -> given the at.package, the working at.tree and the folder outside
    "link to a file": lambda at: (at.package / "l.py").symlink_to(at.outside / "secret.py"),
    "link to a folder": lambda at: (at.package / "folder").symlink_to(at.outside),
    "link as a package": lambda at: (at.package.parent / "linked").symlink_to(at.outside),
    "loop": lambda at: (at.package / "loop").symlink_to("loop"),
    "loop of two": lambda at: (at.package / "up").symlink_to(".."),
    "dead link": lambda at: (at.package / "dead.py").symlink_to("nowhere"),
    "pipe": lambda at: os.mkfifo(at.package / "pipe.py"),
    "pipe as a licence": lambda at: os.mkfifo(at.package / "LICENSE"),
    "pipe as a package": lambda at: os.mkfifo(at.package.parent / "pipe"),
    "socket": lambda at: plug(at.package / "socket.py"),
    "deep folders": lambda at: deep(at.package, "d" * 200, 25),
    "pipe as .git": lambda at: pipe_for(at.tree / ".git"),
    "pipe as HEAD": lambda at: pipe_for(at.tree / ".git/HEAD"),
    "pipe as index": lambda at: pipe_for(at.tree / ".git/index"),
    "pipe as tables": lambda at: (
        (at.tree / ".git/reftable").mkdir(),
        os.mkfifo(at.tree / ".git/reftable/tables.list"),
    ),
    "pipe as config": lambda at: pipe_for(at.tree / ".git/config"),
    "pipe as alternates": lambda at: pipe_for(at.tree / ".git/objects/info/alternates"),
    "pipe in a distribution": lambda at: (
        (at.package.parent / "p-1.dist-info").mkdir(),
        os.mkfifo(at.package.parent / "p-1.dist-info/RECORD"),
    ),
    "include": lambda at: put(at.tree / ".git/config", f"[include]\npath = {at.outside}/pipe\n"),
    "alternates": lambda at: put(at.tree / ".git/objects/info/alternates", f"{at.outside}\n"),
    "commondir": lambda at: put(at.tree / ".git/commondir", f"{at.outside}/git\n"),
    "refs": lambda at: put(at.tree / ".git/HEAD", "ref: refs/../../../../outside/git/HEAD"),
    "tree that climbs": lambda at: commit(at.tree, (b"../../outside/secret.py", FILE), (b"..", FOLDER)),
    "absolute tree": lambda at: commit(at.tree, (os.fsencode(at.outside / "secret.py"), FILE), (b"/dev/zero", FILE)),
    "tree of git's own": lambda at: commit(at.tree, (b".git", FILE), (b".GIT", FOLDER)),
    "tree of links": lambda at: commit(at.tree, (b"t.py", LINK)),
    "tree of submodules": lambda at: commit(at.tree, (b"t.py", SUBMODULE)),
    "tree of devices": lambda at: commit(at.tree, (b"t.py", 0o060000)),
    "endless tree": lambda at: endless(at.tree, 40, 10),
    "pipe as an object": lambda at: [pipe_for(path) for path in objects_of(at.tree)],
    "link as an object": lambda at: [link_for(path, at.outside / "secret.py") for path in objects_of(at.tree)],
    "link as objects": lambda at: link_for(at.tree / ".git/objects", at.outside),
    "pipe as a pack": lambda at: (
        (at.tree / ".git/objects/pack").mkdir(exist_ok=True),
        os.mkfifo(at.tree / ".git/objects/pack/pack-1.idx"),
    ),
    "alternates in a circle": lambda at: put(
        at.tree / ".git/objects/info/alternates", f"{at.tree.resolve()}/.git/objects\n"
    ),
    "git file": lambda at: put(at.tree / ".git", f"gitdir: {at.outside}/git\n"),
    "relative git file": lambda at: put(at.tree / ".git", "gitdir: ../../outside/git\n"),
    "git file to a device": lambda at: put(at.tree / ".git", "gitdir: /dev\n"),
    "git file with a NUL": lambda at: put(at.tree / ".git", "gitdir: a\0b\n"),
    "endless git file": lambda at: put(at.tree / ".git", "gitdir: " + "x/" * 100_000),
    "link as .git": lambda at: link_for(at.tree / ".git", at.outside / "git"),
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sound source, and a folder outside of it that would show itself or never end if it were read."""
    top = tmp_path_factory.mktemp("traps")
    for path, content in {
        "src/good/g.py": b"good",
        "src/package/p.py": b"package",
        "src/sound/s.py": b"sound",
        "src/tree/t.py": b"tree",
        "outside/git/HEAD": CANARY,
        "outside/git/config": CANARY,
        "outside/secret.py": CANARY,
        "outside/git/t.py": CANARY,
    }.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)
    make_repository(str(top / "src/sound"))
    make_repository(str(top / "src/tree"))
    (top / "src/tree/.git/objects/info").mkdir(exist_ok=True)
    yield top


def list_with(templates: Path, traps: list[str]) -> tuple[WholeListing, set[str]]:
    """Sets the traps up, as far as one leaves room for the next; gives the listing and what else was opened."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(templates, here, dirs_exist_ok=True)
        os.mkfifo(here / "outside/pipe")
        for name in traps:
            try:
                TRAPS[name](Place(here / "src/package", here / "src/tree", here / "outside"))
            except OSError:
                continue  # another trap has taken its place
        opened: set[str] = set()
        open_file = os.open

        def noted(path: str | Path, flags: int, *mode: int, **how: int) -> int:
            if not how and LISTING not in str(path):
                opened.add(os.path.realpath(path))
            return open_file(path, flags, *mode, **how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", noted)
            patch.setattr(git_trees, "MOST_IN_A_LEVEL", 10_000)
            listing = list_sources([SourceFolder(str(here / "src"))], LIMIT)
        # Whether a git folder names the working tree as its own can only be read there.
        asked = {os.devnull, *(str((here / "outside/git" / name).resolve()) for name in ("gitdir", "config"))}
        return listing, {path for path in opened - asked if not path.startswith(f"{(here / 'src').resolve()}/")}


def check(templates: Path, traps: list[str]) -> WholeListing:
    listing, outside = list_with(templates, traps)
    assert not outside
    found = names(listing)
    assert {("good", "g.py"), ("package", "p.py"), ("sound", "s.py")} <= set(found)
    assert set(found) - {("good", "g.py"), ("package", "p.py"), ("sound", "s.py")} <= {("tree", "t.py")}
    assert listing.left_out.statistics.keys() <= REASONS.keys()
    if ("tree", "t.py") not in found:
        assert listing.left_out
    return listing


@pytest.mark.parametrize("trap", TRAPS)
def test_one_trap(templates: Path, trap: str) -> None:
    harmless = {"include", "pipe as config", "pipe as index"}
    listing = check(templates, [trap])
    assert bool(listing.left_out) == (trap not in harmless)
    lost = ("git", "tree", "object", "pack", "tables", "alternates", "commondir", "refs", "HEAD")
    assert (("tree", "t.py") in names(listing)) or any(word in trap for word in lost)


def test_folders_deeper_than_pythons_stack(tmp_path: Path) -> None:
    deep(tmp_path, "d", 1800)
    (tmp_path / "a.py").write_text("1")
    Path(tmp_path, *["d"] * 1700, "b.py").write_text("2")
    try:
        assert len(list_sources([SourceFolder(str(tmp_path.parent), only=(tmp_path.name,))], LIMIT).files) == 2
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # shutil.rmtree has no such stack either


@settings(max_examples=25)
@given(st.lists(st.sampled_from(sorted(TRAPS)), min_size=2, unique=True))
def test_any_set_of_traps(templates: Path, traps: list[str]) -> None:
    check(templates, traps)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(st.sampled_from(sorted(TRAPS)), min_size=2, unique=True))
def test_many_sets_of_traps(templates: Path, traps: list[str]) -> None:
    check(templates, traps)
