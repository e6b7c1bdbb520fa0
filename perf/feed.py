"""How fast the feed is: tokens per CPU-second, encoded and then as packed rows, beside the plain seqio chain.

    SC2JAX_TOKENIZER=/path/to/starcoder2/tokenizer.json python perf/feed.py --folder=/tmp/feed

Makes a corpus of this Python's standard library and installed packages in the folder (`--megabytes` of it), and a
SentencePiece tokenizer of 49152 tokens on it; both stay there for the next time. Then, in one process and over all of
its threads: documents encoded and laid flat with either tokenizer; rows of those tokens, of two lengths, with and
without infilling; and the stock chain of seqio on the same corpus: SentencePiece in the graph and seqio's packing,
without infilling, a document a file. Of the latter the tokens that it encoded count; how many of them its packing left
in the rows stands below. Last, how many reads a row takes of a store, and how much memory the feed holds after more and
more rows.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import os
import resource
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorstore as ts

from sc2jax.feed import flat_tokens
from sc2jax.feed.batches import open_batches
from sc2jax.feed.config import FeedConfig, TokenizeConfig
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.rows import Rows
from sc2jax.feed.sources import FeedInputs, open_sources, tokens_config, tokens_inputs
from sc2jax.feed.tokenizing import lay_tokens
from sc2jax.records.dataset import read_tables, write_part
from sc2jax.records.edits import edits_sha256
from sc2jax.records.manifest import Manifest, commit, read_manifest
from sc2jax.records.schemas import SOURCE_FILE
from sc2jax.text.config import FimConfig, FormatConfig, TokenizerConfig
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer

BATCH = 16
VOCABULARY = 49152
UNIT_BYTES = 2**20


def main() -> None:
    """Prints one line a chain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where corpus and tokenizer are made, and stay")
    parser.add_argument("--megabytes", type=int, default=30, help="size of the corpus")
    parser.add_argument("--tokens", type=int, default=4_000_000, help="tokens to measure each chain with")
    parser.add_argument("--no-stock", action="store_true", help="leave seqio's chain out")
    arguments = parser.parse_args()
    corpus = make_corpus(arguments.folder / "corpus", arguments.megabytes)
    sentencepiece = make_tokenizer(arguments.folder / f"tokenizer-{arguments.megabytes}.model", corpus)
    tokenizers = {"SentencePiece 49152": sentencepiece}
    if os.environ.get("SC2JAX_TOKENIZER"):
        tokenizers["byte-level BPE 49152"] = os.environ["SC2JAX_TOKENIZER"]
    print(f"{'tokens per CPU-second':<42}{'tokens':>12}{'CPU s':>8}{'wall s':>8}{'thousand/s':>12}", flush=True)
    for name, path in tokenizers.items():
        tokenizer = load_tokenizer(path)
        folder = arguments.folder / f"tokens-{tokenizer.digest[:8]}"
        inputs = FeedInputs(corpus, tokenizer, FeedConfig(), 4096, FormatConfig(), FimConfig(), 0, str(folder))
        shutil.rmtree(folder, ignore_errors=True)
        report(f"encoded, {name}", lambda inputs=inputs: lay(inputs))
        for length in (4096, 256):
            for level in ("off", "context"):
                changed = dataclasses.replace(inputs, row_length=length, fim=FimConfig(level=level))
                title = f"rows of {length}, {name}, infilling {level}"
                report(title, lambda changed=changed: run_feed(changed, arguments.tokens))
        report_reads(inputs)
        report_memory(dataclasses.replace(inputs, row_length=512))
    if not arguments.no_stock:
        from sc2jax.feed import tasks  # TensorFlow without its greetings, before the clock starts

        del tasks
        kept = [0]
        report("seqio as it is, SentencePiece 49152", lambda: run_stock(corpus, sentencepiece, 4096, kept))
        print(f"  of these its packing kept {kept[0]:,}")


def report(title: str, run: Callable[[], int]) -> None:
    """One line: what a chain made, in which time."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{title:<42}{tokens:>12,}{cpu:>8.2f}{wall:>8.2f}{tokens / cpu / 1e3:>12.0f}", flush=True)


def run_feed(inputs: FeedInputs, tokens: int) -> int:
    """Takes batches of the feed; those that are made ahead and not taken cost time and do not count."""
    batches = -(-tokens // (BATCH * inputs.row_length))
    with open_batches(inputs, BATCH) as feed:
        for _ in range(batches):
            next(feed)
    return batches * BATCH * inputs.row_length


def lay(inputs: FeedInputs) -> int:
    """Encodes the corpus; returns its tokens."""
    with tempfile.TemporaryDirectory() as done:
        sources = open_sources(inputs)
        outputs, statistics = lay_tokens(inputs.tokens, done, inputs, sources, TokenizeConfig(), one_by_one)
    mixture = read_mixture(inputs.config.mixture)
    config, digests = dict(tokens_config(inputs, mixture)), tokens_inputs(inputs, mixture)
    commit(inputs.tokens, Manifest("tokenize", digests, config, tuple(outputs), statistics))
    return sum(statistics["sources"]["source_code"]["tokens"])


@contextlib.contextmanager
def one_by_one(
    rows: pa.Table, cuts: Sequence[int], function: Callable[[pa.Table], pa.Table], schema: pa.Schema
) -> Iterator[Iterator[pa.Table]]:
    """Does the work of `corpus/engine.py` in this thread."""
    yield (function(rows.slice(start, 1)).cast(schema) for start in cuts)


def report_reads(inputs: FeedInputs) -> None:
    """Prints the requests that rows send to a store, one row after the other, with next to nothing in the cache."""
    flat_tokens._CACHED_BYTES = 2**20
    flat_tokens._context.cache_clear()
    rows = Rows(inputs)
    rows.read(rows.places(0, 200))
    before = store_reads()
    for place in rows.places(200, 1000):
        rows.read([place])
    asked, sent = (after - earlier for after, earlier in zip(store_reads(), before, strict=True))
    print(f"reads of 800 rows: {asked} blocks asked for, in {sent} requests")


def store_reads() -> tuple[int, int]:
    """Blocks that were read of local files so far, and the requests that this took."""
    metrics = {
        metric["name"].rpartition("/")[2]: metric["values"][0].get("value", 0)
        for metric in ts.experimental_collect_matching_metrics("/tensorstore/kvstore/file/")
        if metric["values"]
    }
    return metrics["read"], metrics["batch_read"]


def report_memory(inputs: FeedInputs) -> None:
    """Prints the resident memory after more and more rows of several epochs."""
    taken = 0
    with open_batches(inputs, BATCH) as feed:
        for batches in (20, 80, 320, 1280, 5120):
            while taken < batches:
                next(feed)
                taken += 1
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            epochs = feed.rows.statistics(taken * BATCH)["source_code"]["epochs"]
            megabytes = pages * resource.getpagesize() / 2**20
            print(f"memory after {taken * BATCH:,} rows, {epochs} epochs: {megabytes:.0f} MB", flush=True)


def run_stock(corpus: str, tokenizer: str, row_length: int, kept: list[int]) -> int:
    """Takes all rows of seqio's chain; counts every token that it encoded, and in `kept` those in its rows."""
    import seqio
    import tensorflow as tf

    vocabulary = seqio.SentencePieceVocabulary(tokenizer)
    encoded = 0

    def count(ids: np.ndarray) -> np.ndarray:
        nonlocal encoded
        encoded += len(ids)
        return ids

    def encode(text: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = tf.numpy_function(count, [vocabulary.encode_tf(text)], tf.int32)
        ids.set_shape([None])
        return {"targets": ids[:row_length]}  # as seqio's Task does before packing

    texts = tf.data.Dataset.from_generator(
        lambda: read_texts(corpus),
        output_signature=tf.TensorSpec((), tf.string),  # pyright: ignore[reportArgumentType]
    )
    converter = seqio.LMFeatureConverter(pack=True)
    converter.TASK_FEATURES = {"targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)}
    for batch in converter(texts.map(encode), {"targets": row_length}).batch(BATCH).as_numpy_iterator():
        kept[0] += int((batch["decoder_segment_ids"] > 0).sum())
    return encoded


def read_texts(corpus: str) -> Iterator[str]:
    """The texts of a corpus's files."""
    for table in read_tables(corpus, read_manifest(corpus), "train", ["content"]):
        yield from table.column("content").to_pylist()


def make_corpus(folder: Path, megabytes: int) -> str:
    """Source files of this Python, a repository for each package, unless they are there already."""
    if (folder / "manifest.json").exists():
        return str(folder)
    root = Path(sysconfig.get_paths()["purelib"])
    files: dict[str, list[tuple[str, str]]] = {}
    room = megabytes * 10**6
    for path in sorted(
        root.rglob("*.py"), key=lambda path: hashlib.sha256(str(path.relative_to(root)).encode()).digest()
    ):
        text = path.read_bytes().decode(errors="replace")
        if not 100 < len(text) < 10**6:
            continue
        if room < 0:
            break
        room -= len(text.encode())
        name = path.relative_to(root).parts[0]
        files.setdefault(name, []).append((path.relative_to(root).as_posix(), text))
    tables, size = [[]], 0
    for repository, members in sorted(files.items()):
        if size > UNIT_BYTES:
            tables, size = [*tables, []], 0
        for path, text in sorted(members):
            tables[-1].append(record(repository, path, text))
            size += len(text)
    row_groups = (pa.Table.from_pylist(rows, SOURCE_FILE) for rows in tables)
    output = write_part(str(folder), "train", 0, row_groups, SOURCE_FILE)
    commit(str(folder), Manifest("perf", {}, {}, (output,), {}))
    return str(folder)


def record(repository: str, path: str, text: str) -> dict[str, object]:
    """A source file whose provenance nobody asks for."""
    return {
        "repository": repository,
        "path": path,
        "content": text,
        "swhid": "",
        "revision": "",
        "source_bytes": len(text.encode()),
        "encoding": "utf-8",
        "language": "Python",
        "licenses": [],
        "license_type": "no_license",
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "edits": [],
        "edits_sha256": edits_sha256([]),
    }


def make_tokenizer(path: Path, corpus: str) -> str:
    """A SentencePiece tokenizer of the corpus, unless it is there already."""
    if not path.exists():
        path.write_bytes(train_tokenizer(read_texts(corpus), TokenizerConfig(vocab_size=VOCABULARY), seed=0))
    return str(path)


if __name__ == "__main__":
    main()
