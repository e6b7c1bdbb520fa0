"""Converts a model from Hugging Face's format into the working folder, or back.

With `convert.from_huggingface` a folder is read into `train/`, and its tokenizer into `tokenizer/`; with
`convert.to_huggingface` the run's model is written into a folder.
"""

import dataclasses
import hashlib
from contextlib import ExitStack
from pathlib import Path

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.interop.convert import TOKENIZERS, Imported, export_model, import_model, kept_files
from sc2jax.interop.folder import HUGGINGFACE
from sc2jax.model.params import count_params, parameter_table
from sc2jax.records.manifest import canonical_json, read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.inputs import tokenizer_path
from sc2jax.runs.models import PARAMETERS, trained_model
from sc2jax.runs.run import Run, open_run, say
from sc2jax.storage import inside, join, new_folder
from sc2jax.text.tokenizer_json import tokenizer_config_json, tokenizer_json

VERSION = 3


def run(settings: Settings, workdir: str) -> None:
    """Converts in the direction that the config names."""
    this, convert = open_run(settings, workdir), settings.convert
    if len([folder for folder in (convert.from_huggingface, convert.to_huggingface) if folder]) != 1:
        raise UserError(
            "name one folder: --config.convert.from_huggingface=DIR to read a model into the workdir, or "
            "--config.convert.to_huggingface=DIR to write the workdir's model"
        )
    named = convert.from_huggingface or convert.to_huggingface
    if storage.is_url(named):
        raise UserError(f"{named}: convert reads and writes Hugging Face's format on a local disk; name a local folder")
    if convert.from_huggingface:
        _import(this)
    else:
        _export(this)


def _import(run: Run) -> None:
    source = Path(run.settings.convert.from_huggingface)
    digests = {
        f"{HUGGINGFACE}/{name}": hashlib.sha256(content).hexdigest() for name, content in kept_files(source).items()
    }
    named = run.settings.paths.tokenizer
    brought = [] if named else [name for name in TOKENIZERS if f"{HUGGINGFACE}/{name}" in digests][:1]
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder(run.folder("train")))
        tokenizer_folder = stack.enter_context(new_folder(run.folder("tokenizer"))) if brought else ""
        imported = import_model(source, join(folder, CHECKPOINTS), run.settings.model)
        model = imported.model
        dataclasses.replace(run, settings=dataclasses.replace(run.settings, model=model)).write_config(folder, [])
        Stage("convert", VERSION, {"model": model}, digests, lambda at: _write_model(at, imported)).run(folder)
        if brought:
            kept = {name: imported.kept[name] for name in brought}
            inputs = {name: digest for name, digest in digests.items() if name.endswith(f"/{brought[0]}")}
            Stage("convert", VERSION, {}, inputs, lambda at: _write_files(at, kept)).run(tokenizer_folder)
    say(f"{count_params(parameter_table(model)):,} parameters", run.folder("train"))
    if brought:
        say("the tokenizer", run.folder("tokenizer"))


def _write_model(folder: str, imported: Imported) -> Written:
    files = {PARAMETERS: canonical_json(imported.fingerprints, indent=1).encode()}
    files |= {join(HUGGINGFACE, name): content for name, content in imported.kept.items()}
    parameters = count_params(parameter_table(imported.model))
    return _write_files(folder, files)[0], {"parameters": parameters, "steps": 0, "tokens": 0}


def _write_files(folder: str, files: dict[str, bytes]) -> Written:
    return [write_output(folder, name, content) for name, content in files.items()], {}


def _export(run: Run) -> None:
    model, train = trained_model(run), run.folder("train")
    outputs = read_manifest(train).under(HUGGINGFACE)
    kept = {
        output.path.removeprefix(f"{HUGGINGFACE}/"): storage.read_bytes(inside(train, output.path))
        for output in outputs
    }
    target = run.settings.convert.to_huggingface
    with new_folder(target) as folder:
        files = export_model(
            model.checkpoints,
            model.step,
            model.config,
            kept or _tokenizer_files(tokenizer_path(run)),
            Path(folder),
            run.settings.convert,
        )
    say(f"{sum(len(file.tensors) for file in files):,} tensors in {len(files)} files", target)


def _tokenizer_files(path: str) -> dict[str, bytes]:
    """A tokenizer's files in Hugging Face's format: with a SentencePiece model goes what transformers reads instead."""
    content = storage.read_bytes(path)
    files = {f"tokenizer.{path.rpartition('.')[2]}": content, "tokenizer_config.json": tokenizer_config_json()}
    return files if path.endswith(".json") else files | {"tokenizer.json": tokenizer_json(path, content)}
