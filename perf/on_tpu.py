"""Measures a config's step on the TPU that this runs on, to be compared with what `sc2jax plan` says of it.

    python perf/on_tpu.py --out=measured.json --config=starcoder2:3b,stage=base --config.model.num_layers=4
    sc2jax plan --measured measured.json --config.plan.slice=v5e-8 --config=starcoder2:3b,stage=base \
        --config.model.num_layers=4

On several hosts it is started on each, as `sc2jax train` is, and process 0 writes the file. It needs no corpus: rows
are random tokens, parameters random numbers. With --corpus=WORKDIR, a folder in which `sc2jax tokenize` was run with
the same config, it also reads the rows from there and tells how long the step waits for them. Measured are the step
(each of --steps, after three that are not counted), the most memory that a device has held, and the attention kernels'
results and gradients against the plain reference. `measured.json` holds nothing of the machine but the names and
numbers of devices and the versions of packages; please send it.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import sc2jax
from sc2jax.cli import parse
from sc2jax.config import Settings, to_settings
from sc2jax.feed.batches import open_batches
from sc2jax.kernels.reference import reference_attention
from sc2jax.kernels.window_attention import window_attention
from sc2jax.parallel.hosts import joined
from sc2jax.parallel.memory import peak_device_bytes
from sc2jax.parallel.mesh import create_mesh
from sc2jax.plan.compilation import PlannedStep
from sc2jax.plan.measured import Measured, step_digest
from sc2jax.runs.inputs import feed_inputs
from sc2jax.runs.run import open_run
from sc2jax.training.global_batch import abstract_batch, local_rows, place_batch
from sc2jax.training.objective import language_model, untrained_table
from sc2jax.training.schedule import fitted_training
from sc2jax.training.step import batch_sharding, compile_train_step, init_state
from sc2jax.verbs.plan import planned_step

UNCOUNTED = 3
"""Steps before those that are counted: the compilation, and whatever is done once."""
ROWS, HEADS, KV_HEADS, HEAD_DIM = 1, 8, 2, 128
"""Of what the kernels are compared on."""


def kernel_errors(length: int, window: int) -> dict[str, float]:
    """The largest difference of results and gradients to the reference in float32, by their largest value."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(ROWS, length, heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)]
    q, k, v, cotangent = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    segments = jnp.zeros((ROWS, length), jnp.int32)

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return reference_attention(q, k, v, segment_ids_BS=segments, window=window)

    def kernel(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        narrow_q, narrow_k, narrow_v = (x.astype(jnp.bfloat16) for x in (q, k, v))
        return window_attention(narrow_q, narrow_k, narrow_v, segments, window).astype(jnp.float32)

    found = {}
    (expected, pull), (out, pull_kernel) = jax.vjp(plain, q, k, v), jax.vjp(kernel, q, k, v)
    pairs = {"forward": (out, expected)}
    pairs |= {
        f"gradient of {name}": pair for name, *pair in zip("qkv", pull_kernel(cotangent), pull(cotangent), strict=True)
    }
    for name, (found_array, exact) in pairs.items():
        error = float(jnp.abs(found_array - exact).max() / jnp.abs(exact).max())
        if not np.isfinite(error):
            raise SystemExit(f"window attention, {name}, is {error} from the reference: the kernel is broken here")
        found[f"window attention, {name}"] = error
    return found


def random_batches(mesh: Mesh, batch_size: int, row_length: int, vocab_size: int) -> Iterator[Mapping[str, jax.Array]]:
    """Rows of random tokens, each one segment, placed on the mesh; the same batch again and again."""
    rows, generator = local_rows(mesh, batch_size, row_length), np.random.default_rng(0)
    shape = (len(rows), row_length)
    local = {name: np.zeros(shape, array.dtype) for name, array in abstract_batch(mesh, batch_size, row_length).items()}
    for name in ("tokens", "targets"):
        local[name] = generator.integers(0, vocab_size, shape, np.int32)
    local["positions"] += np.arange(row_length, dtype=np.int32)
    local["weights"] += 1
    batch = place_batch(local, batch_sharding(mesh, batch_size, row_length), rows, batch_size)
    while True:
        yield batch


def stored_batches(settings: Settings, workdir: str, mesh: Mesh, batch_size: int, row_length: int) -> Any:
    """The feed of a run, whose rows are placed as they come."""
    placement, rows = batch_sharding(mesh, batch_size, row_length), local_rows(mesh, batch_size, row_length)
    feed = open_batches(feed_inputs(open_run(settings, workdir)), batch_size, rows=rows)
    return feed, (place_batch(batch, placement, rows, batch_size) for batch in feed)


def measured(step: PlannedStep, settings: Settings, steps: int, corpus: str) -> Measured:
    """Runs the step on all devices."""
    mesh, row_length = create_mesh(step.mesh), step.model.context_length
    training = fitted_training(step.training, row_length)
    objective = language_model(step.model, step.adapters, training, step.seed, mesh)
    frozen = untrained_table(step.model, step.adapters)
    if frozen:
        raise SystemExit("adapters need a model to be added to; measure a config that trains all parameters")
    state: Any = init_state(objective.table, training, mesh, step.seed, scaled=objective.scaled)
    run = compile_train_step(
        objective.table, objective.loss, training, mesh,
        row_length=row_length, seed=step.seed, scaled=objective.scaled,
    )  # fmt: skip
    feed, batches = None, random_batches(mesh, training.batch_size, row_length, step.model.vocab_size)
    if corpus:
        feed, batches = stored_batches(settings, corpus, mesh, training.batch_size, row_length)
    seconds, waited, loss = [], 0.0, 0.0
    for number in range(UNCOUNTED + steps):
        before, began = (feed.wait_seconds if feed else 0.0), time.perf_counter()
        state, metrics = run(state, next(batches))
        loss = float(jax.block_until_ready((metrics, state.params))[0]["loss"])
        if number >= UNCOUNTED:
            seconds.append(time.perf_counter() - began)
            waited += (feed.wait_seconds - before) if feed else 0.0
    if not np.isfinite(loss):
        raise SystemExit(f"the loss became {loss}: what was measured is no training")
    device = mesh.devices.flat[0]
    return Measured(
        step=step_digest(step),
        device_kind=device.device_kind,
        devices=mesh.size,
        step_seconds=seconds,
        peak_bytes=peak_device_bytes(),
        feed_wait=waited / sum(seconds) if feed else -1.0,
        kernels=kernel_errors(min(row_length, 4096), min(step.model.window or row_length, 1024)),
        versions={"sc2jax": sc2jax.__version__, "jax": jax.__version__} | _libtpu(),
    )


def _libtpu() -> dict[str, str]:
    try:
        return {"libtpu": importlib.metadata.version("libtpu")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("measured.json"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--corpus", default="", help="a folder in which `sc2jax tokenize` was run")
    options, rest = parser.parse_known_args()
    _, config, _ = parse("train", rest)
    settings = to_settings(config)
    with joined(settings.hosts) as hosts:
        found = measured(planned_step(settings), settings, options.steps, options.corpus)
        if hosts.is_first:
            options.out.write_text(json.dumps(dataclasses.asdict(found), indent=1))
            print(f"{found.seconds * 1000:.1f} ms a step on {found.devices} x {found.device_kind} -> {options.out}")


if __name__ == "__main__":
    main()
