"""Converts a model from Hugging Face's format into the working folder, or back.

With `convert.from_huggingface` a folder is read into `train/`, and its tokenizer into `tokenizer/`; adapters that
`peft` wrote become those of the model in `paths.start`. With `convert.to_huggingface` the run's model is written into a
folder, its adapters merged or, with `convert.adapters_only`, alone.
"""

import dataclasses
import hashlib
from pathlib import Path

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.interop.architecture import read_architecture
from sc2jax.interop.convert import OF_ONE_MODEL, RUN_KEY, TOKENIZERS, Imported, export_model, import_model, kept_files
from sc2jax.interop.folder import HUGGINGFACE
from sc2jax.interop.peft import (
    ADAPTER_CONFIG,
    ADAPTER_MODEL,
    StoredAdapters,
    export_adapters,
    import_adapters,
    is_adapter,
    read_adapter_config,
)
from sc2jax.model.adapters import adapter_table
from sc2jax.model.params import count_params, parameter_table
from sc2jax.records.manifest import Manifest, canonical_json, is_finished, read_manifest, read_output, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.runs.model_checkpoint import PARAMETERS
from sc2jax.runs.model_of_start import start_tokenizer
from sc2jax.runs.models import trained_model
from sc2jax.runs.run import Run, open_run, say
from sc2jax.runs.starting_points import START, read_point, read_start, start_json
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
        if is_adapter(Path(convert.from_huggingface)):
            _import_adapters(this)
        else:
            _import(this)
    elif convert.adapters_only:
        _export_adapters(this)
    else:
        _export(this)


def _import(run: Run) -> None:
    source = Path(run.settings.convert.from_huggingface)
    digests = {
        f"{HUGGINGFACE}/{name}": hashlib.sha256(content).hexdigest() for name, content in kept_files(source).items()
    }
    named = run.settings.paths.tokenizer
    brought = [] if named else [name for name in TOKENIZERS if f"{HUGGINGFACE}/{name}" in digests][:1]
    folder = _free_folder(run)
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


def _free_folder(run: Run) -> str:
    folder = run.folder("train")
    if is_finished(folder):
        raise UserError(f"{folder} holds a model already; name another --workdir, or delete it")
    return folder


def _import_adapters(run: Run) -> None:
    """Adapters alone, with what they are added to written down beside them."""
    source, folder = Path(run.settings.convert.from_huggingface), _free_folder(run)
    if not run.settings.paths.start:
        raise UserError(f"{source} holds adapters; name the model that they belong to with --config.paths.start=DIR")
    point = read_point(storage.absolute(run.settings.paths.start))
    if point.adapters:
        raise UserError(f"{point.taken.folder} holds adapters itself; name a whole model with --config.paths.start=DIR")
    model = point.shape
    adapters = read_adapter_config(source, model)
    inputs = {name: storage.sha256_of_file(str(source / name)) for name in (ADAPTER_CONFIG, ADAPTER_MODEL)}
    inputs |= {"start": point.fingerprint}
    if not run.settings.paths.tokenizer:
        path = start_tokenizer(point)
        name, content = f"tokenizer.{path.rpartition('.')[2]}", storage.read_bytes(path)
        _tokenizer_stage(name, content).run(run.folder("tokenizer"))
    inputs |= {"tokenizer": tokenizer_digest(run)}
    parameters = count_params(adapter_table(parameter_table(model), adapters))

    def write(unfinished: str) -> Written:
        fingerprints = import_adapters(source, join(folder, CHECKPOINTS), model, adapters, RUN_KEY)
        outputs = [
            write_output(unfinished, PARAMETERS, canonical_json(fingerprints, indent=1).encode()),
            write_output(unfinished, START, start_json(point), result=False),
        ]
        return outputs, {"parameters": parameters, "steps": 0, "tokens": 0}

    this = dataclasses.replace(run, settings=dataclasses.replace(run.settings, model=model, adapters=adapters))
    stage = Stage("convert", VERSION, {"model": model, "adapters": adapters}, inputs, write, keeps=(CHECKPOINTS,))
    this.with_config(stage).run(folder)
    say(f"{parameters:,} parameters of adapters", folder)


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
    whole, adapters = model, None
    if model.adapters and model.base:
        whole, adapters = model.base, StoredAdapters(model.checkpoints, model.step, model.adapters)
    kept = _kept(train, manifest)
    target = run.settings.convert.to_huggingface
    with new_folder(target) as folder:
        files = export_model(
            whole.checkpoints,
            whole.step,
            model.config,
            kept or _tokenizer_files(tokenizer_path(run)) | _passed_on(train),
            folder,
            run.settings.convert,
            adapters,
        )
    say(f"{sum(len(file.tensors) for file in files):,} tensors in {len(files)} files", target)


def _kept(folder: str, manifest: Manifest) -> dict[str, bytes]:
    """The files that came with an imported model."""
    return {
        output.path.removeprefix(f"{HUGGINGFACE}/"): read_output(folder, manifest, output.path)
        for output in manifest.under(HUGGINGFACE)
    }


def _passed_on(train: str) -> dict[str, bytes]:
    """Of the files that came with the model that a run began with, those that hold for what became of it too.

    Where that model is no more, there are none.
    """
    began = read_start(train)
    for origin in [began.taken, began.frozen] if began else []:
        if is_finished(origin.folder):
            kept = _kept(origin.folder, read_manifest(origin.folder))
            if kept:
                return {name: content for name, content in kept.items() if name not in OF_ONE_MODEL}
    return {}


def _export_adapters(run: Run) -> None:
    model, wanted = trained_model(run), run.settings.convert
    if model.adapters is None:
        raise UserError(f"{run.folder('train')} holds no adapters; leave convert.adapters_only out")
    dtype = "float32" if wanted.export_dtype == "as_imported" else wanted.export_dtype
    with new_folder(wanted.to_huggingface) as folder:
        file = export_adapters(model.checkpoints, model.step, model.config, model.adapters, folder, dtype)
    say(f"{len(file.tensors):,} tensors of adapters", wanted.to_huggingface)


def _tokenizer_files(path: str) -> dict[str, bytes]:
    """A tokenizer's files in Hugging Face's format: with a SentencePiece model goes what transformers reads instead."""
    content = storage.read_bytes(path)
    files = {f"tokenizer.{path.rpartition('.')[2]}": content, "tokenizer_config.json": tokenizer_config_json()}
    return files if path.endswith(".json") else files | {"tokenizer.json": tokenizer_json(path, content)}
