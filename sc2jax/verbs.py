"""The verbs: each composes rooms into one stage of a run, in a folder that a manifest commits.

The stages of a run lie side by side in the working folder: corpus, tokenizer, train, evaluate, complete, report. Each
reads the manifests of those before it; a stage whose manifest names the same config and inputs has nothing to do.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

import sc2jax
from sc2jax.config import CONFIG_FILE, Settings, differing_keys, settings_json
from sc2jax.errors import UserError
from sc2jax.records.manifest import (
    Manifest,
    Output,
    canonical_json,
    commit,
    completed,
    join,
    read_manifest,
    stage_key,
    write_atomically,
    write_output,
)

if TYPE_CHECKING:
    import numpy as np

    from sc2jax.inference.generate import Completion
    from sc2jax.model.config import ModelConfig
    from sc2jax.text.tokenizer import Tokenizer

STAGE_VERSIONS = {"tokenizer": 1, "train": 1, "evaluate": 1, "complete": 1, "report": 1, "convert": 1}
"""Raised when a stage's code changes what it writes, so that folders written before are made anew."""

TOKENIZER_FILE = "tokenizer.model"
CHECKPOINTS = "checkpoints"
HUGGINGFACE = "huggingface"
SCORES, SAMPLES, REPORT, PARAMETERS = "scores.json", "samples.json", "index.html", "parameters.json"

Work = Callable[[str], tuple[list[Output], dict[str, Any]]]
"""Writes a stage's files into a folder and returns them with the stage's statistics."""


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where the stages of a run lie, as the config and the working folder say."""

    workdir: str
    corpus: str
    tokenizer: str
    train: str

    def of(self, stage: str) -> str:
        """The folder of a stage."""
        return getattr(self, stage, join(self.workdir, stage))


def folders(settings: Settings, workdir: str) -> Folders:
    """The folders of a run; those of its inputs may be set in the config."""
    paths = settings.paths
    return Folders(
        workdir=absolute(workdir),
        corpus=absolute(paths.corpus or join(workdir, "corpus")),
        tokenizer=absolute(paths.tokenizer or join(workdir, "tokenizer")),
        train=absolute(paths.train or join(workdir, "train")),
    )


def absolute(path: str) -> str:
    """A URL as it is, a local path from the root on: Orbax takes no other."""
    return path if "://" in path else str(Path(path).absolute())


def curate(settings: Settings, workdir: str) -> None:
    """Curates source trees into a corpus."""
    from sc2jax.corpus.recipe import curate as curate_sources

    folder = folders(settings, workdir).corpus
    sources = [source.strip() for source in settings.paths.source.split(",") if source.strip()]
    manifest = curate_sources(settings.corpus, sources, folder, settings.seed)
    write_config(folder, settings)
    first, last = manifest.statistics["funnel"][0], manifest.statistics["funnel"][-1]
    split = manifest.statistics["split"]
    say(
        f"{first['files_in']:,} files, {last['files_out']:,} kept ({last['bytes_out'] / 1e6:.1f} MB); "
        f"repositories: {split['train']['repositories']:,} train, {split['heldout']['repositories']:,} held out",
        folder,
    )


def tokenizer(settings: Settings, workdir: str) -> None:
    """Trains a SentencePiece tokenizer on the corpus's training split."""
    from sc2jax.records.dataset import read_tables
    from sc2jax.text.tokenizer import load_tokenizer
    from sc2jax.text.train_tokenizer import train_tokenizer

    places = folders(settings, workdir)
    corpus = read_manifest(places.corpus)

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        tables = read_tables(places.corpus, corpus, "train", ["content"])
        texts = (text for table in tables for text in table.column("content").to_pylist())
        model = train_tokenizer(texts, settings.tokenizer, settings.seed)
        return [write_output(folder, TOKENIZER_FILE, model)], {}

    config = {"tokenizer": dataclasses.asdict(settings.tokenizer), "seed": settings.seed}
    run_stage("tokenizer", settings, places, config, {"corpus": corpus.digest}, work)
    trained = load_tokenizer(join(places.tokenizer, TOKENIZER_FILE))
    say(f"{trained.vocab_size:,} tokens", places.tokenizer)


def show(settings: Settings, workdir: str) -> None:
    """Prints one packed training row."""
    from sc2jax.feed.show import show_row

    places = folders(settings, workdir)
    row = show_row(
        corpus=places.corpus,
        tokenizer=tokenizer_path(settings, places),
        config=settings.feed,
        fim=settings.fim,
        batch_size=settings.training.batch_size,
        seed=settings.seed,
        row=settings.show.row,
        step=settings.show.step,
    )
    print(row)  # noqa: T201


def train(settings: Settings, workdir: str) -> None:
    """Trains the model to its last step, going on from the newest checkpoint."""
    places = folders(settings, workdir)
    corpus = read_manifest(places.corpus)
    tokens = open_tokenizer(settings, places)
    settings = dataclasses.replace(settings, model=fitted_model(settings.model, tokens))
    config = {name: dataclasses.asdict(getattr(settings, name)) for name in ("model", "training", "feed", "fim")} | {
        "seed": settings.seed
    }
    inputs = {"corpus": corpus.digest, "tokenizer": tokens.digest}

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        return _train(settings, places, folder, stage_key("train", STAGE_VERSIONS["train"], config, inputs))

    manifest = run_stage("train", settings, places, config, inputs, work)
    statistics = manifest.statistics
    say(
        f"{statistics['parameters']:,} parameters, {statistics['steps']:,} steps, {statistics['tokens']:,} tokens, "
        f"loss {statistics['loss']:.3f}",
        places.train,
    )


def _train(settings: Settings, places: Folders, folder: str, key: str) -> tuple[list[Output], dict[str, Any]]:
    from sc2jax.feed.batches import open_batches
    from sc2jax.model.params import count_params
    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.loop import local_rows
    from sc2jax.training.loop import train as run_training
    from sc2jax.training.metrics import METRICS, read_metrics

    mesh = create_mesh(settings.mesh)
    rows = local_rows(mesh, settings.training, settings.model)
    refuse_other_run(folder, settings)
    write_config(folder, settings)
    feed = open_batches(
        corpus=places.corpus,
        tokenizer=tokenizer_path(settings, places),
        config=settings.feed,
        fim=settings.fim,
        batch_size=settings.training.batch_size,
        seed=settings.seed,
        rows=rows,
    )
    try:
        result = run_training(feed, settings.model, settings.training, mesh, folder=folder, key=key, seed=settings.seed)
    finally:
        feed.close()
    log = Path(folder, METRICS).read_bytes()
    outputs = [
        write_output(folder, METRICS, log),
        write_output(folder, PARAMETERS, canonical_json(result.fingerprints, indent=1).encode()),
    ]
    last = read_metrics(folder)[-1]
    statistics = {
        "parameters": count_params(settings.model),
        "steps": result.steps,
        "tokens": last["tokens"],
        "loss": last["loss"],
    }
    return outputs, statistics


def refuse_other_run(folder: str, settings: Settings) -> None:
    """Refuses to go on from checkpoints that were made with another model, training, feed or seed.

    Raises:
        UserError: naming the keys that differ.
    """
    config = Path(folder, CONFIG_FILE)
    if not config.exists() or not any(Path(folder, CHECKPOINTS).glob("[0-9]*")):
        return
    ours = json.loads(settings_json(settings))
    theirs = json.loads(config.read_text(encoding="utf-8"))
    sections = ("model", "training", "feed", "fim", "seed")
    differing = differing_keys({name: ours[name] for name in sections}, {name: theirs.get(name) for name in sections})
    if differing:
        raise UserError(
            f"{folder} holds a run with another {', '.join(differing)}; give another --workdir, or delete {folder} to "
            "train anew"
        )


def evaluate(settings: Settings, workdir: str) -> None:
    """Measures held-out bits per byte and exact-match infilling."""
    from sc2jax.evaluation.bits_per_byte import bits_per_byte
    from sc2jax.evaluation.heldout import read_files
    from sc2jax.evaluation.infilling import infilling

    places = folders(settings, workdir)
    corpus, trained = read_manifest(places.corpus), read_manifest(places.train)
    tokens = open_tokenizer(settings, places)

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        score, generate = open_model(settings, places)
        heldout = partial(read_files, places.corpus, corpus, "heldout")
        scores = {
            "bits_per_byte": bits_per_byte(
                score,
                tokens,
                heldout(),
                read_files(places.corpus, corpus, "train"),
                settings.evaluation,
                settings.seed,
            ),
            "infilling": infilling(generate, tokens, heldout(), settings.evaluation, settings.seed),
        }
        return [write_output(folder, SCORES, canonical_json(scores, indent=1).encode())], {}

    config = {"evaluation": dataclasses.asdict(settings.evaluation), "seed": settings.seed}
    inputs = {"corpus": corpus.digest, "tokenizer": tokens.digest, "train": trained.digest}
    run_stage("evaluate", settings, places, config, inputs, work)
    for line in summarize_scores(read_json(places.of("evaluate"), SCORES)):
        say(line)


def summarize_scores(scores: Mapping[str, Any]) -> list[str]:
    """The scores of an evaluation, a sentence each."""
    bits, infill = scores["bits_per_byte"], scores["infilling"]
    lines = []
    if bits["measured"]:
        total = bits["total"]
        lines.append(
            f"held-out bits per byte: model {total['model']:.3f}, unigram tokens {total['unigram']:.3f}, "
            f"gzip {total['gzip']:.3f} ({1 - bits['ratio_to_unigram']:.0%} below unigram)"
        )
    else:
        lines.append(f"held-out bits per byte: not measured, {bits['reason']}")
    if infill["measured"]:
        model, copied = infill["model"], infill["copy_previous"]
        lines.append(
            f"infilling: {model['exact']} of {model['samples']} lines exact ({model['exact_match']:.1%}), edit "
            f"similarity {model['edit_similarity']:.2f}; copying the line before: {copied['exact_match']:.1%}"
        )
    else:
        lines.append(f"infilling: not measured, {infill['reason']}")
    return lines


def complete(settings: Settings, workdir: str) -> None:
    """Completes a prompt, fills a gap, or makes one sample of each from held-out files."""
    from sc2jax.inference.samples import complete_prompt, samples_from_files

    places = folders(settings, workdir)
    if settings.completion.prompt or settings.completion.suffix:
        tokens = open_tokenizer(settings, places)
        _, generate = open_model(settings, places)
        print_sample(complete_prompt(generate, tokens, settings.completion, settings.seed))
        return
    from sc2jax.evaluation.heldout import read_files

    corpus, trained = read_manifest(places.corpus), read_manifest(places.train)
    tokens = open_tokenizer(settings, places)

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        _, generate = open_model(settings, places)
        # A source of one repository has nothing to hold out; its samples then come from what was trained on.
        split = "heldout" if corpus.under("heldout") else "train"
        files = ((file.path, file.text) for file in read_files(places.corpus, corpus, split))
        samples = samples_from_files(generate, tokens, files, settings.completion, settings.seed)
        return [write_output(folder, SAMPLES, canonical_json(samples, indent=1).encode())], {}

    config = {"completion": dataclasses.asdict(settings.completion), "seed": settings.seed}
    inputs = {"corpus": corpus.digest, "tokenizer": tokens.digest, "train": trained.digest}
    run_stage("complete", settings, places, config, inputs, work)
    for sample in read_json(places.of("complete"), SAMPLES):
        print_sample(sample)


def print_sample(sample: Mapping[str, str]) -> None:
    """Prints a completion with the text that it continues, the completion between markers."""
    before, after = (sample["prefix"], sample["suffix"]) if sample["kind"] == "infill" else (sample["prompt"], "")
    title = "fill in the middle" if sample["kind"] == "infill" else "left to right"
    end = "stopped by itself" if sample["finish"] == "stop" else "cut at completion.max_new_tokens"
    print(f"--- {title} ({end})\n{before}\u27e6{sample['completion']}\u27e7{after}\n---")  # noqa: T201


def convert(settings: Settings, workdir: str) -> None:
    """Converts a model from Hugging Face's format, or into it."""
    places = folders(settings, workdir)
    if bool(settings.convert.from_huggingface) == bool(settings.convert.to_huggingface):
        raise UserError(
            "name one folder: --config.convert.from_huggingface=DIR to read a model into the workdir, or "
            "--config.convert.to_huggingface=DIR to write the workdir's model"
        )
    if settings.convert.from_huggingface:
        _import_model(settings, places)
    else:
        _export_model(settings, places)


def _import_model(settings: Settings, places: Folders) -> None:
    from sc2jax.interop.convert import TOKENIZER, import_model
    from sc2jax.interop.folders import new_folder
    from sc2jax.model.params import count_params

    source = Path(settings.convert.from_huggingface)
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder(places.train))
        brings_tokenizer = (source / TOKENIZER).is_file() and not settings.paths.tokenizer
        tokenizer_folder = stack.enter_context(new_folder(places.tokenizer)) if brings_tokenizer else ""
        imported = import_model(source, join(folder, CHECKPOINTS), settings.model)
        outputs = [write_output(folder, PARAMETERS, canonical_json(imported.fingerprints, indent=1).encode())]
        for name, content in imported.kept.items():
            outputs.append(write_output(folder, join(HUGGINGFACE, name), content))
        parameters = count_params(imported.model)
        write_config(folder, dataclasses.replace(settings, model=imported.model))
        _commit_converted(
            folder,
            {"model": dataclasses.asdict(imported.model)},
            outputs,
            {"parameters": parameters, "steps": 0, "tokens": 0},
        )
        if brings_tokenizer:
            _commit_converted(
                tokenizer_folder, {}, [write_output(tokenizer_folder, TOKENIZER, imported.kept[TOKENIZER])]
            )
    say(f"{parameters:,} parameters", places.train)
    if brings_tokenizer:
        say("the tokenizer", places.tokenizer)


def _commit_converted(
    folder: str, config: Mapping[str, Any], outputs: list[Output], statistics: Mapping[str, Any] | None = None
) -> None:
    key = stage_key("convert", STAGE_VERSIONS["convert"], config, {output.path: output.sha256 for output in outputs})
    commit(folder, Manifest("convert", key, {}, config, tuple(outputs), statistics or {}))


def _export_model(settings: Settings, places: Folders) -> None:
    from sc2jax.interop.convert import export_model
    from sc2jax.interop.folders import new_folder
    from sc2jax.model.config import ModelConfig

    manifest = read_manifest(places.train)
    kept = {
        output.path.removeprefix(f"{HUGGINGFACE}/"): read_bytes(places.train, output.path)
        for output in manifest.under(HUGGINGFACE)
    }
    if not kept:
        path = tokenizer_path(settings, places)
        kept = {f"tokenizer.{path.rpartition('.')[2]}": read_bytes(*path.rsplit("/", 1))}
    target = settings.convert.to_huggingface
    with new_folder(target) as folder:
        files = export_model(
            join(places.train, CHECKPOINTS),
            manifest.statistics["steps"],
            ModelConfig(**manifest.config["model"]),
            kept,
            Path(folder),
            settings.convert,
        )
    say(f"{sum(len(file.tensors) for file in files):,} tensors in {len(files)} files", target)


def report(settings: Settings, workdir: str) -> None:
    """Writes the run's page."""
    from sc2jax.evaluation.report import render_report
    from sc2jax.training.metrics import read_metrics

    places = folders(settings, workdir)
    stages = ("corpus", "tokenizer", "train", "evaluate", "complete")
    manifests = {stage: read_manifest(places.of(stage)) for stage in stages}

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        training: Any = {
            "metrics": read_metrics(places.train),
            "parameters": manifests["train"].statistics["parameters"],
        }
        page = render_report(
            corpus=dict(manifests["corpus"].statistics),  # pyright: ignore[reportArgumentType]
            training=training,
            evaluation=read_json(places.of("evaluate"), SCORES),
            samples=read_json(places.of("complete"), SAMPLES),
            provenance={
                "version": sc2jax.__version__,
                "manifests": {stage: manifest.digest for stage, manifest in manifests.items()},
                "config": read_json(places.train, CONFIG_FILE),
            },
        )
        return [write_output(folder, REPORT, page.encode())], {}

    inputs = {stage: manifest.digest for stage, manifest in manifests.items()}
    run_stage("report", settings, places, {"version": sc2jax.__version__}, inputs, work)
    say(str(Path(places.of("report"), REPORT).resolve()))


QUICKSTART = (curate, tokenizer, train, evaluate, complete, report)


def quickstart(settings: Settings, workdir: str) -> None:
    """Runs every stage in turn; one that is complete is not done again."""
    started = time.monotonic()
    for number, stage in enumerate(QUICKSTART, start=1):
        print(f"[{number}/{len(QUICKSTART)}] {stage.__name__}: {stage.__doc__}", flush=True)  # noqa: T201
        stage_started = time.monotonic()
        stage(settings, workdir)
        say(f"{time.monotonic() - stage_started:.1f} s")
    print(f"done in {time.monotonic() - started:.0f} s; the report: {join(workdir, 'report')}/{REPORT}")  # noqa: T201


def run_stage(
    stage: str,
    settings: Settings,
    places: Folders,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    work: Work,
) -> Manifest:
    """Does a stage's work unless its folder is complete for this config and these inputs; commits it by a manifest."""
    folder = places.of(stage)
    key = stage_key(stage, STAGE_VERSIONS[stage], config, inputs)
    done = completed(folder, key)
    if done is not None:
        say("complete already")
        return done
    outputs, statistics = work(folder)
    write_config(folder, settings)
    return commit(folder, Manifest(stage, key, inputs, config, tuple(outputs), statistics))


def write_config(folder: str, settings: Settings) -> None:
    """Writes the resolved config beside what it made; `--config=FOLDER/config.json` runs it again."""
    write_atomically(join(folder, CONFIG_FILE), settings_json(settings).encode())


def tokenizer_path(settings: Settings, places: Folders) -> str:
    """The tokenizer's file: what the stage wrote, or the file that the config names."""
    named = settings.paths.tokenizer
    if named.endswith((".model", ".json")):
        return named
    return join(places.tokenizer, read_manifest(places.tokenizer).outputs[0].path)


def open_tokenizer(settings: Settings, places: Folders) -> "Tokenizer":
    """The run's tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from sc2jax.text.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer_path(settings, places))


def fitted_model(model: "ModelConfig", tokens: "Tokenizer") -> "ModelConfig":
    """The model's shape with the tokenizer's vocabulary.

    Raises:
        UserError: the config names a smaller vocabulary than the tokenizer's.
    """
    if model.vocab_size and model.vocab_size < tokens.vocab_size:
        raise UserError(
            f"model.vocab_size {model.vocab_size} is less than the tokenizer's {tokens.vocab_size}; use 0 to take the "
            "tokenizer's"
        )
    return dataclasses.replace(model, vocab_size=model.vocab_size or tokens.vocab_size)


def open_model(
    settings: Settings, places: Folders
) -> tuple[Callable[[Sequence[Sequence[int]]], "list[np.ndarray]"], Callable[..., "list[Completion]"]]:
    """The trained model's scorer and generator.

    Raises:
        UserError: the training is not finished, or its checkpoint is damaged.
    """
    from sc2jax.checkpoint import Checkpoints
    from sc2jax.inference.generate import generate
    from sc2jax.inference.score import token_log_likelihoods
    from sc2jax.model.config import ModelConfig
    from sc2jax.model.params import abstract_params
    from sc2jax.parallel.mesh import create_mesh

    manifest = read_manifest(places.train)
    trained = ModelConfig(**manifest.config["model"])
    checkpoints = Checkpoints(join(places.train, CHECKPOINTS), kept=settings.training.checkpoints_kept)
    try:
        step = manifest.statistics["steps"]
        params = checkpoints.restore_params(step, abstract_params(trained, create_mesh(settings.mesh)))
    finally:
        checkpoints.close()
    score = partial(token_log_likelihoods, params, trained, batch_size=settings.evaluation.score_batch)
    return score, partial(generate, params, trained)


def read_json(folder: str, name: str) -> Any:
    """A JSON file of a stage.

    Raises:
        UserError: it is missing or damaged.
    """
    path = join(folder, name)
    try:
        return json.loads(read_bytes(folder, name))
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete {folder} and run its stage again") from error


def read_bytes(folder: str, name: str) -> bytes:
    """A file of a stage."""
    with fsspec.open(join(folder, name), "rb") as file:
        return file.read()  # pyright: ignore[reportAttributeAccessIssue]


def say(message: str, folder: str = "") -> None:
    """A line about the stage under way, and the folder that it filled."""
    print(f"      {message}" + (f" -> {folder}" if folder else ""), flush=True)  # noqa: T201
