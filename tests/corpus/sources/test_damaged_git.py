"""Bits flipped and files cut off anywhere in a repository's .git: the same files, or a repository that is counted."""

import random
import shutil
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from git_repositories import WHO, make_repository
from source_listings import LIMIT, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder

COUNTED = {
    "unreadable_git",
    "git_elsewhere",
    "no_commit",
    "damaged_object",
    "damaged_folder",
    "missing_object",
    "missing_folder",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with packed and loose objects, tags, packed refs and a worktree, beside a plain package."""
    root, tree = tmp_path / "src", tmp_path / "src/tree"
    for name in ("a.py", "sub/b.py", "sub/deep/c.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (root / "plain").mkdir()
    (root / "plain/x.py").write_text("0")
    make_repository(str(tree))
    porcelain.tag_create(str(tree), b"one")
    porcelain.pack_refs(str(tree), all=True)
    with Repo(str(tree)) as repository:
        repository.object_store.pack_loose_objects()
    (tree / "a.py").write_text("changed")
    porcelain.add(str(tree), [str(tree / "a.py")])
    porcelain.commit(str(tree), b"second", author=WHO, committer=WHO)
    porcelain.worktree_add(str(tree), str(root / "branch"), branch=b"other")
    return root


def damage(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    kind = draw.randrange(4)
    if kind == 0 or not content:
        file.unlink()
        return
    if kind == 1:
        del content[draw.randrange(len(content)) :]
    else:
        for _ in range(1 if kind == 2 else 4):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.chmod(0o644)
    file.write_bytes(content)


def damage_again_and_again(source: Path, times: int) -> int:
    """Damages one file at a time; returns how often a repository was left out."""
    whole = list_sources([SourceFolder(str(source))], LIMIT)
    expected = {name: [found for found in names(whole) if found[0] == name] for name in ("plain", "tree", "branch")}
    assert [len(found) for found in expected.values()] == [1, 3, 3]
    assert not whole.left_out
    shutil.copytree(source, source.with_name("kept"))
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file() and ".git" in path.parts)
    notes = [path for path in files if path.name in ("HEAD", "packed-refs", ".git", "commondir", "gitdir")]
    draw, counted = random.Random(0), 0
    for _ in range(times):
        file = draw.choice(draw.choice([files, notes]))
        damage(source / file, draw)
        listing = list_sources([SourceFolder(str(source))], LIMIT)
        found = names(listing)
        statistics = listing.left_out.statistics
        lost = {name for name, whole_ in expected.items() if not set(whole_) & set(found)}
        partly = set().union(*expected.values()) - set(found)
        left_out = {name.partition(":")[0].split("/")[0] for share in statistics.values() for name in share["named"]}
        assert statistics.keys() <= COUNTED, (file, statistics)
        assert lost <= left_out, (file, found)
        assert "plain" not in lost
        assert set(found) <= set().union(*expected.values()), file
        assert {name for name, _ in partly} <= left_out, file
        counted += bool(left_out)
        (source / file).unlink(missing_ok=True)
        shutil.copy2(source.with_name("kept") / file, source / file)
    return counted


def test_damage(source: Path) -> None:
    assert damage_again_and_again(source, 150) > 30


@pytest.mark.slow
def test_much_damage(source: Path) -> None:
    assert damage_again_and_again(source, 1000) > 200
