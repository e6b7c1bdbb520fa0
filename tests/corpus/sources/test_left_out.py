import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_repositories import make_repository
from hypothesis import given
from hypothesis import strategies as st
from source_listings import LIMIT, licensed, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import REASONS, LeftOut, SourceError, as_text, in_a_line, in_words, together
from sc2jax.corpus.sources.listing import git_blob_id
from sc2jax.corpus.sources.walk import read_bytes
from sc2jax.errors import UserError


def counted(*faults: tuple[str, str]) -> LeftOut:
    left_out = LeftOut("/src")
    for reason, location in faults:
        left_out.add(SourceError(reason, location))
    return left_out


def test_counts_names_and_digest() -> None:
    files = [("unreadable_file", f"/src/{name}.py") for name in "ebdac"]
    left_out = counted(*files, ("link", "/src/x"), ("link", "/src/y"), files[0])
    assert left_out.statistics == {
        "link": {"count": 2, "named": []},
        "unreadable_file": {"count": 5, "named": ["a.py", "b.py", "c.py"]},
    }
    assert left_out.digest == counted(("link", "/src/y"), *reversed(files), ("link", "/src/x")).digest
    assert left_out.digest != counted(*files, ("link", "/src/x")).digest
    assert left_out.digest != counted(*files, ("link", "/src/x"), ("link", "/src/z")).digest
    parts = counted(*files[:2]), counted(*files[2:], ("link", "/src/x"), ("link", "/src/y"))
    total = LeftOut()
    for part in parts:
        total.absorb(part)
    assert (total.digest, total.statistics) == (left_out.digest, left_out.statistics)
    assert together(*(part.statistics for part in parts)) == left_out.statistics
    assert left_out
    assert not LeftOut()


def test_only_what_should_be_mended_ends_the_work() -> None:
    for reason, words in REASONS.items():
        left_out = LeftOut("/src", stop=True)
        if words.remedy and not words.harmless:
            with pytest.raises(
                UserError, match=f"^/src/a is an? {re.escape(words.one)} \\(so\\); {re.escape(words.remedy)}$"
            ):
                left_out.add(SourceError(reason, "/src/a", "so"))
        else:
            left_out.add(SourceError(reason, "/src/a"))
            assert left_out.statistics[reason]["count"] == 1


def test_in_words() -> None:
    faults = [("unreadable_file", f"/src/\x1b[2J{number}\n") for number in range(1002)]
    shares = counted(("link", "/src/x"), *faults, ("no_commit", "/src/tree")).statistics
    assert in_a_line(shares) == (
        "1 git repository without a commit "
        "(tree; commit its files, or remove .git to take the folder as plain files), "
        "1,002 files that cannot be read (\\x1b[2J0\\x0a; \\x1b[2J1000\\x0a; \\x1b[2J1001\\x0a and 999 more; "
        "make it readable, or remove it), 1 link"
    )
    assert in_words(shares)[0] == (
        "1 git repository without a commit",
        "tree; commit its files, or remove .git to take the folder as plain files",
    )
    assert in_words(shares)[2] == ("1 link", "")
    assert not in_words({}) and not in_a_line({})


def test_names_as_text() -> None:
    assert as_text("plain/näme.py") == "plain/näme.py"
    assert as_text(os.fsdecode(b"gr\xfc\xdfe")) == "gr\\xfc\\xdfe"
    assert as_text("a\nb\x7f\x85\t") == "a\\x0ab\\x7f\\xc2\\x85\\x09"
    assert as_text("a\\b") == "a\\b"
    assert as_text("a\\x0a") == "a\\x5cx0a"


PIECES = st.sampled_from(
    [b"\\", b"x", b"0", b"a", b"f", b"5c", b"\xff", b"\n", b"\x85", b"\xc2", b"\x0a", "ä\x85".encode()]
)


@given(st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=12))
def test_the_bytes_of_a_name_can_be_told_from_its_text(name: bytes) -> None:
    text = as_text(os.fsdecode(name))
    assert text.isprintable() or not text.isascii()
    told = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    assert told == name


def test_names_that_are_written_alike(plant: Callable[..., str]) -> None:
    """A hang, a merge of two repositories, and a repository that was left out before."""
    root = plant("src", {"pkg/a\nb.py": "1", "pkg/a\\x0ab.py": "2", "gr\\xfc/x.py": "3"})
    other = os.fsdecode(os.fsencode(root) + b"/gr\xfc")
    Path(other).mkdir()
    Path(other, "y.py").write_text("4")
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [
        ("gr\\x5cxfc", "x.py"),
        ("gr\\xfc", "y.py"),
        ("pkg", "a\\x0ab.py"),
        ("pkg", "a\\x5cx0ab.py"),
    ]
    assert not listing.left_out


def test_a_name_that_another_source_gives(plant: Callable[..., str]) -> None:
    """A working tree in one source is called what the package of another is called to tell it from its like."""
    one, two = plant("x/src", {"pkg/a.py": "1"}), plant("y/src", {"pkg/a.py": "2"})
    three = plant("z/src", {"x/src/pkg/c.py": "3", "b/a.py": "4"})
    make_repository(f"{three}/x/src/pkg")
    listing = list_sources([SourceFolder(root) for root in (three, one, two)], LIMIT)
    assert names(listing) == [("b", "a.py"), ("x/src/pkg", "a.py"), ("x/src/pkg~2", "c.py"), ("y/src/pkg", "a.py")]
    assert listing.left_out.statistics == {}


def test_read_bytes(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"12345")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert read_bytes(str(file), 5) == b"12345"
    cases = {
        str(file): "more than 4 bytes",
        str(link): "no regular file",
        str(pipe): "no regular file",
        str(tmp_path): "no regular file",
        "/dev/zero": "no regular file",
        str(tmp_path / "none"): "No such file or directory",
        f"{file}/x": "Not a directory",
        "a\0b": "embedded null byte",
        "x" * 5000: "File name too long",
    }
    for location, detail in cases.items():
        with pytest.raises(SourceError) as caught:
            read_bytes(location, 4)
        assert (caught.value.reason, caught.value.location, caught.value.detail) == (
            "unreadable_file",
            location,
            detail,
        )


def test_a_pipe_or_link_that_takes_a_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exchanged between the look at it and the opening of it."""
    file = tmp_path / "file"
    file.write_bytes(b"1")
    before = file.lstat()
    (tmp_path / "other").write_bytes(b"2")
    for take_place in (lambda: os.mkfifo(file), lambda: file.symlink_to("other")):
        file.unlink()
        take_place()
        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", lambda _: before)
            with pytest.raises(SourceError):
                read_bytes(str(file), 9)


def test_a_license_that_cannot_be_read_is_not_none(plant: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant("src", {"pkg/a.py": "1", "pkg/sub/LICENSE": "2", "big/LICENSE": "3" * 50, "big/a.py": "4"})
    open_file = os.open

    def closed(path: Any, flags: int, *mode: int, **how: int) -> int:
        if str(path).endswith("sub/LICENSE"):
            raise PermissionError(13, "Permission denied")
        return open_file(path, flags, *mode, **how)

    monkeypatch.setattr(os, "open", closed)
    listing = list_sources([SourceFolder(root)], 40)
    assert [(row["repository"], row["folder"], row["swhid"]) for row in listing.licenses.to_pylist()] == [
        ("big", "", git_blob_id(b"3" * 50)),
        ("pkg", "sub", ""),
    ], "one that is larger than a file may be is read all the same"
    assert listing.left_out.statistics["unreadable_file"]["named"] == ["pkg/sub/LICENSE: Permission denied"]


@pytest.mark.parametrize("broken", ["pipe", "csv", "large"])
def test_distributions_whose_packages_are_unknown(
    plant: Callable[..., str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What no other distribution claims may be theirs."""
    root = plant(
        "site-packages",
        {
            "claimed/a.py": "1",
            "unclaimed/a.py": "2",
            "one.dist-info/RECORD": "claimed/a.py,,\n",
            "one.dist-info/LICENSE": "3",
            "two.dist-info/LICENSE": "4",
            "three.egg-info/top_level.txt": b"\xff\xfe names",
        },
    )
    record = Path(root, "two.dist-info/RECORD")
    if broken == "pipe":
        os.mkfifo(record)
    elif broken == "csv":
        record.write_text(f'"{"x" * 200_000}",,\n')
    else:
        record.touch()
        os.truncate(record, 5 << 30)
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert licensed(listing) == {("claimed", "", "LICENSE"), ("unclaimed", "", "")}
    assert listing.left_out.statistics["unreadable_file"]["count"] == 1


def test_a_file_of_5_gigabytes(plant: Callable[..., str]) -> None:
    root = plant("src", {"pkg/a.py": "1"})
    with Path(root, "pkg/big.py").open("wb") as file:
        file.truncate(5 << 30)
    sizes = list_sources([SourceFolder(root)], LIMIT).files["source_bytes"].to_pylist()
    assert sizes == [1, 5 << 30]
