"""Zips that mean harm, or are broken: a member costs itself alone, a directory the archive."""

import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_files import GOOD, beside, contents, files, licenses, listed, named, reasons, zip_of


@pytest.fixture
def source(plant: Callable[..., str]) -> Path:
    """A folder for an archive beside a package that is sound."""
    return Path(plant("src", {"neighbour/n.py": "1\n"}))


def test_encrypted_members(source: Path, tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    (tmp_path / "LICENSE").write_text("MIT")
    zip_of(source / "a.zip", GOOD)
    subprocess.run(["zip", "-q", "-P", "pass", source / "a.zip", "LICENSE"], cwd=tmp_path, check=True)
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py"}, {"encrypted_member": 1})
    assert licenses(listing) == {("", "", True)}, "what it says is unknown"


def patched(path: Path, marker: bytes, offset: int, form: str, value: int, nth: int = 1) -> None:
    """Writes a number into the header of the nth member of a zip."""
    raw, at = bytearray(path.read_bytes()), -1
    for _ in range(nth + 1):
        at = raw.index(marker, at + 1)
    struct.pack_into(form, raw, at + offset, value)
    path.write_bytes(raw)


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


@pytest.mark.parametrize(
    ("marker", "offset", "form", "value"),
    [
        (CENTRAL, 16, "<I", 0),  # checksum
        (CENTRAL, 24, "<I", 2),  # size, smaller
        (CENTRAL, 24, "<I", 1 << 31),  # size, larger
        (CENTRAL, 20, "<I", 1),  # packed size, smaller
        (CENTRAL, 42, "<I", 0),  # where another member lies
        (CENTRAL, 42, "<I", 1 << 30),  # where nothing lies
        (CENTRAL, 10, "<H", 12),  # bzip2
        (CENTRAL, 10, "<H", 14),  # LZMA
        (CENTRAL, 10, "<H", 99),
        (CENTRAL, 8, "<H", 1 << 5),  # patched data
        (LOCAL, 30, "<B", ord("x")),  # another name
        (LOCAL, 0, "<I", 0),
        (LOCAL, 26, "<H", 60_000),
    ],
)
@pytest.mark.parametrize("method", [0, 8])
def test_single_members_of_a_zip(source: Path, marker: bytes, offset: int, form: str, value: int, method: int) -> None:
    zip_of(source / "a.zip", GOOD, ("bad.py", b"bad " * 1000), ("c.py", b"3"), method=method)
    patched(source / "a.zip", marker, offset, form, value)
    listing = beside(source)
    if method == 0 and offset == 20 and marker == CENTRAL:  # a stored member is as long as the directory says
        assert files(listing) >= {"a.py", "c.py"}
    assert (files(listing), reasons(listing)) == ({"a.py", "c.py"}, {"damaged_member": 1})
    assert named(listing)[0].startswith("a.zip/bad.py")


def test_a_checksum_that_fits_a_lie(source: Path) -> None:
    """The directory says less, and the checksum of that: what it says is what is taken, both times."""
    zip_of(source / "a.zip", GOOD, ("b.py", b"0123456789" * 100))
    patched(source / "a.zip", CENTRAL, 24, "<I", 5)
    patched(source / "a.zip", CENTRAL, 16, "<I", zlib.crc32(b"01234"))
    assert contents(listed(source / "a.zip")) == {"a.py": b"good\n", "b.py": b"01234"}
    patched(source / "a.zip", CENTRAL, 24, "<I", 2000)
    patched(source / "a.zip", CENTRAL, 16, "<I", zlib.crc32(b"0123456789" * 100))
    assert reasons(beside(source)) == {"damaged_member": 1}


@pytest.mark.parametrize("cut", [30, 60, -60, -30, -1])
def test_truncated_zips(source: Path, cut: int) -> None:
    whole = zip_of(source / "a.zip", GOOD, ("b.py", b"2")).read_bytes()
    (source / "a.zip").write_bytes(whole[:cut])
    assert reasons(beside(source)) == {"damaged_archive": 1}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_zipfile_expands_without_bound(source: Path, method: int) -> None:
    zip_of(source / "a.zip", ("b.py", b"1" * 1000), method=method)
    assert (files(beside(source)), reasons(beside(source))) == (set(), {"damaged_member": 1})
