"""Archives of every format hold what the same tree holds as a plain folder."""

import bz2
import gzip
import itertools
import lzma
import os
import random
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_files import contents, licenses, link, listed, reasons, tar_of, zip_of
from hypothesis import given, settings
from hypothesis import strategies as st
from source_listings import LIMIT, list_sources, names

from sc2jax.corpus.sources import archive_streams
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import read_listed
from sc2jax.corpus.sources.walk import SKIPPED_FOLDERS
from sc2jax.errors import UserError

COMPRESSIONS = {
    "tar": [],
    "tar.gz": ["gzip", "-n"],
    "tgz": ["gzip", "-n", "-1"],
    "crate": ["gzip", "-n"],
    "orig.tar.bz2": ["bzip2"],
    "debian.tar.xz": ["xz"],
    "tar.zst": ["zstd", "-q"],
}
TAR_FORMATS = ["v7", "ustar", "gnu", "pax"]


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.fixture
def tree(plant: Callable[..., str]) -> Path:
    """A folder in a source, with a file or two of everything that may lie there."""
    root = plant(
        "plain",
        {
            "pkg-1.0/setup.py": "import pkg\n",
            "pkg-1.0/LICENSE": "MIT License\n",
            "pkg-1.0/empty.py": "",
            "pkg-1.0/src/pkg/big.py": random.Random(0).randbytes(700_000),
            "pkg-1.0/src/pkg/a-b.py": "1\n",
            "pkg-1.0/src/pkg/a/b.py": "2\n",
            "pkg-1.0/src/pkg/a.py": "3\n",
            "pkg-1.0/src/inner.tar.gz": gzip.compress(b"no archive is opened in another one"),
            "pkg-1.0/__pycache__/a.pyc": "skipped",
            "pkg-1.0/many/" + "/".join(["level"] * 12) + "/deep.py": "4\n",
            "pkg-1.0/größe \\x41 \n.py": "5\n",
        },
    )
    Path(root, "pkg-1.0/COPYING").symlink_to("LICENSE")
    Path(root, "pkg-1.0/outside").symlink_to("/etc/passwd")
    return Path(root)


def assert_same(plain: str | Path, archive: str | Path, kinds: bool = True) -> None:
    expected, found = listed(plain), listed(archive)
    assert contents(found) == contents(expected)
    assert licenses(found) == licenses(expected)
    if kinds:
        assert reasons(found) == reasons(expected)
    assert {repository for repository, _ in names(found)} <= {Path(archive).name}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_tars_of_the_systems_own(tree: Path, tmp_path: Path, suffix: str) -> None:
    packed = subprocess.run(["tar", "-C", tree, "-c", "pkg-1.0"], stdout=subprocess.PIPE, check=True).stdout
    if COMPRESSIONS[suffix]:
        needs(COMPRESSIONS[suffix][0])
        packed = subprocess.run([*COMPRESSIONS[suffix], "-c"], input=packed, stdout=subprocess.PIPE, check=True).stdout
    archive = tmp_path / f"pkg_1.0.{suffix}"
    archive.write_bytes(packed)
    assert_same(tree, archive)


@pytest.mark.parametrize("format_", TAR_FORMATS)
def test_every_format_of_tar(tree: Path, tmp_path: Path, format_: str) -> None:
    if format_ not in ("v7", "ustar"):
        (tree / "pkg-1.0" / ("n" * 200) / ("m" * 200)).mkdir(parents=True)
        (tree / "pkg-1.0" / ("n" * 200) / ("m" * 200) / ("o" * 200 + ".py")).write_text("long")
        (tree / "pkg-1.0/LICENCE").symlink_to("n" * 200 + "/" + "m" * 200 + "/" + "o" * 200 + ".py")
    (Path(os.fsdecode(os.fsencode(tree / "pkg-1.0") + b"/gr\xfc\xdfe.py"))).write_text("latin 1")
    subprocess.run(["tar", f"--format={format_}", "-C", tree, "-cf", tmp_path / "a.tar", "pkg-1.0"], check=True)
    assert_same(tree, tmp_path / "a.tar")
    subprocess.run(["tar", f"--format={format_}", "-C", tree / "pkg-1.0", "-cf", tmp_path / "b.tar", "."], check=True)
    assert_same(tree, tmp_path / "b.tar")


@pytest.mark.parametrize("level", ["-0", "-9"])
def test_zips_of_the_systems_own(tree: Path, tmp_path: Path, level: str) -> None:
    needs("zip")
    subprocess.run(["zip", "-qry", level, tmp_path / "pkg.zip", "pkg-1.0"], cwd=tree, check=True)
    assert_same(tree, tmp_path / "pkg.zip")


def test_what_another_program_unpacks(tree: Path, tmp_path: Path) -> None:
    """The oracle beside the plain folder: tar and unzip."""
    needs("unzip")
    made = tar_of(tmp_path / "a.tar.gz", ("x/a.py", b"1"), ("x/b/c.py", b"2"), ("x/a.py", b"3"), mode="w:gz")
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xf", made], check=True)
    assert contents(listed(made)) == contents(listed(tmp_path / "out")) == {"a.py": b"3", "b/c.py": b"2"}
    packed = zip_of(tmp_path / "b.zip", ("y/a.py", b"1" * 99), ("y/b/c.py", b""))
    subprocess.run(["unzip", "-q", packed, "-d", tmp_path / "unzipped"], check=True)
    assert contents(listed(packed)) == contents(listed(tmp_path / "unzipped"))


NAME = st.one_of(
    st.sampled_from(["LICENSE", "a", "b.py", "LICENSES", "README.md", "COPYING.txt", "é.py", "a\\x41", " ", "-rf"]),
    st.binary(min_size=1, max_size=9).map(os.fsdecode),
).filter(lambda name: not {"/", "\0"} & set(name) and name not in {".", "..", *SKIPPED_FOLDERS})
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)
TREE = st.dictionaries(PATH, st.binary(max_size=300), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(
    TREE, st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]), st.sampled_from([1, 2]), st.randoms(use_true_random=False)
)
def test_any_tree(tree: dict[str, bytes], mode: str, format_: int, draw: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "plain/pkg")
        root.mkdir(parents=True)
        kept = {}
        for path, content in tree.items():
            target = root / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except OSError:  # a file stands where a folder should be
                continue
            kept[path] = content
        entries = [(f"pkg/{path}", content) for path, content in kept.items()]
        draw.shuffle(entries)
        assert_same(root.parent, tar_of(Path(folder, "a.tar"), *entries, mode=mode, format_=format_))
        if all(name.isprintable() and name.encode(errors="replace").decode() == name for name in kept):
            assert_same(root.parent, zip_of(Path(folder, "a.whl"), *entries, method=draw.choice([0, 8])))


def test_archives_of_a_folder_are_repositories(plant: Callable[..., str]) -> None:
    root = Path(plant("src", {"loose.py": "0", "LICENSE": "MIT", "pkg/a.py": "1", "sub/b.tar": b"kept as a file"}))
    tar_of(root / "one-1.0.tgz", ("package/index.js", b"1"), ("package/LICENSE", b"own"), mode="w:gz")
    tar_of(root / "mit-1.0.tar", ("m.py", b"2"), ("other/x.py", b"3"))
    zip_of(root / "two.whl", ("two/a.py", b"4"))
    listing = listed(root)
    assert names(listing) == [
        ("LICENSE", "LICENSE"),
        ("loose.py", "loose.py"),
        ("mit-1.0.tar", "m.py"),
        ("mit-1.0.tar", "other/x.py"),
        ("one-1.0.tgz", "index.js"),
        ("one-1.0.tgz", "LICENSE"),
        ("pkg", "a.py"),
        ("sub", "b.tar"),
        ("two.whl", "a.py"),
    ]
    covered = {row["repository"] for row in listing.licenses.to_pylist()}
    assert covered == {"LICENSE", "loose.py", "one-1.0.tgz", "pkg", "sub"}, "what lies beside an archive is not its own"
    assert not listing.left_out
    only = list_sources([SourceFolder(str(root), only=("two.whl", "pkg"))], LIMIT)
    assert names(only) == [("pkg", "a.py"), ("two.whl", "a.py")]


def test_a_description_of_archives_beside_it_is_no_source(plant: Callable[..., str]) -> None:
    root = Path(plant("src", {"a.dsc": "Format: 3.0", "b.py": ""}))
    assert names(listed(root)) == [("a.dsc", "a.dsc"), ("b.py", "b.py")]
    tar_of(root / "a.orig.tar.gz", ("a/a.py", b"1"), mode="w:gz")
    assert names(listed(root)) == [("a.orig.tar.gz", "a.py"), ("b.py", "b.py")]


def test_name_and_content_both_make_an_archive(plant: Callable[..., str]) -> None:
    root = Path(
        plant("src", {"a.zip": "text", "b.tar.gz": "text", "c.tar": "x" * 512, "empty.tgz": "", "d.whl": b"BZh"})
    )
    zip_of(root / "library.jar", ("a.py", b"1"))
    zip_of(root / "zip.tar", ("a.py", b"1"))
    tar_of(root / "tar.zip", ("a.py", b"1"))
    assert all(repository == path for repository, path in names(listed(root)))
    tar_of(root / "UPPER.TAR.GZ", ("a.py", b"1"))
    tar_of(root / "bz2.tgz", ("a.py", b"1"), mode="w:bz2")
    assert {("UPPER.TAR.GZ", "a.py"), ("bz2.tgz", "a.py")} <= set(names(listed(root)))


def test_what_an_archive_as_a_source_may_be(plant: Callable[..., str], tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", ("a.py", b"1"))
    (tmp_path / "link.tgz").symlink_to("a.tar")
    assert names(listed(tmp_path / "link.tgz")) == [("a.tar", "a.py")]
    with pytest.raises(UserError, match="holds no files"):
        listed(tar_of(tmp_path / "none.tar"))
    with pytest.raises(UserError, match="holds no files"):
        listed(zip_of(tmp_path / "none.zip"))
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(UserError, match="not a folder, nor an archive"):
        listed(tmp_path / "pipe.tar")
    two = [tar_of(Path(plant(name, {"x": ""}), "same.tar"), ("a.py", name.encode())) for name in ("m", "n")]
    assert len({repository for repository, _ in names(listed(*two))}) == 2


@pytest.mark.parametrize("top", ["", "one/", "./one/"])
def test_only_a_folder_of_all_is_stripped(tmp_path: Path, top: str) -> None:
    entries = [(f"{top}two/a.py", b"1"), (f"{top}b.py", b"2")]
    assert set(contents(listed(tar_of(tmp_path / "a.tar", *entries)))) == {"two/a.py", "b.py"}
    below = "one/" if top else ""
    for other in (("pipe", {"type": b"6"}), ("c.py", b"3"), ("link", link("b.py"))):
        found = set(contents(listed(tar_of(tmp_path / "b.tar", *entries, other)))) - {"c.py"}
        assert found == {f"{below}two/a.py", f"{below}b.py"}
    for other in (("empty", {"type": b"5"}), ("../c.py", b"3"), ("CVS/c.py", b"3")):
        found = set(contents(listed(tar_of(tmp_path / "c.tar", *entries, other))))
        assert found == {"two/a.py", "b.py"}, "what is not taken at all is in nobody's way"


def test_licenses_of_a_wheel_speak_for_all_of_it(tmp_path: Path) -> None:
    wheel = zip_of(
        tmp_path / "a.whl",
        ("a/x.py", b"1"),
        ("a-1.dist-info/licenses/LICENSE", b"MIT"),
        ("a-1.dist-info/METADATA", b"2"),
        ("a/inner.dist-info/LICENSE", b"other"),
    )
    found = {(row["folder"], row["promised"]) for row in listed(wheel).licenses.to_pylist()}
    assert found == {("", True), ("a-1.dist-info/licenses", True), ("a/inner.dist-info", True)}


def test_links_that_promise_a_license(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "a.tar",
        ("p/doc/MIT.txt", b"MIT"),
        ("p/LICENSE", link("doc/MIT.txt")),
        ("p/doc/COPYING", link("../doc/MIT.txt")),
        ("p/sub/LICENSE", link("../../../etc/passwd")),
        ("p/sub/COPYING", link("MIT.txt")),
        ("p/hard/COPYING", link("p/doc/MIT.txt", hard=True)),
        ("p/away/COPYING", link("p/nowhere", hard=True)),
    )
    listing = listed(archive)
    mit = contents(listing)["doc/MIT.txt"] and listing.files["swhid"].to_pylist()[0]
    assert licenses(listing) == {
        ("", mit, True),
        ("doc", mit, True),
        ("hard", mit, True),
        ("sub", "", True),
        ("away", "", True),
    }
    assert reasons(listing) == {"link": 5}


def test_large_members_are_not_read(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", ("big.py", b"x" * 100), ("small.py", b"x" * 99), mode="w:gz")
    listing = listed(archive, limit=100)
    assert [bool(swhid) for swhid in listing.files["swhid"].to_pylist()] == [False, True]
    location = listing.files["location"].to_pylist()
    small = list(read_listed(location, ["", listing.files["swhid"].to_pylist()[1]], 99))
    assert isinstance(small[0], Exception) and small[1] == b"x" * 99


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_streams_one_after_the_other(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What parallel compressors write; zeros between and after them are padding."""
    whole = tar_of(tmp_path / "whole.tar", ("a.py", random.Random(1).randbytes(300_000)), ("b.py", b"2")).read_bytes()
    parts = [pack(whole[at : at + 50_000]) + bytes(4) for at in range(0, len(whole), 50_000)]
    (tmp_path / "a.tar.gz").write_bytes(b"".join(parts) + bytes(8192))
    assert contents(listed(tmp_path / "a.tar.gz")) == contents(listed(tmp_path / "whole.tar"))


def shuffled_archive(path: Path, files: int = 300) -> Path:
    draw = random.Random(3)
    entries = [(f"{draw.random()}/{number}.py", draw.randbytes(20_000)) for number in range(files)]
    return tar_of(path, *entries, mode="w:gz")


def test_an_archive_is_expanded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its members are ordered, and whichever thread comes first: what is asked for late is still kept."""
    listing = listed(shuffled_archive(tmp_path / "a.tar.gz"))
    begun = []
    make = archive_streams._Stream
    monkeypatch.setattr(archive_streams, "_Stream", lambda path: begun.append(path) or make(path))
    locations, swhids = listing.files["location"].to_pylist(), listing.files["swhid"].to_pylist()
    units = [slice(at, at + 10) for at in range(0, len(locations), 10)]
    random.Random(4).shuffle(units)
    lock, right = threading.Lock(), []

    def work() -> None:
        while True:
            with lock:
                if not units:
                    return
                unit = units.pop()
            right.extend(isinstance(each, bytes) for each in read_listed(locations[unit], swhids[unit], LIMIT))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert right == [True] * 300 and len(begun) == 1


def test_a_batch_is_read_in_the_order_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_streams, "_KEPT", 1)
    monkeypatch.setattr(archive_streams, "CHUNK", 10_000)
    listing = listed(shuffled_archive(tmp_path / "a.tar.gz", 60))
    begun = []
    make = archive_streams._Stream
    monkeypatch.setattr(archive_streams, "_Stream", lambda path: begun.append(path) or make(path))
    locations, swhids = (listing.files[name].to_pylist()[::-1] for name in ("location", "swhid"))
    assert all(isinstance(each, bytes) for each in read_listed(locations, swhids, LIMIT)) and len(begun) == 1


def test_a_file_larger_than_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_streams, "_KEPT", 100_000)
    monkeypatch.setattr(archive_streams, "CHUNK", 10_000)
    entries = [("a.py", b"1"), ("b.py", random.Random(6).randbytes(900_000)), ("c.py", b"2")]
    assert contents(listed(tar_of(tmp_path / "a.tgz", *entries, mode="w:gz"))) == dict(entries)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_no_more_is_expanded_or_read_than_is_asked_for(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "zeros").write_bytes(compress(bytes(100 << 20)) + compress(random.Random(0).randbytes(1 << 20)))
    with archive_streams.open_archive(str(tmp_path / "zeros")) as file:
        source = archive_streams.expanding(file)
        assert source is not None
        assert all(0 < len(source.read(100_000)) <= 100_000 for _ in range(30))
        assert file.tell() <= 65_536


def test_an_archive_that_took_the_place_of_one_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    for content in (b"1" * 300, b"2" * 300):
        made = gzip.compress(tar_of(tmp_path / "made.tar", ("a.py", content)).read_bytes(), 0, mtime=0)
        path.write_bytes(made)
        assert contents(listed(path)) == {"a.py": content}


def test_what_is_kept_is_bounded_and_the_rest_expanded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_streams, "_KEPT", 100_000)
    monkeypatch.setattr(archive_streams, "CHUNK", 10_000)
    listing = listed(shuffled_archive(tmp_path / "a.tar.gz", 60))
    pairs = list(zip(listing.files["location"].to_pylist(), listing.files["swhid"].to_pylist(), strict=True))
    for location, swhid in itertools.chain(pairs, reversed(pairs), random.Random(5).sample(pairs, 60)):
        assert all(isinstance(each, bytes) for each in read_listed([location], [swhid], LIMIT))
        stream = list(archive_streams._STREAMS._open.values())[-1].stream
        assert stream is not None and sum(len(part) for _, part in stream._kept) <= 100_000 + 30_000


def test_idle_archives_are_closed(tmp_path: Path) -> None:
    for number in range(9):
        contents(listed(tar_of(tmp_path / f"{number}.tar.gz", ("a.py", b"1"), mode="w:gz")))
    assert len(archive_streams._STREAMS._open) <= archive_streams._MOST_IDLE
    opened = [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]
    assert sum(str(tmp_path) in path for path in opened) <= archive_streams._MOST_IDLE


def test_digest_follows_contents_names_and_order(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    one, two = ("a.py", b"1"), ("b.py", b"2")
    digests = [
        listed(tar_of(tmp_path / name, *entries, mode=mode)).digest
        for name, mode, entries in [
            ("a.tar.gz", "w:gz", [one, two]),
            ("x/a.tar.gz", "w:gz", [one, two]),
            ("a.tar.gz", "w:bz2", [one, two]),
            ("a.tar.gz", "w:gz", [two, one]),
            ("a.tar.gz", "w", [two, one]),
            ("a.tar.gz", "w:gz", [one, ("b.py", b"3")]),
        ]
    ]
    assert digests[0] == digests[1] == digests[2] == digests[4], "neither place nor packing counts"
    assert len(set(digests)) == 3, "the order that files are read in does, for so they are written"


def test_members_of_every_size_around_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_streams, "CHUNK", 512)
    sizes = [0, 1, 511, 512, 513, 1023, 1024, 1025, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145]
    entries = [(f"{size}.py", random.Random(size).randbytes(size)) for size in sizes]
    for archive in (
        tar_of(tmp_path / "a.tar.xz", *entries, mode="w:xz"),
        tar_of(tmp_path / "a.tar", *entries),
        zip_of(tmp_path / "a.zip", *entries),
        zip_of(tmp_path / "b.zip", *entries, method=zipfile.ZIP_STORED),
    ):
        assert contents(listed(archive)) == dict(entries)
