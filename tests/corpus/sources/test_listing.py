import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dulwich.objects import Blob
from hypothesis import given
from hypothesis import strategies as st
from source_listings import LIMIT, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import git_blob_id
from sc2jax.errors import UserError


@given(st.binary(max_size=200))
def test_swhid_is_gits_own_hash(content: bytes) -> None:
    assert git_blob_id(content) == f"swh:1:cnt:{Blob.from_string(content).id.decode()}"


def test_equal_names_are_told_apart(plant: Callable[..., str]) -> None:
    one = SourceFolder(plant("x/src", {"pkg/a.py": "1", "own/a.py": "2"}))
    two = SourceFolder(plant("y/src", {"pkg/a.py": "3"}))
    there, back = list_sources([one, two], LIMIT), list_sources([two, one], LIMIT)
    assert names(there) == [("own", "a.py"), ("x/src/pkg", "a.py"), ("y/src/pkg", "a.py")]
    assert there.digest == back.digest
    assert len(list_sources([one, one], LIMIT).files) == 2, "the same source twice counts once"


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
    with pytest.raises(UserError, match=r"pkg: its HEAD holds no commit"):
        list_sources([SourceFolder(plant("broken", {"pkg/.git/HEAD": "nonsense"}))], LIMIT)


def test_what_cannot_be_read_is_left_out_and_named(plant: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant("src", {"pkg/a.py": "1", "pkg/closed/b.py": "2", "pkg/c.py": "3"})
    scandir, open_file = os.scandir, os.open

    def closed_folder(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def closed_file(path: Any, flags: int, *mode: int, **how: int) -> int:
        if str(path).endswith("a.py"):
            raise PermissionError(13, "Permission denied")
        return open_file(path, flags, *mode, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed_folder)
        with pytest.raises(UserError, match=r"pkg/closed is a folder that cannot be read \(Permission denied\)"):
            list_sources([SourceFolder(root)], LIMIT, damaged="stop")
        listing = list_sources([SourceFolder(root)], LIMIT)
        assert names(listing) == [("pkg", "a.py"), ("pkg", "c.py")]
        named = ["pkg/closed: Permission denied"]
        assert listing.left_out.statistics == {"unreadable_folder": {"count": 1, "named": named}}
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", closed_file)
        with pytest.raises(UserError, match=r"pkg/a.py is a file that cannot be read \(Permission denied\)"):
            list_sources([SourceFolder(root)], LIMIT, damaged="stop")
        listing = list_sources([SourceFolder(root)], LIMIT)
        assert names(listing) == [("pkg", "c.py"), ("pkg", "closed/b.py")]
        named = ["pkg/a.py: Permission denied"]
        assert listing.left_out.statistics == {"unreadable_file": {"count": 1, "named": named}}

    def closed_source(path: str) -> object:
        if str(path) == root:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed_source)
    with pytest.raises(UserError, match=r"src is a folder that cannot be read"):
        list_sources([SourceFolder(root)], LIMIT)


def test_digest_is_a_sha256(plant: Callable[..., str]) -> None:
    assert len(list_sources([SourceFolder(plant("s", {"a/b": "1"}))], LIMIT).digest) == hashlib.sha256().digest_size * 2


def test_a_sample_is_the_same_repositories_whatever_else_there_is(plant: Callable[..., str]) -> None:
    many = {f"package{number:03}/a.py": str(number) for number in range(400)}
    whole, part = plant("whole", many), plant("part", dict(list(many.items())[:100]))

    def taken(root: str, share: float) -> set[str]:
        listing = list_sources([SourceFolder(root)], LIMIT, sample=share)
        found = {repository for repository, _ in names(listing)}
        missing = listing.left_out.statistics.get("not_sampled", {"count": 0})["count"]
        assert missing + len(found) == len(list(Path(root).iterdir()))
        return found

    quarter, half = taken(whole, 0.25), taken(whole, 0.5)
    assert quarter < half < taken(whole, 1.0)
    assert 60 < len(quarter) < 140
    assert taken(part, 0.25) == {name for name in quarter if name < "package100"}
    with pytest.raises(
        UserError, match=r"no file of the sources can be read: 100 repositories outside of corpus\.sample"
    ):
        taken(part, 0.0)
