"""Tokens are those of the documents, one after the other, whoever encodes them and however often it is interrupted."""

import contextlib
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorstore as ts
from feed_corpora import Lay, Repositories, laid, make_repositories, one_after_the_other, split_units, write_corpus

from sc2jax.errors import UserError
from sc2jax.feed import tokenizing
from sc2jax.feed.config import TokenizeConfig
from sc2jax.feed.documents import DocumentWriter
from sc2jax.feed.flat_tokens import FlatTokens
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.sources import FeedInputs, open_sources, tokens_config
from sc2jax.feed.tokenizing import lay_tokens
from sc2jax.records.manifest import Output, read_manifest
from sc2jax.text import tokenizer as text_tokenizer
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer


def tokens_of(inputs: FeedInputs, rendering: int = 0, source: str = "source_code") -> np.ndarray:
    """All tokens that lie in the inputs' folder."""
    manifest = read_manifest(inputs.tokens)
    flat = FlatTokens(inputs.tokens, manifest, source, rendering, inputs.tokenizer.vocab_size)
    with ts.Batch() as batch:
        window = flat.request(0, len(flat), batch)
    return window.result()


def documents_of(tokens: np.ndarray) -> list[tuple[int, ...]]:
    ends = np.flatnonzero(tokens == Special.END_OF_TEXT) + 1
    assert ends[-1] == len(tokens)
    return [tuple(part.tolist()) for part in np.split(tokens, ends)[:-1]]


def files(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("level", ["context", "document", "off"])
def test_tokens_are_those_of_every_document_once(lay: Lay, level: str) -> None:
    """Each as the tokenizer gives it by itself; row groups in their order, the documents of each in one of chance."""
    inputs = lay(renderings=2, fim=FimConfig(level=level))
    (source,) = open_sources(inputs)
    writer = DocumentWriter("repository", inputs.formats, inputs.fim)
    for rendering in range(2):
        expected, in_file_order = [], []
        for index in range(len(source.units)):
            unit, key = source.units[index], (inputs.seed, "source_code", rendering, index)
            written = [tuple(inputs.tokenizer.encode(writer.pieces(unit[n], *key, n))) for n in range(len(unit))]
            order = keyed_generator("documents", *key).permutation(len(unit))
            expected += [written[document] for document in order]
            in_file_order += written
        found = documents_of(tokens_of(inputs, rendering))
        assert found == expected != in_file_order
    assert tokens_of(inputs, 0).tolist() != tokens_of(inputs, 1).tolist()
    statistics = read_manifest(inputs.tokens).statistics["sources"]["source_code"]
    assert statistics == {
        "tokens": [len(tokens_of(inputs, 0)), len(tokens_of(inputs, 1))], "left_out": {}, "damaged_units": 0
    }  # fmt: skip


def test_documents_are_those_of_the_corpus(lay: Lay, repositories: Repositories) -> None:
    """A rendering draws the order of the files, and metadata in half of the cases."""
    inputs = lay(renderings=8, fim=FimConfig(level="off"))
    with_metadata, orders = 0, Counter()
    for rendering in range(8):
        names = Counter()
        for ids in documents_of(tokens_of(inputs, rendering)):
            head, *parts = inputs.tokenizer.decode(ids).removesuffix("<|endoftext|>").split("<file_sep>")
            if head:
                with_metadata += 1
                name = head.removeprefix("<repo_name>")
                assert dict(part.split("\n", 1) for part in parts) == dict(repositories[name])
                orders[name, tuple(parts)] += 1
            else:
                found = [name for name, of in repositories.items() if sorted(text for _, text in of) == sorted(parts)]
                name = found[0] if len(found) == 1 else f"one of {sorted(found)}"
            names[name] += 1
        assert sum(names.values()) == len(repositories)
    assert 0.35 < with_metadata / (8 * len(repositories)) < 0.65
    assert len(orders) > 1.5 * len({name for name, _ in orders})


def test_parts_are_whole_row_groups_of_about_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def cuts(*sizes: float) -> list[int]:
        class Sized:
            pass

        Sized.sizes = list(sizes)  # pyright: ignore[reportAttributeAccessIssue]
        found = tokenizing._cuts(Sized())  # pyright: ignore[reportArgumentType]
        assert (found[0], found[-1]) == (0, len(sizes))
        assert all(start < stop for start, stop in itertools.pairwise(found))
        return found

    monkeypatch.setattr(tokenizing, "_PARTS", 4)
    assert cuts(1, 1, 1, 1, 1, 1, 1, 1) == [0, 2, 4, 6, 8]
    assert cuts(1, 9, 1, 1) == [0, 1, 2, 4]
    assert cuts(5) == [0, 1]
    monkeypatch.setattr(tokenizing, "_PART_BYTES", 3)
    assert cuts(*[1] * 30) == list(range(0, 31, 3))
    assert cuts(4, 4, 1, 1, 2, 1) == [0, 1, 2, 4, 6]
    assert cuts(2, 2, 2) == [0, 1, 2, 3]
    assert cuts(*[0.5] * 7) == [0, 1, 2, 3, 4, 5, 6, 7]


@contextlib.contextmanager
def in_threads(
    rows: pa.Table, cuts: Sequence[int], function: Callable[[pa.Table], pa.Table], schema: pa.Schema
) -> Iterator[Iterator[pa.Table]]:
    with one_after_the_other(rows, cuts, lambda row: row, rows.schema) as stretches, ThreadPoolExecutor(4) as pool:
        done = list(pool.map(function, list(stretches)[::-1]))
    yield iter([table.cast(schema) for table in done[::-1]])


def lay_with(inputs: FeedInputs, folder: Path, spread: Any, renderings: int = 2) -> tuple[list[Output], dict[str, Any]]:
    config = TokenizeConfig(renderings=renderings)
    return lay_tokens(str(folder), f"{folder}.done", inputs, open_sources(inputs), config, spread)


def test_tokens_are_equal_whatever_the_order_of_the_work(untokenized: FeedInputs, tmp_path: Path) -> None:
    from sc2jax.corpus.engine import map_units

    expected = lay_with(untokenized, tmp_path / "loop", one_after_the_other)
    assert len(expected[0]) == 2 * 2 * 8  # of 2 renderings 8 parts of 2 files
    for name, spread in (("threads", in_threads), ("engine", map_units)):
        assert lay_with(untokenized, tmp_path / name, spread) == expected
        assert files(str(tmp_path / name)) == files(str(tmp_path / "loop"))


@pytest.mark.slow
def test_tokens_are_equal_if_made_in_processes(untokenized: FeedInputs, tmp_path: Path) -> None:
    from sc2jax.corpus.engine import map_units

    expected = lay_with(untokenized, tmp_path / "loop", one_after_the_other)
    assert lay_with(untokenized, tmp_path / "processes", partial(map_units, in_processes=True)) == expected
    assert files(str(tmp_path / "processes")) == files(str(tmp_path / "loop"))


class Counting:
    """A plain loop that counts what it does and stops in the middle."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.stop_after, self.done = stop_after, 0

    @contextlib.contextmanager
    def __call__(
        self, rows: pa.Table, cuts: Sequence[int], function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> Iterator[Iterator[pa.Table]]:
        def counted(row: pa.Table) -> pa.Table:
            if self.done == self.stop_after:
                raise KeyboardInterrupt
            self.done += 1
            return function(row)

        with one_after_the_other(rows, cuts, counted, schema) as results:
            yield results


@pytest.mark.parametrize("stop_after", [0, 1, 7, 15])
def test_what_an_interrupted_run_had_done_is_not_done_again(
    untokenized: FeedInputs, tmp_path: Path, stop_after: int
) -> None:
    expected = lay_with(untokenized, tmp_path / "whole", one_after_the_other)
    with pytest.raises(KeyboardInterrupt):
        lay_with(untokenized, tmp_path / "halves", Counting(stop_after))
    rest = Counting()
    assert lay_with(untokenized, tmp_path / "halves", rest) == expected
    assert rest.done == 16 - stop_after
    assert files(str(tmp_path / "halves")) == files(str(tmp_path / "whole"))
    nothing = Counting()
    assert lay_with(untokenized, tmp_path / "halves", nothing) == expected
    assert nothing.done == 0


def test_what_others_had_done_while_one_failed_is_not_done_again(untokenized: FeedInputs, tmp_path: Path) -> None:
    """Results come in their order: of what was done after the one that failed the work has seen none."""

    @contextlib.contextmanager
    def failing(
        rows: pa.Table, cuts: Sequence[int], function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> Iterator[Iterator[pa.Table]]:
        with one_after_the_other(rows.slice(1), cuts[:-1], function, schema) as results:
            list(results)
        raise MemoryError
        yield

    expected = lay_with(untokenized, tmp_path / "whole", one_after_the_other)
    with pytest.raises(MemoryError):
        lay_with(untokenized, tmp_path / "tokens", failing)
    rest = Counting()
    assert lay_with(untokenized, tmp_path / "tokens", rest) == expected
    assert rest.done == 1


def test_a_note_whose_files_are_gone_or_of_another_size_is_done_again(untokenized: FeedInputs, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    expected = lay_with(untokenized, folder, one_after_the_other)
    before = files(str(folder))
    shards = sorted(folder.rglob("c/0"))
    shards[2].unlink()
    shards[5].write_bytes(shards[5].read_bytes()[:-1])
    (shards[9].parent.parent / "zarr.json").write_bytes(b"")
    again = Counting()
    assert lay_with(untokenized, folder, again) == expected
    assert again.done == 3
    assert files(str(folder)) == before
    # Of another number of renderings what is the same is there already.
    more = Counting()
    lay_with(untokenized, folder, more, renderings=3)
    assert more.done == 8


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"outputs": 3}'])
def test_a_damaged_note_is_named(untokenized: FeedInputs, tmp_path: Path, content: bytes) -> None:
    lay_with(untokenized, tmp_path / "tokens", one_after_the_other)
    note = sorted(Path(f"{tmp_path}/tokens.done").iterdir())[3]
    note.write_bytes(content)
    with pytest.raises(UserError, match=rf"{note} .*delete {tmp_path}/tokens\.done and run `sc2jax tokenize` again"):
        lay_with(untokenized, tmp_path / "tokens", one_after_the_other)


def test_a_long_file_is_encoded_in_stretches_to_the_same_tokens(
    untokenized: FeedInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus", [split_units(make_repositories(6, longest=3000), 2)])
    inputs = dataclasses.replace(untokenized, corpus=corpus)
    expected = tokens_of(laid(inputs, str(tmp_path / "whole")))
    stretches = Counter()
    encode = Tokenizer.encode_text

    def counted(self: Tokenizer, text: str) -> list[int]:
        stretches[len(text) < 1000] += 1
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode_text", counted)
    monkeypatch.setattr(text_tokenizer, "_STRETCH", 500)
    np.testing.assert_array_equal(tokens_of(laid(inputs, str(tmp_path / "stretches"))), expected)
    assert stretches[True] > 50
    assert not stretches[False]


def damage(part: Path, row_group: int) -> None:
    """Makes the texts of a row group unreadable."""
    column = pq.read_metadata(part).row_group(row_group).column(2)
    assert column.path_in_schema == "content"
    content, at = bytearray(part.read_bytes()), column.dictionary_page_offset + 100
    content[at : at + 20] = bytes(byte ^ 0xFF for byte in content[at : at + 20])
    part.write_bytes(content)


def skipping(inputs: FeedInputs) -> FeedInputs:
    return dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip"))


def test_a_damaged_row_group_stops_the_work_or_is_left_out_and_counted(
    untokenized: FeedInputs, repositories: Repositories, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units = split_units(repositories, 4)
    corpus = write_corpus(tmp_path / "corpus", [units[:2], units[2:4], units[4:]])
    inputs = dataclasses.replace(untokenized, corpus=corpus)
    whole = laid(inputs, str(tmp_path / "whole"), renderings=2)
    first, second, _ = sorted((tmp_path / "corpus/train").glob("*.parquet"))
    damage(first, 1)
    with pytest.raises(UserError, match=rf"^{first} is damaged") as caught:
        laid(inputs, str(tmp_path / "stopped"))
    assert "\n" not in str(caught.value)
    second.unlink()
    with pytest.raises(UserError, match=rf"^{second} is missing"):
        laid(inputs, str(tmp_path / "stopped"))
    found = laid(skipping(inputs), str(tmp_path / "tokens"), renderings=2)
    statistics = read_manifest(found.tokens).statistics["sources"]["source_code"]
    assert (statistics["damaged_units"], statistics["left_out"]) == (3, {})
    assert f"{second} is missing" in caplog.text
    assert f"{first} is damaged" in caplog.text
    for rendering in range(2):
        kept = documents_of(tokens_of(found, rendering))
        assert statistics["tokens"][rendering] == sum(map(len, kept))
        # The rest is as in tokens of which nothing was left out, a document for a document.
        before = documents_of(tokens_of(whole, rendering))
        assert kept == before[:4] + before[16:]
    assert tokens_config(skipping(inputs), []) != tokens_config(inputs, [])


def test_a_source_of_which_nothing_is_left_is_named(
    untokenized: FeedInputs, repositories: Repositories, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", [split_units(repositories, 12)])
    (part,) = (tmp_path / "corpus/train").glob("*.parquet")
    damage(part, 0)
    damage(part, 1)
    inputs = dataclasses.replace(untokenized, corpus=corpus)
    with pytest.raises(UserError, match=r"nothing of the source source_code can be read: all of its 2 row groups"):
        laid(skipping(inputs), str(tmp_path / "tokens"))


def test_an_empty_corpus_is_named(untokenized: FeedInputs, tmp_path: Path) -> None:
    inputs = dataclasses.replace(untokenized, corpus=write_corpus(tmp_path / "corpus", []))
    with pytest.raises(UserError, match="has no files in its split 'train'; curate more source code"):
        laid(inputs, str(tmp_path / "tokens"))
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        laid(dataclasses.replace(untokenized, corpus=str(tmp_path / "none")), str(tmp_path / "tokens"))


def test_the_work_goes_to_other_processes(untokenized: FeedInputs, tokenizer_path: str) -> None:
    """All of it can be pickled, the tokenizers of both kinds too."""
    import pickle

    sources = open_sources(untokenized)
    work = tokenizing._EncodePart("/nowhere", "/notes", sources, [], untokenized.tokenizer, 3)
    again = pickle.loads(pickle.dumps(work))
    assert (again.folder, again.done, again.seed) == ("/nowhere", "/notes", 3)
    assert again.sources[0].units.name(7) == sources[0].units.name(7)
    assert again.tokenizer.digest == untokenized.tokenizer.digest
    assert again.tokenizer.encode_text("def é😀") == load_tokenizer(tokenizer_path).encode_text("def é😀")


def test_tokens_depend_on_what_they_are_made_of_alone(untokenized: FeedInputs) -> None:
    mixture = [dataclasses.replace(share) for share in _mixture()]
    base = tokens_config(untokenized, mixture)
    same = [
        (untokenized, [dataclasses.replace(share, share=9.0, max_epochs=2) for share in mixture]),
        (dataclasses.replace(untokenized, row_length=99), mixture),
        (dataclasses.replace(untokenized, fim=FimConfig(rate=0.1)), mixture),
        (dataclasses.replace(untokenized, fim=FimConfig(level="off")), mixture),
    ]
    assert all(tokens_config(*arguments) == base for arguments in same)
    others = [
        (dataclasses.replace(untokenized, seed=2), mixture),
        (dataclasses.replace(untokenized, formats=FormatConfig(metadata_rate=0.1)), mixture),
        (dataclasses.replace(untokenized, fim=FimConfig(level="document")), mixture),
        (dataclasses.replace(untokenized, fim=FimConfig(level="document", rate=0.1)), mixture),
        (untokenized, [dataclasses.replace(share, name="other") for share in mixture]),
        (untokenized, [dataclasses.replace(share, format="file") for share in mixture]),
        (untokenized, [dataclasses.replace(share, folder="there") for share in mixture]),
        (skipping(untokenized), mixture),
    ]
    found = [json.dumps(tokens_config(*arguments), sort_keys=True) for arguments in others]
    assert len({json.dumps(base, sort_keys=True), *found}) == 1 + len(others)


def _mixture() -> list[Any]:
    from sc2jax.feed.mixtures import read_mixture

    return read_mixture("repositories")
