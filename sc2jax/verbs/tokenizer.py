"""Trains a SentencePiece tokenizer on the corpus.

Reads the training split of `corpus/`; writes `tokenizer/tokenizer.model`.
"""

from sc2jax.config import Settings
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import input_digests
from sc2jax.runs.run import open_run, say
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer

VERSION = 3
MODEL = "tokenizer.model"


def run(settings: Settings, workdir: str) -> None:
    """Trains the run's tokenizer."""
    this = open_run(settings, workdir)

    def write(folder: str) -> Written:
        corpus = this.folder("corpus")
        tables = read_tables(corpus, read_manifest(corpus), "train", ["content"], "source_file")
        texts = (text for table in tables for text in table.column("content").to_pylist())
        model = train_tokenizer(texts, settings.tokenizer, settings.seed)
        return [write_output(folder, MODEL, model)], {}

    sections = {"tokenizer": settings.tokenizer, "seed": settings.seed}
    this.do(Stage("tokenizer", VERSION, sections, input_digests(this, "tokenizer"), write))
    say(f"{open_tokenizer(this).vocab_size:,} tokens", this.folder("tokenizer"))
