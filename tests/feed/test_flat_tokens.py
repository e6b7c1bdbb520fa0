"""Tokens laid flat: what was written is read again, or an error says what became of it; never other tokens."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from sc2jax.errors import UserError
from sc2jax.feed import flat_tokens
from sc2jax.feed.flat_tokens import BLOCK, DamagedTokensError, FlatTokens, rendering_folder, write_part
from sc2jax.records.dataset import refuse_missing
from sc2jax.records.manifest import Manifest, commit, read_manifest

SIZES = [
    [1],
    [BLOCK - 1],
    [BLOCK],
    [BLOCK + 1],
    [1, 1, BLOCK, 3 * BLOCK + 7, 2, BLOCK - 1],
    [2 * BLOCK, 2 * BLOCK],
]
SHARD = "c/0"


def ids(count: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    """Any ids, of which many are 0, the end of text and what a lost block would be filled with."""
    drawn = np.random.default_rng(seed).integers(0, vocab_size, count)
    drawn[::7] = 0
    drawn[-1:] = vocab_size - 1
    return drawn.astype(np.int32)


def written(folder: Path, sizes: Sequence[int], vocab_size: int = 1000, source: str = "s") -> tuple[FlatTokens, Any]:
    """Parts of these sizes, opened, and their tokens."""
    parts = [ids(size, vocab_size, number) for number, size in enumerate(sizes)]
    prefix = rendering_folder(source, 0)
    outputs = [
        output for n, part in enumerate(parts) for output in write_part(str(folder), prefix, n, part, vocab_size)
    ]
    commit(str(folder), Manifest("tokenize", {}, {}, tuple(outputs), {}))
    return FlatTokens(str(folder), read_manifest(str(folder)), source, 0, vocab_size), np.concatenate(parts)


def read(tokens: FlatTokens, start: int, length: int) -> np.ndarray:
    with ts.Batch() as batch:
        window = tokens.request(start, length, batch)
    return window.result()


def around(tokens: np.ndarray, start: int, length: int) -> np.ndarray:
    return np.take(tokens, range(start, start + length), mode="wrap")


@pytest.mark.parametrize("vocab_size", [400, 2**16, 2**16 + 1])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_what_was_written_is_read_again(tmp_path: Path, sizes: list[int], vocab_size: int) -> None:
    tokens, expected = written(tmp_path, sizes, vocab_size)
    assert len(tokens) == len(expected)
    np.testing.assert_array_equal(read(tokens, 0, len(tokens)), expected)
    chance = np.random.default_rng(1)
    starts = {0, 1, len(expected) - 1, *np.cumsum(sizes).tolist(), *chance.integers(0, len(expected), 20).tolist()}
    for start in starts:
        for length in (1, 2, 257, BLOCK + 1, len(expected) + 3):
            found = read(tokens, start, length)
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, around(expected, start, length))


def test_nothing_but_ends_of_text_is_no_missing_block(tmp_path: Path) -> None:
    """Id 0 is what a block that is not there could be filled with."""
    outputs = write_part(str(tmp_path), rendering_folder("s", 0), 0, np.zeros(2 * BLOCK + 3, np.int32), 1000)
    tokens = FlatTokens(str(tmp_path), Manifest("tokenize", {}, {}, tuple(outputs), {}), "s", 0, 1000)
    assert read(tokens, 5, 2 * BLOCK).tolist() == [0] * 2 * BLOCK


def test_windows_of_one_batch_are_those_of_many(tmp_path: Path) -> None:
    tokens, expected = written(tmp_path, SIZES[4])
    starts = np.random.default_rng(2).integers(0, len(tokens), 50).tolist()
    with ts.Batch() as batch:
        windows = [tokens.request(start, 99, batch) for start in starts]
    for start, window in zip(starts, windows, strict=True):
        np.testing.assert_array_equal(window.result(), around(expected, start, 99))


@pytest.mark.parametrize(("vocab_size", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_a_token_takes_two_bytes_where_the_vocabulary_fits(tmp_path: Path, vocab_size: int, width: int) -> None:
    written(tmp_path, [3 * BLOCK], vocab_size)
    (shard,) = tmp_path.glob(f"s/rendering-00000/part-00000-*/{SHARD}")
    assert shard.stat().st_size == 3 * (BLOCK * width + 4) + 3 * 16 + 4  # checksums, and the index


def test_equal_tokens_are_equal_bytes(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        written(tmp_path / folder, SIZES[4])
    files = [
        {
            path.relative_to(tmp_path / at): path.read_bytes()
            for path in (tmp_path / at / "s").rglob("*")
            if path.is_file()
        }
        for at in ("one", "other")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 2 * len(SIZES[4])


def test_a_part_is_a_zarr_array_that_others_open(tmp_path: Path) -> None:
    _, expected = written(tmp_path, [BLOCK + 5])
    (part,) = tmp_path.glob("s/rendering-00000/part-*")
    array = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(part)}}).result()
    np.testing.assert_array_equal(array.read().result(), expected)


def test_renderings_and_sources_whose_names_begin_alike_are_told_apart(tmp_path: Path) -> None:
    outputs = []
    for source, rendering, count in (("a", 0, 5), ("a", 1, 6), ("a", 10, 7), ("a.b", 0, 8)):
        outputs += write_part(str(tmp_path), rendering_folder(source, rendering), 0, np.arange(count), 400)
    manifest = Manifest("tokenize", {}, {}, tuple(outputs), {})
    for source, rendering, count in (("a", 0, 5), ("a", 1, 6), ("a", 10, 7), ("a.b", 0, 8)):
        assert len(FlatTokens(str(tmp_path), manifest, source, rendering, 400)) == count
    for source, rendering in (("a", 2), ("b", 0)):
        with pytest.raises(UserError, match=f"no tokens of the source {source}; run `sc2jax tokenize` again"):
            FlatTokens(str(tmp_path), manifest, source, rendering, 400)


def shard_of(folder: Path) -> Path:
    (shard,) = folder.glob(f"s/rendering-00000/part-*/{SHARD}")
    return shard


@pytest.mark.parametrize("vocab_size", [1000, 2**17])
def test_a_flipped_bit_is_damage_or_changes_nothing(tmp_path: Path, vocab_size: int) -> None:
    _, expected = written(tmp_path, [2 * BLOCK + 5], vocab_size)
    shard = shard_of(tmp_path)
    content, chance = shard.read_bytes(), np.random.default_rng(3)
    index = list(range(len(content) - 60, len(content)))  # every byte of the shard's index
    found = []
    for place in [*chance.integers(0, len(content), 200).tolist(), *index]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(chance.integers(8))
        shard.write_bytes(flipped)
        tokens = FlatTokens(str(tmp_path), read_manifest(str(tmp_path)), "s", 0, vocab_size)
        # A description that was read is kept: what lay here before must not be.
        flat_tokens._context.cache_clear()
        try:
            np.testing.assert_array_equal(read(tokens, 0, len(tokens)), expected)
        except DamagedTokensError as error:
            assert str(shard) in str(error)
            assert "delete it and run `sc2jax tokenize` again" in str(error)
            found.append(place)
    assert len(found) > 250  # what fills the last block up is read by nobody


def put_a_folder_there(shard: Path) -> None:
    shard.unlink()
    shard.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "its folder missing": lambda shard: shutil.rmtree(shard.parent.parent),
    "a folder": put_a_folder_there,
    "empty": lambda shard: shard.write_bytes(b""),
    "halved": lambda shard: shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2]),
    "a byte short": lambda shard: shard.write_bytes(shard.read_bytes()[:-1]),
    "shorter than its index": lambda shard: shard.write_bytes(shard.read_bytes()[:10]),
    "a byte longer": lambda shard: shard.write_bytes(shard.read_bytes() + b"\0"),
    "twice": lambda shard: shard.write_bytes(shard.read_bytes() * 2 + b"\0"),
    "zeros": lambda shard: shard.write_bytes(bytes(shard.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_damage_is_named(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_tokens.time, "sleep", lambda _: pytest.fail("no repetition mends it"))
    tokens, _ = written(tmp_path, [2 * BLOCK + 5])
    shard = shard_of(tmp_path)
    DAMAGES[damage](shard)
    with pytest.raises(DamagedTokensError, match=r"the file is damaged or missing .*--config\.feed\.damaged=skip"):
        read(tokens, 5, 10)
    if damage != "zeros":
        with pytest.raises(UserError, match=r"is (missing|damaged)"):
            refuse_missing(str(tmp_path), read_manifest(str(tmp_path)).outputs)


class Failing:
    """A store whose reads fail so often in all, each when its result is asked for."""

    def __init__(self, store: ts.TensorStore, failures: int, message: str) -> None:
        self.store, self.failures, self.message = store, failures, message

    def __getitem__(self, place: slice) -> "Failing":
        self.place = place
        return self

    def read(self, **_: Any) -> "Failing":
        return self

    def result(self) -> np.ndarray:
        self.failures -= 1
        if self.failures >= 0:
            raise ValueError(self.message)
        return self.store[self.place].read().result()


@pytest.mark.parametrize("failures", [0, 1, 3, 4, 100])
@pytest.mark.parametrize(
    "message",
    [
        "UNAVAILABLE: the store is busy",
        "PERMISSION_DENIED: not yours",
        "DEADLINE_EXCEEDED: NOT_FOUND and DATA_LOSS are mentioned only",
        "FAILED_PRECONDITION: another one",
    ],
)
def test_a_read_that_fails_is_tried_again_and_is_then_no_damage(
    tmp_path: Path, failures: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(flat_tokens.time, "sleep", waited.append)
    tokens, expected = written(tmp_path, [100, 50])
    failing = Failing(tokens._open(0), failures, message)
    monkeypatch.setattr(tokens, "_open", lambda part, sound=tokens._open: sound(part) if part else failing)
    if failures <= 3:
        np.testing.assert_array_equal(read(tokens, 90, 15), expected[90:105])
        assert waited == [0.5, 2.0, 8.0][:failures]
    else:
        said = rf"part-00000-.*tokens 90 to 100 cannot be read \({message}\), tried 4 times; when the disk"
        with pytest.raises(UserError, match=said) as caught:
            read(tokens, 90, 15)
        assert not isinstance(caught.value, DamagedTokensError)
        assert waited == [0.5, 2.0, 8.0]


@pytest.mark.parametrize("name", ["a b", "100%", "a#b", "a?b=c", "%20", "ü", "a&b;c", "x'y\"z"])
@pytest.mark.parametrize("url", [False, True])
def test_names_of_folders_mean_what_they_say(tmp_path: Path, name: str, url: bool) -> None:
    folder = tmp_path / name / "tokens"
    tokens, expected = written(folder, [100, 50])
    if url:
        tokens = FlatTokens(f"file://{folder}", read_manifest(str(folder)), "s", 0, 1000)
    np.testing.assert_array_equal(read(tokens, 0, 150), expected)


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, expected = written(tmp_path / "here", [100])
    tokens = FlatTokens("here", read_manifest("here"), "s", 0, 1000)
    np.testing.assert_array_equal(read(tokens, 0, 100), expected)


def test_folders_of_object_stores_and_of_nothing_that_tensorstore_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    written(tmp_path, [100])
    manifest = read_manifest(str(tmp_path))
    for url, driver in (("gs", "gcs"), ("gcs", "gcs"), ("s3", "s3"), ("s3a", "s3")):
        found = flat_tokens._kvstore(f"{url}://bucket/a/b")
        assert found == {"driver": driver, "bucket": "bucket", "path": "a/b"}
        assert len(FlatTokens(f"{url}://bucket/a/b", manifest, "s", 0, 1000)) == 100
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert flat_tokens._kvstore("s3://bucket/a")["endpoint"] == "http://127.0.0.1:9000"
    assert "endpoint" not in flat_tokens._kvstore("gs://bucket/a")
    with pytest.raises(UserError, match=r"tokens cannot be read from az://; use a local folder, gs:// or s3://"):
        FlatTokens("az://container/a", manifest, "s", 0, 1000)


def test_only_what_is_read_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, _ = written(tmp_path, [100] * 6)
    opened = []
    monkeypatch.setattr(tokens, "_open", lambda part, sound=tokens._open: opened.append(part) or sound(part))
    read(tokens, 250, 100)
    assert opened == [2, 3]
