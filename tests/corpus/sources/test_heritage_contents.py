import gzip
import hashlib
import os
import random
import tracemalloc
import zlib
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from dulwich.objects import Blob
from heritage_exports import put_content
from hypothesis import given
from hypothesis import strategies as st

from sc2jax import stores
from sc2jax.corpus.sources import heritage_contents
from sc2jax.corpus.sources.contents import read_contents
from sc2jax.corpus.sources.heritage_contents import heritage_locations, refuse_too_many_failed
from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.listing import read_listed
from sc2jax.errors import UserError
from sc2jax.stores import StoreError

LIMIT = 1 << 20
CONTENT = b"print('one')\n"


def location(store: object, content: bytes, **other: object) -> bytes:
    row = {"sha1": hashlib.sha1(content).hexdigest(), "sha1_git": Blob.from_string(content).id.decode()}
    row |= {"size": len(content)} | other
    sha1, sha1_git = (pa.array([bytes.fromhex(str(row[name]))], pa.binary(20)) for name in ("sha1", "sha1_git"))
    return heritage_locations(str(store), sha1, sha1_git, pa.array([row["size"]], pa.int64()))[0].as_py()


def put(store: Path, content: bytes, packed: bytes) -> bytes:
    """Puts bytes where a content should be."""
    put_content(store, content)
    (store / "content" / hashlib.sha1(content).hexdigest()).write_bytes(packed)
    return location(store, content)


def read(*locations: bytes, limit: int = LIMIT) -> list[bytes | tuple[str, str]]:
    found = read_contents(locations, limit)
    return [each if isinstance(each, bytes) else (each.reason, each.detail) for each in found]


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0))
def test_contents_are_what_was_put_there(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], seed: int
) -> None:
    large = random.Random(seed).randbytes(90_000)  # which gzip makes larger
    store = tmp_path_factory.mktemp("store")
    contents = [*contents, large, b"", large]
    for content in contents:
        put_content(store, content)
    locations = [location(store, content) for content in contents]
    assert read(*locations) == contents
    swhids = [f"swh:1:cnt:{Blob.from_string(content).id.decode()}" for content in contents]
    assert list(read_listed(locations, swhids, LIMIT)) == contents


def test_each_way_to_fail_is_told_apart(tmp_path: Path) -> None:
    whole = gzip.compress(CONTENT)
    cases = {
        b"cut": put(tmp_path, b"cut" + CONTENT, gzip.compress(b"cut" + CONTENT)[:-4]),
        b"no checksum": put(tmp_path, b"no checksum", gzip.compress(b"no checksum")[:-8] + bytes(8)),
        b"more": put(tmp_path, b"more", gzip.compress(b"more") + b"x"),
        b"two": put(tmp_path, b"two", gzip.compress(b"two") + gzip.compress(b"")),
        b"other": put(tmp_path, b"other", gzip.compress(b"rehto")),
        b"longer": put(tmp_path, b"longer", gzip.compress(b"longer and longer")),
        b"shorter": put(tmp_path, b"shorter", gzip.compress(b"s")),
        b"plain": put(tmp_path, b"plain", b"plain"),
        b"zlib": put(tmp_path, b"zlib", zlib.compress(b"zlib")),
        b"nothing": put(tmp_path, b"nothing", b""),
    }
    cases[b"sha1"] = location(tmp_path, CONTENT, sha1=hashlib.sha1(b"sha1").hexdigest())
    (tmp_path / "content" / hashlib.sha1(b"sha1").hexdigest()).write_bytes(whole)
    put_content(tmp_path, CONTENT)
    cases[b"sha1_git"] = location(tmp_path, CONTENT, sha1_git="0" * 40)
    for name, case in cases.items():
        ((reason, detail),) = read(case)
        assert (name, reason) == (name, "damaged_content")
        assert detail
    (tmp_path / "content" / hashlib.sha1(b"folder").hexdigest()).mkdir()
    places = [location(tmp_path, content) for content in (b"absent", b"folder", CONTENT)]
    absent, folder, present = read(*places, limit=len(CONTENT))
    assert absent == ("absent_content", "")
    assert folder[0] == "unfetched_content"
    assert present == CONTENT
    assert read(location(tmp_path, CONTENT), limit=len(CONTENT) - 1) == [("unreadable_file", "more than 12 bytes")]
    assert read(location(tmp_path / "nowhere", CONTENT))[0][0] == "absent_content"
    assert read(location(tmp_path / f"content/{hashlib.sha1(CONTENT).hexdigest()}", CONTENT))[0][0] == "absent_content"


def test_a_bomb_is_not_expanded(tmp_path: Path) -> None:
    bomb = put(tmp_path, b"small", gzip.compress(bytes(1 << 26)))
    tracemalloc.start()
    ((reason, detail),) = read(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert (reason, detail) == ("damaged_content", "it does not hold 5 bytes")
    large = put(tmp_path, b"large", gzip.compress(b"large") + bytes(1 << 20))
    assert read(large) == [("damaged_content", "it does not hold 5 bytes")]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    place = put(tmp_path, CONTENT, b"")
    path = tmp_path / "content" / hashlib.sha1(CONTENT).hexdigest()
    path.unlink()
    os.mkfifo(path)
    assert read(place)[0][0] == "unfetched_content"


def test_a_store_is_asked_for_many_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """fsspec's file system in memory stands for a store."""
    memory = fsspec.filesystem("memory")
    contents = [f"content {number}".encode() for number in range(7)]
    for content in contents[1:]:
        row = put_content(tmp_path, content)
        memory.pipe_file(f"/bucket/content/{row['sha1']}", gzip.compress(content))
    asked = []
    real = stores.fetched

    def counted(paths, most):
        asked.append(len(paths))
        return real(paths, most)

    monkeypatch.setattr(heritage_contents, "fetched", counted)
    monkeypatch.setattr(heritage_contents, "_AT_ONCE", 4)
    found = read(*[location("memory://bucket", content) for content in contents])
    assert found == [("absent_content", ""), *contents[1:]]
    assert asked == [4, 3]


def test_what_a_store_raises_is_not_that_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(*arguments: object, **named: object) -> bytes:
        raise ConnectionError("reset")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", reset)
    found = stores.fetched(["memory://bucket/a", "memory://bucket/b"], [1, 1])
    assert all(isinstance(each, StoreError) and "ConnectionError: reset" in str(each) for each in found)
    (fault,) = read_contents([location("memory://bucket", CONTENT)], LIMIT)
    assert isinstance(fault, SourceError)
    assert fault.reason == "unfetched_content"
    (fault,) = read_contents([location("nosuchkind://bucket", CONTENT)], LIMIT)
    assert isinstance(fault, SourceError)
    assert fault.reason == "unfetched_content"


def test_more_failures_than_the_share_stop_the_run() -> None:
    left_out = LeftOut()
    for number, reason in enumerate(["absent_content", "unfetched_content", "damaged_content", "changed"]):
        left_out.add(SourceError(reason, f"a/one/{number}.py"))
    refuse_too_many_failed(left_out.statistics, 300, 0.01)
    refuse_too_many_failed(left_out.statistics, 3, 1.0)
    refuse_too_many_failed({}, 0, 0.0)
    with pytest.raises(UserError) as error:
        refuse_too_many_failed(left_out.statistics, 299, 0.01)
    assert str(error.value) == (
        "3 of 299 contents of Software Heritage failed (1 not there, 1 not fetched, 1 damaged; such as a/one/0.py), "
        "more than corpus.max_failed_share (1.00%); see that corpus.heritage_contents, the network and the credentials "
        "are right and run the same command again, or allow more"
    )
