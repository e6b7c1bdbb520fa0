"""Converts a model from Hugging Face's format into the working folder, or back.

With `convert.from_huggingface` a folder is read into `train/`, and its tokenizer into `tokenizer/`; with
`convert.to_huggingface` the run's model is written into a folder.
"""

import dataclasses
import hashlib
from pathlib import Path

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.interop.architecture import read_architecture
from sc2jax.interop.convert import TOKENIZERS, Imported, export_model, import_model, kept_files
from sc2jax.interop.folder import HUGGINGFACE
from sc2jax.model.params import count_params, parameter_table
from sc2jax.records.manifest import canonical_json, is_finished, read_manifest, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.model_checkpoint import PARAMETERS
from sc2jax.runs.models import trained_model
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.tokenizer_file import tokenizer_digest, tokenizer_path
from sc2jax.storage import join, new_folder
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
        storage.refuse_no_folder(convert.from_huggingface, "convert.from_huggingface")
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
    folder = run.folder("train")
    if is_finished(folder):
        raise UserError(f"{folder} holds a model already; name another --workdir, or delete it")
    parameters = 0

    def write(unfinished: str) -> Written:
        nonlocal parameters
        imported = import_model(source, join(folder, CHECKPOINTS), model)
        if brought:
            _tokenizer_stage(brought[0], imported.kept[brought[0]]).run(run.folder("tokenizer"))
        parameters = count_params(parameter_table(imported.model))
        return _write_model(unfinished, imported)

    model = read_architecture(source, run.settings.model)
    if brought:
        inputs = digests | {"tokenizer": digests[f"{HUGGINGFACE}/{brought[0]}"]}
    else:
        inputs = digests | ({"tokenizer": tokenizer_digest(run)} if named else {})
    this = dataclasses.replace(run, settings=dataclasses.replace(run.settings, model=model))
    stage = Stage("convert", VERSION, {"model": model}, inputs, write, keeps=(CHECKPOINTS,))
    this.with_config(stage).run(folder)
    say(f"{parameters:,} parameters", folder)
    if brought:
        say("the tokenizer", run.folder("tokenizer"))


def _write_model(folder: str, imported: Imported) -> Written:
    files = {PARAMETERS: canonical_json(imported.fingerprints, indent=1).encode()}
    files |= {join(HUGGINGFACE, name): content for name, content in imported.kept.items()}
    outputs = [write_output(folder, name, content) for name, content in files.items()]
    return outputs, {"parameters": count_params(parameter_table(imported.model)), "steps": 0, "tokens": 0}


def _tokenizer_stage(name: str, content: bytes) -> Stage:
    inputs = {f"{HUGGINGFACE}/{name}": hashlib.sha256(content).hexdigest()}
    return Stage("convert", VERSION, {}, inputs, lambda at: ([write_output(at, name, content)], {}))


def _export(run: Run) -> None:
    model, train = trained_model(run), run.folder("train")
    manifest = read_manifest(train)
    kept = {
        output.path.removeprefix(f"{HUGGINGFACE}/"): read_output(train, manifest, output.path)
        for output in manifest.under(HUGGINGFACE)
    }
    target = run.settings.convert.to_huggingface
    with new_folder(target) as folder:
        files = export_model(
            model.checkpoints,
            model.step,
            model.config,
            kept or _tokenizer_files(tokenizer_path(run)),
            folder,
            run.settings.convert,
        )
    say(f"{sum(len(file.tensors) for file in files):,} tensors in {len(files)} files", target)


def _tokenizer_files(path: str) -> dict[str, bytes]:
    """A tokenizer's files in Hugging Face's format: with a SentencePiece model goes what transformers reads instead."""
    content = storage.read_bytes(path)
    files = {f"tokenizer.{path.rpartition('.')[2]}": content, "tokenizer_config.json": tokenizer_config_json()}
    return files if path.endswith(".json") else files | {"tokenizer.json": tokenizer_json(path, content)}
