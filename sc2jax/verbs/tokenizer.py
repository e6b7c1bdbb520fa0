"""Trains a SentencePiece tokenizer on the corpus, or takes that of the model that training begins with.

Reads the training split of `corpus/`, or with `training.model_of_start` what lies beside `paths.start`; writes
`tokenizer/`.
"""

import hashlib

from sc2jax import storage
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import is_finished, read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import input_digests
from sc2jax.runs.model_of_start import start_tokenizer
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.starting_points import starting_point
from sc2jax.runs.tokenizer_file import open_tokenizer, tokenizer_digest
from sc2jax.text.train_tokenizer import train_tokenizer

VERSION = 3
MODEL = "tokenizer.model"


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's tokenizer."""
    this = open_run(settings, workdir)
    if settings.training.model_of_start:
        _take(this)
    else:
        _train(this)
    say(f"{open_tokenizer(this).vocab_size:,} tokens", this.folder("tokenizer"))


def _train(run: Run) -> None:
    settings = run.settings

    def write(folder: str) -> Written:
        corpus = run.folder("corpus")
        tables = read_tables(corpus, read_manifest(corpus), "train", ["content"], "source_file")
        texts = (text for table in tables for text in table.column("content").to_pylist())
        model = train_tokenizer(texts, settings.tokenizer, settings.seed)
        return [write_output(folder, MODEL, model)], {}

    sections = {"tokenizer": settings.tokenizer, "seed": settings.seed}
    run.do(Stage("tokenizer", VERSION, sections, input_digests(run, "tokenizer"), write))


def _take(run: Run) -> None:
    """Copies the tokenizer of the start, unless that is done: the start may be gone by then."""
    point = starting_point(run)
    if point is None:
        raise UserError("training.model_of_start takes the tokenizer of paths.start, which names no folder; name one")
    if is_finished(run.folder("tokenizer")) and point.tokenizer in ("", tokenizer_digest(run)):
        say("complete already")
        return
    path = start_tokenizer(point)
    content = storage.read_bytes(path)
    inputs = {"start": hashlib.sha256(content).hexdigest()}

    def write(folder: str) -> Written:
        return [write_output(folder, f"tokenizer.{path.rpartition('.')[2]}", content)], {}

    run.do(Stage("tokenizer", VERSION, {}, inputs, write))
