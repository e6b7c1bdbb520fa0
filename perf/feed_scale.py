"""What the feed needs at the size of StarCoder2-15B's training: 4.1 trillion tokens of 913 billion, over 1,008 hosts.

    python perf/feed_scale.py

Makes the index of the tokens of the paper's mixture (Table 4's shares as sizes) without any tokens, opens it as a run
would, and plans rows of one host at the start, in the middle and before the end. Prints what is opened, held and
computed; no token is read.
"""

import resource
import time

import numpy as np

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.flat_tokens import FlatTokens, rendering_folder
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.rows import RowSource
from sc2jax.feed.schedule import Schedule
from sc2jax.records.manifest import Manifest, Output

ROW, BATCH, STEPS, HOSTS = 4096, 1008, 1_000_000, 1008
PART = 25_000_000


def main() -> None:
    """Prints one line a question."""
    mixture = read_mixture(FeedConfig(mixture="starcoder2_15b").mixture)
    started = time.perf_counter()
    outputs = []
    for share in mixture:
        tokens = int(share.share * 1e9)
        for index, start in enumerate(range(0, tokens, PART)):
            path = f"{rendering_folder(share.name, 0)}/part-{index:05d}-{0:016x}"
            size = min(PART, tokens - start)
            outputs.append(Output(f"{path}/c/0", 2 * size, "0" * 64, size))
            outputs.append(Output(f"{path}/zarr.json", 454, "0" * 64))
    manifest = Manifest("tokenize", {}, {}, tuple(outputs), {})
    print(f"index: {len(outputs) // 2:,} parts, made in {time.perf_counter() - started:.1f} s")
    started, cpu = time.perf_counter(), time.process_time()
    sources = [RowSource(share, [FlatTokens("/nowhere", manifest, share.name, 0, 49152)], ROW, 0) for share in mixture]
    schedule = Schedule([share.share for share in mixture], [source.limit for source in sources])
    print(f"opened in {time.process_time() - cpu:.2f} CPU s; resident {resident():.0f} MB")
    print(f"rows that the caps allow: {schedule.rows:,}; the run's: {STEPS * BATCH:,}")
    for step in (0, STEPS // 2, STEPS - 100):
        cpu = time.process_time()
        counted = schedule.sequence(step * BATCH, (step + 100) * BATCH)
        chosen = np.arange(0, 100 * BATCH, BATCH) + 7  # one row a step is this host's
        planned = 0
        for number, source in enumerate(sources):
            planned += len(source.places(number, counted[1][chosen][counted[0][chosen] == number]))
        per_step = (time.process_time() - cpu) / 100
        print(f"step {step:,}: {per_step * 1e3:.2f} CPU ms a step for {planned // 100} row of {BATCH}")
    rows = STEPS * BATCH / HOSTS
    touched = sum(min(len(source.renderings[0].outputs), rows * source.share.share / 913) for source in sources)
    print(f"a host reads {rows:,.0f} rows in all: 1 request each, and the index of a part at most once: {touched:,.0f}")
    print(f"shards' indices in memory, if all stayed: {913e9 / 16384 * 16 / 1e6:,.0f} MB; at most 256 MB do")


def resident() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
