"""What a run reads of its corpus: how much of it at a cap, how often the same, and how alike neighbouring batches are.

    python perf/feed_coverage.py --run=RUN

RUN is one of `sc2jax quickstart`, whose corpus, tokenizer and tokens are read. Rows are short ones, 8 of 256 tokens a
step, without infilling, so that a text that recurs is recognised. Beside each figure stands that of a whole shuffle:
the same windows in an order that numpy drew.
"""

import argparse
import dataclasses
import itertools
import json

import numpy as np

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.documents import DocumentWriter, rendering_key
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.rows import Place, Rows
from sc2jax.feed.sources import FeedInputs, open_sources
from sc2jax.records.manifest import read_manifest
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.tokenizer import load_tokenizer

BATCH, STEPS, ROW = 8, 420, 256
LAGS = (1, 2, 10, 100)


def main() -> None:
    """Prints the figures, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the folder of a quickstart")
    run = parser.parse_args().run
    model = next(output.path for output in read_manifest(f"{run}/tokenizer").outputs if output.path.endswith(".model"))
    tokenizer = load_tokenizer(f"{run}/tokenizer/{model}")
    inputs = FeedInputs(
        f"{run}/corpus", tokenizer, FeedConfig(), ROW, FormatConfig(), FimConfig(level="off"), 0, f"{run}/tokenize"
    )
    report_caps(dataclasses.replace(inputs, row_length=4096))
    rows = Rows(inputs)
    places = rows.places(0, BATCH * STEPS)
    windows = rows.sources[0].windows[0]
    print(
        f"rows of {ROW}: {windows:,} windows an epoch; the run's {len(places):,} rows are {len(places) / windows:.3f}"
    )
    shuffled = np.random.default_rng(0).permutation(windows)[: len(places)]
    whole = [place._replace(start=int(window) * ROW) for place, window in zip(places, shuffled, strict=True)]
    repositories = repositories_of_tokens(inputs)
    for title, chosen in (("the feed", places), ("a whole shuffle", whole)):
        report_order(title, rows, chosen, repositories)


def report_caps(inputs: FeedInputs) -> None:
    """Prints how much of the tokens a capped run reads."""
    for cap in (1, 5):
        rows = Rows(inputs, most_epochs=cap)
        source = rows.sources[0]
        tokens = len(source.renderings[0])
        shares = []
        for batch in (4, 8, 16, 32):
            steps = rows.schedule.rows // batch
            counted = steps * batch * inputs.row_length / (cap * tokens)
            shares.append(f"{counted:.2%} at {batch}")
        print(f"cap of {cap}, {tokens:,} tokens, rows of 4096: read by whole batches of rows {', '.join(shares)}")


def repositories_of_tokens(inputs: FeedInputs) -> np.ndarray:
    """The number of the repository that each token of the first rendering is of."""
    numbers: dict[str, int] = {}
    (source,) = open_sources(inputs)
    writer, found = DocumentWriter(source.format, inputs.formats, inputs.fim), []
    for index in range(len(source.units)):
        key = rendering_key(inputs.seed, source.name, 0, index)
        unit = source.units[index]
        for document in keyed_generator("documents", *key).permutation(len(unit)).tolist():
            rows = unit[document]
            length = len(inputs.tokenizer.encode_array(writer.pieces(rows, *key, document)))
            number = numbers.setdefault(rows[0]["repository"], len(numbers))
            found.append(np.full(length, number, np.int16))
    return np.concatenate(found)


def report_order(title: str, rows: Rows, places: list[Place], repositories: np.ndarray) -> None:
    """Prints what a run of rows in this order sees."""
    tokens = rows.read(places).features["tokens"]
    of_row = [set(repositories[place.start : place.start + ROW].tolist()) for place in places]
    seen: set[bytes] = set()
    again = total = 0
    for row in tokens:
        grams = {row[at : at + 32].tobytes() for at in range(ROW - 31)}
        again += len(grams & seen)
        total += len(grams)
        seen |= grams
    of_batch = [set().union(*of_row[at : at + BATCH]) for at in range(0, len(of_row), BATCH)]
    alike = {
        lag: np.mean([len(a & b) / len(a | b) for a, b in zip(of_batch, of_batch[lag:], strict=False)]) for lag in LAGS
    }
    print(
        json.dumps(
            {
                "order": title,
                "repositories seen": f"{len(set(itertools.chain(*of_row)))} of {int(repositories.max()) + 1}",
                "32-grams seen before": round(again / total, 4),
                "likeness of batches by distance": {lag: round(float(value), 4) for lag, value in alike.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
