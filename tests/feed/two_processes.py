"""One of two processes that hold a global batch together, each with two devices.

    python two_processes.py NUMBER PORT FOLDER

Reads what to do from FOLDER/task.json: the tokens, the tokenizer, from which step on, how many batches, and whether the
two devices of a data shard are of the same process ("data") or not ("tensor"). Writes the rows of its devices to
FOLDER/NUMBER.npz, and what it says of all that both have read to FOLDER/NUMBER.json.
"""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import Mesh

from sc2jax.feed.batches import open_batches
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.sources import FeedInputs
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.training.global_batch import local_rows, place_batch, whole_counts
from sc2jax.training.step import batch_sharding

LENGTH, BATCH = 64, 8


def main(number: int, port: str, folder: Path) -> None:
    """Takes the batches and writes what the devices hold."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number)
    task = json.loads((folder / "task.json").read_text())
    by_process = np.array(jax.devices()).reshape(2, 2)
    shape = (1, 4, 1, 1, 1) if task["mesh"] == "data" else (1, 2, 1, 1, 2)
    devices = by_process if task["mesh"] == "data" else by_process.T
    mesh = Mesh(devices.reshape(shape), ("slices", "data", "fsdp", "sequence", "tensor"))
    rows = local_rows(mesh, BATCH, LENGTH)
    tokenizer = load_tokenizer(task["tokenizer"])
    inputs = FeedInputs(
        "", tokenizer, FeedConfig(damaged="skip"), LENGTH, FormatConfig(), FimConfig(), 1, task["tokens"]
    )
    held: dict[str, np.ndarray] = {"rows": np.array(rows)}
    lost = np.zeros(1, np.int64)
    with open_batches(inputs, BATCH, rows=rows) as feed:
        feed.seek(task["step"])
        for step in range(task["batches"]):
            batch = place_batch(next(feed), batch_sharding(mesh, BATCH, LENGTH), rows, BATCH)
            lost = lost + feed.counts()
            for shard in batch["tokens"].addressable_shards:
                held[f"{step}/{shard.device.id}/{shard.index[0].start or 0}"] = np.asarray(shard.data)
        statistics = feed.statistics(task["step"] + task["batches"], whole_counts(lost), {})
    np.savez(folder / f"{number}.npz", allow_pickle=False, **held)
    (folder / f"{number}.json").write_text(json.dumps(statistics))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
