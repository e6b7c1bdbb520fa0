"""Trains the model to its last step; run again, it goes on from the newest checkpoint.

Reads `corpus/` and `tokenizer/`; writes `train/`: checkpoints, metrics.jsonl, timing.jsonl.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.config import CONFIG_FILE, Settings, differing_keys
from sc2jax.errors import UserError
from sc2jax.feed.batches import open_batches
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import count_params, parameter_table
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import Manifest, canonical_json, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import feed_inputs, input_digests, open_tokenizer, read_json
from sc2jax.runs.models import PARAMETERS, fitted_model
from sc2jax.runs.run import Run, open_run, say
from sc2jax.training.loop import local_rows, train
from sc2jax.training.metrics import METRICS, read_metrics

VERSION = 4
SECTIONS = ("model", "training", "feed", "format", "fim", "seed")
"""What a training run depends on, beside its inputs."""


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's model."""
    this = open_run(settings, workdir)
    folder = this.folder("train")
    if storage.is_url(folder):
        raise UserError(f"{folder}: train writes its log to a local disk; give a local --workdir")
    inputs = input_digests(this, "train")
    model = fitted_model(settings.model, open_tokenizer(this))
    this = dataclasses.replace(this, settings=dataclasses.replace(settings, model=model))
    sections = {name: getattr(this.settings, name) for name in SECTIONS} | {"mesh": settings.mesh}

    def write(folder: str) -> Written:
        refuse_other_run(folder, stage.config)
        return _train(this, folder, stage.key)

    def intact(manifest: Manifest) -> bool:
        return Path(folder, CHECKPOINTS, str(manifest.statistics["steps"])).is_dir()

    stage = Stage("train", VERSION, sections, inputs, write, intact)
    statistics = this.do(stage).statistics
    say(
        f"{statistics['parameters']:,} parameters, {statistics['steps']:,} steps, {statistics['tokens']:,} tokens, "
        f"loss {statistics['loss']:.3f}",
        folder,
    )


def _train(run: Run, folder: str, key: str) -> Written:
    settings = run.settings
    mesh = create_mesh(settings.mesh)
    size, row_length = settings.training.batch_size, settings.model.context_length
    table = parameter_table(settings.model)
    loss = next_token_loss(settings.model, settings.training.loss_chunk, mesh)
    run.write_config(folder, ["corpus", "tokenizer", *(["tokenize"] if settings.feed.tokenized else [])])
    feed = open_batches(feed_inputs(run), size, rows=local_rows(mesh, size, row_length))
    try:
        result = train(
            feed,
            table,
            loss,
            settings.training,
            mesh,
            row_length=row_length,
            folder=folder,
            key=key,
            seed=settings.seed,
        )
    finally:
        feed.close()
    log = Path(folder, METRICS).read_bytes()
    outputs = [
        write_output(folder, METRICS, log),
        write_output(folder, PARAMETERS, canonical_json(result.fingerprints, indent=1).encode()),
    ]
    last = read_metrics(folder)[-1]
    statistics = {
        "parameters": count_params(table),
        "steps": result.steps,
        "tokens": last["tokens"],
        "loss": last["loss"],
    }
    return outputs, statistics


def refuse_other_run(folder: str, config: Mapping[str, Any]) -> None:
    """Refuses to go on from checkpoints that were made with another model, training, feed or seed.

    Raises:
        UserError: naming the keys that differ.
    """
    path = Path(folder, CONFIG_FILE)
    if not path.exists() or not any(Path(folder, CHECKPOINTS).glob("[0-9]*")):
        return
    differing = differing_keys(json.loads(canonical_json(config)), read_json(folder, CONFIG_FILE))
    if differing:
        raise UserError(
            f"{folder} holds a run with another {', '.join(differing)}; give another --workdir, or delete {folder} to "
            "train anew"
        )
