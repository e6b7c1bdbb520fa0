"""Archives that mean harm, or are broken: each costs itself alone, is counted, and ends in time."""

import gzip
import io
import os
import random
import struct
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_files import GOOD, beside, contents, files, licenses, link, listed, named, reasons, tar_of, zip_of
from source_listings import LIMIT, WholeListing, list_sources

from sc2jax.corpus.sources import archive_members, archive_streams, archives
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import REASONS, SourceError
from sc2jax.corpus.sources.listing import read_listed
from sc2jax.errors import UserError


@pytest.fixture
def source(plant: Callable[..., str]) -> Path:
    """A folder for an archive beside a package that is sound."""
    return Path(plant("src", {"neighbour/n.py": "1\n"}))


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "p/../../x.py", "p/..", "//x.py", ".", "./.", "x\0.py"])
def test_paths_that_lead_out(source: Path, name: str) -> None:
    tar_of(source / "a.tar", ("p/a.py", b"1"), (name, b"2"), format_=tarfile.PAX_FORMAT if "\0" in name else 0)
    if "\0" in name:
        tar_of(source / "a.tar", ("p/a.py", b"1"), ("short", {"pax_headers": {"path": name}}))
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py"}, {"unsafe_member": 1})
    (source / "a.tar").unlink()
    info = zipfile.ZipInfo("x" * len(name))
    zip_of(source / "a.zip", ("p/a.py", b"1"), (info, b"2"))
    (source / "a.zip").write_bytes((source / "a.zip").read_bytes().replace(b"x" * len(name), name.encode()))
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py"}, {"unsafe_member": 1})


def test_links_and_devices_are_counted_and_never_followed(source: Path) -> None:
    (source / "secret").mkdir()
    (source / "secret/s.py").write_text("secret")
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V", b"Z")
    tar_of(
        source / "a.tar",
        GOOD,
        ("down", link("secret")),
        ("down/s.py", b"own"),
        ("abs.py", link("/etc/passwd")),
        ("hard.py", link("../secret/s.py", hard=True)),
        ("self.py", link("self.py", hard=True)),
        ("b.py", link("a.py", hard=True)),
        ("c.py", link("./b.py", hard=True)),
        ("d.py", link("down", hard=True)),
        *((f"special{number}", {"type": kind}) for number, kind in enumerate(kinds)),
    )
    listing = beside(source)
    assert contents(listed(source / "a.tar")) == dict.fromkeys(("a.py", "b.py", "c.py"), b"good\n") | {
        "down/s.py": b"own"
    }
    assert reasons(listing) == {"link": 5, "special_file": 5}


def test_links_and_devices_in_a_zip(source: Path) -> None:
    entries: list = [GOOD]
    for name, mode, content in [("l", 0o120777, b"a.py"), ("LICENSE", 0o120777, b"a.py"), ("p", 0o010644, b"")]:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        entries.append((info, content))
    dos = zipfile.ZipInfo("dos.py")
    dos.create_system, dos.external_attr = 0, 0o120777 << 16
    zip_of(source / "a.zip", *entries, (dos, b"a.py"))
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py", "dos.py"}, {"link": 2, "special_file": 1})
    assert {(folder, bool(swhid)) for folder, swhid, _ in licenses(listing)} == {("", True)}


def test_the_last_of_a_name_counts(source: Path) -> None:
    tar_of(
        source / "a.tar",
        GOOD,
        ("b.py", link("a.py", hard=True)),
        ("./a.py", b"new"),
        ("c.py", b""),
        ("c.py", link("a")),
    )
    with pytest.warns(UserWarning, match="Duplicate"):
        zip_of(source / "b.zip", GOOD, ("a.py", b"newer"))
    listing = beside(source)
    assert contents(listed(source / "a.tar")) == {"a.py": b"new", "b.py": b"good\n"}
    assert contents(listed(source / "b.zip")) == {"a.py": b"newer"}
    assert reasons(listing) == {"replaced_member": 3, "link": 1}


def test_too_deep(source: Path) -> None:
    deep = "/".join(["d"] * 63)
    tar_of(source / "a.tar", GOOD, (f"{deep}/f.py", b""), (f"{deep}/d/g.py", b""), (f"{deep}/d/e/h.py", b""))
    assert len(f"{deep}/f.py".split("/")) == 64
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py", f"{deep}/f.py"}, {"too_deep": 1})


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_too_many_members(source: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_IN_A_LEVEL", 10)
    entries = [(f"{number}.py", b"") for number in range(10)]

    def made(*more: tuple[str, bytes]) -> WholeListing:
        if suffix == "zip":
            zip_of(source / "a.zip", *entries, *more)
        else:
            tar_of(source / f"a.{suffix}", *entries, *more, mode="w:gz" if suffix == "tar.gz" else "w")
        return beside(source)

    assert len(files(made())) == 10
    listing = made(("x.py", b""))
    assert (files(listing), reasons(listing)) == (set(), {"too_many_paths": 1})
    monkeypatch.setattr(archives, "MOST_IN_A_LEVEL", 100)
    monkeypatch.setattr(archives, "_MOST_NAMES", 10 * len("0.py") + 1)
    assert len(files(made(("x", b"")))) == 11
    assert reasons(made(("xy", b""))) == {"too_many_paths": 1}


def test_the_directory_of_a_zip_is_bounded(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zip_of(source / "a.zip", *((f"{number:03}.py", b"") for number in range(100)))
    directory = 100 * (46 + 6)
    monkeypatch.setattr(archive_members, "_MOST_DIRECTORY", directory)
    assert len(files(beside(source))) == 100
    monkeypatch.setattr(archive_members, "_MOST_DIRECTORY", directory - 1)
    assert reasons(beside(source)) == {"too_many_paths": 1}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_bombs(source: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(archive_members, "SLACK", 1 << 20)
    tar_of(source / "a.tar.gz", GOOD, ("b.py", bytes(20 << 20)), mode=mode)
    zip_of(source / "b.zip", GOOD, ("b.py", bytes(20 << 20)))
    listing = beside(source)
    assert (files(listing), reasons(listing)) == (set(), {"archive_bomb": 2})


def test_bombs_after_the_end_and_between_members(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "SLACK", 1 << 20)
    tar = tar_of(source / "a.tar", GOOD)
    (source / "after.tar.gz").write_bytes(gzip.compress(tar.read_bytes() + bytes(20 << 20)))
    unknown = tarfile.TarInfo("pipe")
    unknown.type, unknown.size = b"Z", 20 << 20
    hidden = tar.read_bytes()[:1024] + unknown.tobuf() + bytes((20 << 20) + 10240)
    (source / "hidden.tar.gz").write_bytes(gzip.compress(hidden))
    tar.unlink()
    assert reasons(beside(source)) == {"archive_bomb": 2}


def test_memory_that_expanding_asks_for(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar_of(source / "a.tar.xz", GOOD, mode="w:xz")
    assert files(beside(source)) == {"a.py"}
    monkeypatch.setattr(archive_streams, "_MOST_MEMORY", 1 << 20)
    assert reasons(beside(source)) == {"damaged_archive": 1}


def test_hard_links_count_what_they_lead_to(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "MOST_RATIO", 1)
    monkeypatch.setattr(archive_members, "SLACK", 100_000)
    many = [(f"{number}.py", link("a.py", hard=True)) for number in range(10)]
    tar_of(source / "a.tar", ("a.py", bytes(9_000)), *many)
    assert len(files(beside(source))) == 11
    tar_of(source / "a.tar", ("a.py", bytes(11_000)), *many)
    assert reasons(beside(source)) == {"archive_bomb": 1}


def test_the_absolute_limit(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "MOST_EXPANDED", 20_480)
    tar_of(source / "a.tar.gz", ("a.py", bytes(5_000)), mode="w:gz")
    assert files(beside(source)) == {"a.py"}
    tar_of(source / "a.tar.gz", ("a.py", bytes(20_000)), mode="w:gz")
    assert reasons(beside(source)) == {"archive_bomb": 1}


def test_members_that_overlap_in_a_zip_count_each_time(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "SLACK", 1 << 20)
    raw = zip_of(source / "a.zip", ("a.py", bytes(1 << 19))).read_bytes()
    start = raw.index(b"PK\1\2")
    entry, end = raw[start : raw.index(b"PK\5\6")], bytearray(raw[raw.index(b"PK\5\6") :])
    struct.pack_into("<HHI", end, 8, 40, 40, 40 * len(entry))
    (source / "a.zip").write_bytes(raw[:start] + entry * 40 + end)
    assert reasons(beside(source)) == {"archive_bomb": 1}


def test_truncated_anywhere(source: Path) -> None:
    whole = tar_of(source / "a.tar", GOOD, ("b.py", random.Random(0).randbytes(3_000)), ("c.py", b"")).read_bytes()
    end = 512 * (1 + 1 + 1 + 6 + 1)
    for size in range(512, end + 1, 256):
        (source / "a.tar").write_bytes(whole[:size])
        assert reasons(beside(source)) == {"damaged_archive": 1}, size
    (source / "a.tar").write_bytes(whole[: end + 512])
    assert len(files(beside(source))) == 3
    (source / "a.tar").unlink()
    packed = gzip.compress(whole)
    for size in range(2, len(packed), 97):
        (source / "a.tgz").write_bytes(packed[:size])
        listing = beside(source)
        assert (reasons(listing), named(listing)[0].partition(":")[0]) == ({"damaged_archive": 1}, "a.tgz")
    (source / "a.tgz").write_bytes(gzip.compress(whole[:end]))
    assert len(files(beside(source))) == 3, "the checksum says that it is whole"


def test_a_broken_header_is_not_the_end(source: Path) -> None:
    whole = bytearray(tar_of(source / "a.tar", GOOD, ("b.py", b"2"), ("c.py", b"3")).read_bytes())
    whole[1024] ^= 1
    for name, content in (("a.tar", bytes(whole)), ("a.tgz", gzip.compress(whole))):
        (source / name).write_bytes(content)
    listing = beside(source)
    assert (files(listing), reasons(listing)) == (set(), {"damaged_archive": 2})


def test_what_no_checksum_of_tar_covers(source: Path) -> None:
    """The bytes of a file in a compressed tar, and what follows its end."""
    stored = bytearray(gzip.compress(tar_of(source / "a.tar", GOOD).read_bytes(), compresslevel=0))
    stored[stored.index(b"good")] ^= 1
    (source / "a.tar").unlink()
    (source / "a.tgz").write_bytes(stored)
    assert reasons(beside(source)) == {"damaged_archive": 1}


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    member = tarfile.TarInfo("pax")
    member.type, member.size = kind, len(records)
    return member.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


END = bytes(1024)
MEMBER = tarfile.TarInfo("x.py").tobuf(tarfile.USTAR_FORMAT)
NEGATIVE, SLIGHTLY = tarfile.TarInfo("n.py"), tarfile.TarInfo("n.py")
NEGATIVE.size, SLIGHTLY.size = -512, -5
HEADERS = {
    "negative size": NEGATIVE.tobuf(tarfile.GNU_FORMAT) + END,
    "size of a little below zero": SLIGHTLY.tobuf(tarfile.GNU_FORMAT) + END,
    "negative pax size": pax(record("size", "-512")) + MEMBER + END,
    "zero length": pax(b"0 size=1\n") + MEMBER + END,
    "digits": pax(b"1" * 1_000_000) + MEMBER + END,
    "huge header": pax(b" " * (1 << 20)) + MEMBER + END,
    "many globals": b"".join(pax(record(f"key{number}", "1"), b"g") for number in range(70)) + MEMBER + END,
    "endless headers": pax(record("comment", "1"), b"g") * 1_500 + MEMBER + END,
    "header of nothing": pax(record("path", "y")) + END,
    "long name of nothing": pax(b"name", b"L") + END,
    "long name of all": pax(b"n" * (1 << 20), b"L") + MEMBER + END,
    "sparse map of words": pax(record("GNU.sparse.map", "a,b")) + MEMBER + END,
    "sparse map without end": pax(
        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "s")
    )
    + MEMBER
    + b"99999999\n".ljust(512, b"1")
    + END,
    "larger than there is": pax(record("size", str(1 << 60))) + MEMBER + END,
    "real size": pax(record("GNU.sparse.realsize", "4096")) + MEMBER + MEMBER + END,
    "number of many digits": pax(record("size", "9" * 200)) + MEMBER + END,
}


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_mean_harm(source: Path, what: str, packed: bool) -> None:
    content = HEADERS[what]
    path = source / ("a.tgz" if packed else "a.tar")
    path.write_bytes(gzip.compress(content) if packed else content)
    begun = time.process_time()
    listing = beside(source)
    assert time.process_time() - begun < 5
    if archives.is_archive(str(path)):
        assert (files(listing), reasons(listing)) == (set(), {"damaged_archive": 1})
    else:
        assert files(listing) == {path.name}


def test_sparse_members(source: Path, tmp_path: Path) -> None:
    with (tmp_path / "hole.py").open("wb") as file:
        file.write(b"1")
        file.truncate(1 << 30)
    (tmp_path / "a.py").write_text("2")
    for kind in ("gnu", "pax"):
        command = ["tar", f"--format={kind}", "--sparse", "-C", tmp_path, "-cf", source / f"{kind}.tar"]
        subprocess.run([*command, "hole.py", "a.py"], check=True)
    listing = beside(source)
    assert (files(listing), reasons(listing)) == ({"a.py"}, {"sparse_member": 2})


def test_names_that_are_not_utf8(source: Path) -> None:
    raw = os.fsdecode(b"gr\xfc\xdfe.py")
    for number, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        tar_of(source / f"{number}.tar", ("x/" + raw, b"1"), format_=kind)
    zip_of(source / "a.zip", ("grXYe.py", b"1"))
    (source / "a.zip").write_bytes((source / "a.zip").read_bytes().replace(b"grXYe", b"gr\xfc\xdfe"))
    zip_of(source / "b.zip", ("größe.py", b"1"))
    assert files(beside(source)) == {"gr\\xfc\\xdfe.py", "größe.py"}


def test_an_archive_that_cannot_be_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(source / "a.tar", GOOD)

    def refuse(_: str) -> None:
        raise SourceError("unreadable_file", str(path), "Permission denied")

    (source / "pipe.tar").parent.mkdir(exist_ok=True)
    os.mkfifo(source / "pipe.tar")
    (source / "link.tar").symlink_to("a.tar")
    assert reasons(beside(source)) == {"link": 1, "special_file": 1}
    monkeypatch.setattr("sc2jax.corpus.sources.archive_streams.open_regular", refuse)
    assert reasons(listed(source)) == {"link": 1, "special_file": 1, "unreadable_file": 1}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_archives_that_change_after_they_were_listed(source: Path, name: str) -> None:
    path = source / name

    def make(*entries: tuple[str, bytes]) -> None:
        path.unlink(missing_ok=True)
        if name == "a.zip":
            zip_of(path, *entries)
        else:
            tar_of(path, *entries, mode="w" if name == "a.tar" else "w:gz")

    def again(listing: WholeListing) -> list[str]:
        locations, swhids = (listing.files[column].to_pylist() for column in ("location", "swhid"))
        found = read_listed(locations, swhids, LIMIT)
        return [each.reason if isinstance(each, SourceError) else "" for each in found]

    make(GOOD, ("b.py", b"2" * 1000))
    listing = listed(path)
    assert again(listing) == ["", ""]
    make(GOOD, ("b.py", b"3" * 1000))
    assert again(listing) == ["", "changed"]
    for content in (path.read_bytes()[:36], b"", b"text", b"PK\3\4", b"\x1f\x8b\x08"):
        path.write_bytes(content)
        assert again(listing) == ["changed"] * 2
    path.unlink()
    assert again(listing) == ["changed"] * 2
    os.mkfifo(path)
    assert again(listing) == ["changed"] * 2


def test_damage_can_end_the_work(source: Path) -> None:
    (source / "a.tgz").write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(UserError, match=r"a\.tgz is an archive that is damaged"):
        list_sources([SourceFolder(str(source))], LIMIT, damaged="stop")
    with pytest.raises(UserError, match=r"no file of the sources can be read: 1 archive that is damaged \(a\.tgz"):
        listed(source / "a.tgz")


def test_nested_archives_are_files(source: Path) -> None:
    inner = tar_of(source / "in.tar", GOOD).read_bytes()
    (source / "in.tar").unlink()
    tar_of(source / "a.tgz", ("p/in.tar", inner), ("p/a.py", b""), mode="w:gz")
    assert files(beside(source)) == {"in.tar", "a.py"}


def archives_to_break() -> list[tuple[str, bytes]]:
    content = [("p/a.py", b"print(1)\n" * 50), ("p/LICENSE", b"MIT"), ("p/" + "n" * 120, b"long"), ("p/e.py", b"")]
    made = []
    for name, mode in [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for path, data in content:
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        made.append((name, buffer.getvalue()[: 512 * 12] if mode == "w" else buffer.getvalue()))
    for method in (0, 8):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for path, data in content:
                archive.writestr(path, data)
        made.append(("a.zip", buffer.getvalue()))
    return made


def test_flipped_bits(source: Path) -> None:
    """Nothing but the archive suffers, what is listed can be read, and reasons are known."""
    draw = random.Random(11)
    outcomes: set[tuple[str, ...]] = set()
    for number in range(60):
        for name, whole in archives_to_break():
            broken = bytearray(whole)
            for _ in range(draw.choice([1, 1, 3, 30])):
                broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            if number % 5 == 0:
                at = draw.randrange(len(broken))
                broken[at : at + draw.randrange(40)] = draw.randbytes(draw.randrange(40))
            (source / name).write_bytes(broken)
            listing = beside(source)
            assert reasons(listing).keys() <= REASONS.keys()
            assert all(".." not in path.split("/") and not path.startswith("/") for path in files(listing))
            outcomes.add(tuple(reasons(listing)))
            (source / name).unlink()
    assert {(), ("damaged_archive",), ("damaged_member",)} <= outcomes


def test_what_is_no_link_leads_nowhere(source: Path) -> None:
    tar_of(source / "a.tar", GOOD, ("LICENSE", {"type": tarfile.FIFOTYPE, "linkname": "a.py"}))
    assert licenses(beside(source)) == {("", "", True)}


def test_an_archive_named_like_a_license_is_none_of_its_neighbours(source: Path) -> None:
    tar_of(source / "mit-1.0.tar", GOOD)
    assert licenses(beside(source)) == set()
