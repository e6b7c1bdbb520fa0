"""The verbs: each composes rooms into one stage of a run, in a folder that a manifest commits.

The stages of a run lie side by side in the working folder: corpus, tokenizer, train, evaluate, complete, report. Each
reads the manifests of those before it; a stage whose manifest names the same config and inputs has nothing to do.
"""

import dataclasses
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import sc2jax
from sc2jax.config import CONFIG_FILE, Settings, differing_keys, settings_json
from sc2jax.errors import UserError
from sc2jax.records.manifest import (
    Manifest,
    Output,
    canonical_json,
    commit,
    join,
    read_manifest,
    stage_key,
    write_atomically,
    write_output,
)
from sc2jax.run import (
    CHECKPOINTS,
    HUGGINGFACE,
    PARAMETERS,
    REPORT,
    SAMPLES,
    SCORES,
    STAGE_VERSIONS,
    TOKENIZER_FILE,
    Folders,
    absolute,
    corpus_digests,
    feed_inputs,
    fitted_model,
    folders,
    open_model,
    open_tokenizer,
    read_bytes,
    read_json,
    run_stage,
    say,
    tokenizer_path,
    trained_model,
    write_config,
)


def curate(settings: Settings, workdir: str) -> None:
    """Curates source trees into a corpus."""
    from sc2jax.corpus.recipes.source_code import curate as curate_sources

    places = folders(settings, workdir)
    folder = places.corpus
    sources = [source.strip() for source in settings.paths.source.split(",") if source.strip()]
    if settings.paths.source and not sources:
        raise UserError(f"paths.source {settings.paths.source!r} names no folder; leave it empty for the default")
    manifest = curate_sources(settings.corpus, sources, folder, settings.seed)
    write_config(folder, settings, places, [])
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


def tokenize(settings: Settings, workdir: str) -> None:
    """Encodes the mixture's training documents ahead, for a feed with feed.tokenized."""
    from sc2jax.feed.cache import token_config, token_inputs, write_tokens
    from sc2jax.feed.mixtures import read_mixture
    from sc2jax.feed.sources import open_documents

    places = folders(settings, workdir)
    sources = open_documents(feed_inputs(settings, places), read_mixture(settings.feed.mixture))
    config = token_config(sources) | dataclasses.asdict(settings.tokenize)

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        return write_tokens(folder, sources, settings.tokenize.epochs)

    manifest = run_stage("tokenize", settings, places, config, token_inputs(sources), work)
    tokens = sum(manifest.statistics["tokens"].values())
    say(f"{tokens:,} tokens in {settings.tokenize.epochs} epochs of {len(sources)} sources", places.tokenize)


def show(settings: Settings, workdir: str) -> None:
    """Prints one packed training row, or writes it as a page."""
    from sc2jax.feed.show import row_page, show_row

    if settings.show.row >= settings.training.batch_size:
        raise UserError(f"show.row is {settings.show.row}; a batch has {settings.training.batch_size} rows, from 0 on")
    inputs = feed_inputs(settings, folders(settings, workdir))
    place = {"row": settings.show.row, "step": settings.show.step, "source": settings.show.source}
    if settings.show.html:
        page = row_page(inputs, settings.training.batch_size, **place)
        write_atomically(absolute(settings.show.html), page.encode())
        say("a row as a page", settings.show.html)
    else:
        print(show_row(inputs, settings.training.batch_size, **place))  # noqa: T201


def train(settings: Settings, workdir: str) -> None:
    """Trains the model to its last step, going on from the newest checkpoint."""
    places = folders(settings, workdir)
    if "://" in places.train:
        raise UserError(f"{places.train}: train writes its log to a local disk; give a local --workdir")
    corpus = corpus_digests(settings, places)
    tokens = open_tokenizer(settings, places)
    settings = dataclasses.replace(settings, model=fitted_model(settings.model, tokens))
    config = {
        name: dataclasses.asdict(getattr(settings, name)) for name in ("model", "training", "feed", "format", "fim")
    } | {"seed": settings.seed}
    inputs = corpus | {"tokenizer": tokens.digest}

    def work(folder: str) -> tuple[list[Output], dict[str, Any]]:
        return _train(settings, places, folder, stage_key("train", STAGE_VERSIONS["train"], config, inputs))

    def intact(manifest: Manifest) -> bool:
        return Path(places.train, CHECKPOINTS, str(manifest.statistics["steps"])).is_dir()

    manifest = run_stage("train", settings, places, config, inputs, work, intact)
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
    write_config(folder, settings, places, ["corpus", "tokenizer", *(["tokenize"] if settings.feed.tokenized else [])])
    feed = open_batches(feed_inputs(settings, places), settings.training.batch_size, rows=rows)
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
    theirs = read_json(folder, CONFIG_FILE)
    sections = ("model", "training", "feed", "format", "fim", "seed")
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

    config = {
        "evaluation": dataclasses.asdict(settings.evaluation),
        "computation": settings.model.computation(),
        "seed": settings.seed,
    }
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
            f"gzip {total['gzip']:.3f} ({abs(1 - bits['ratio_to_unigram']):.0%} "
            f"{'below' if bits['ratio_to_unigram'] <= 1 else 'above'} unigram)"
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

    config = {
        "completion": dataclasses.asdict(settings.completion),
        "computation": settings.model.computation(),
        "seed": settings.seed,
    }
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
    named = settings.convert.from_huggingface or settings.convert.to_huggingface
    if "://" in named:
        raise UserError(f"{named}: convert reads and writes Hugging Face's format on a local disk; name a local folder")
    if settings.convert.from_huggingface:
        _import_model(settings, places)
    else:
        _export_model(settings, places)


def _import_model(settings: Settings, places: Folders) -> None:
    from sc2jax.interop.convert import TOKENIZERS, import_model
    from sc2jax.interop.folders import new_folder
    from sc2jax.model.params import count_params

    source = Path(settings.convert.from_huggingface)
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder(places.train))
        brought = [name for name in TOKENIZERS if (source / name).is_file() and not settings.paths.tokenizer][:1]
        tokenizer_folder = stack.enter_context(new_folder(places.tokenizer)) if brought else ""
        imported = import_model(source, join(folder, CHECKPOINTS), settings.model)
        outputs = [write_output(folder, PARAMETERS, canonical_json(imported.fingerprints, indent=1).encode())]
        for name, content in imported.kept.items():
            outputs.append(write_output(folder, join(HUGGINGFACE, name), content))
        parameters = count_params(imported.model)
        feed = dataclasses.replace(settings.feed, row_length=imported.model.context_length)
        write_config(folder, dataclasses.replace(settings, model=imported.model, feed=feed), places, [])
        _commit_converted(
            folder,
            {"model": dataclasses.asdict(imported.model)},
            outputs,
            {"parameters": parameters, "steps": 0, "tokens": 0},
        )
        if brought:
            outputs = [write_output(tokenizer_folder, name, imported.kept[name]) for name in brought]
            _commit_converted(tokenizer_folder, {}, outputs)
    say(f"{parameters:,} parameters", places.train)
    if brought:
        say("the tokenizer", places.tokenizer)


def _commit_converted(
    folder: str, config: Mapping[str, Any], outputs: list[Output], statistics: Mapping[str, Any] | None = None
) -> None:
    key = stage_key("convert", STAGE_VERSIONS["convert"], config, {output.path: output.sha256 for output in outputs})
    commit(folder, Manifest("convert", key, {}, config, tuple(outputs), statistics or {}))


def _export_model(settings: Settings, places: Folders) -> None:
    from sc2jax.interop.convert import export_model
    from sc2jax.interop.folders import new_folder

    model, step = trained_model(places)
    manifest = read_manifest(places.train)
    kept = {
        output.path.removeprefix(f"{HUGGINGFACE}/"): read_bytes(places.train, output.path)
        for output in manifest.under(HUGGINGFACE)
    }
    if not kept:
        kept = _tokenizer_files(tokenizer_path(settings, places))
    target = settings.convert.to_huggingface
    with new_folder(target) as folder:
        files = export_model(
            join(places.train, CHECKPOINTS),
            step,
            model,
            kept,
            Path(folder),
            settings.convert,
        )
    say(f"{sum(len(file.tensors) for file in files):,} tensors in {len(files)} files", target)


def _tokenizer_files(path: str) -> dict[str, bytes]:
    """A tokenizer's files in Hugging Face's format: with a SentencePiece model goes what transformers reads instead."""
    from sc2jax.text.tokenizer_json import tokenizer_config_json, tokenizer_json

    content = read_bytes(*path.rsplit("/", 1))
    files = {f"tokenizer.{path.rpartition('.')[2]}": content, "tokenizer_config.json": tokenizer_config_json()}
    return files if path.endswith(".json") else files | {"tokenizer.json": tokenizer_json(path, content)}


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
                # Where the folders lie is no part of what was done: the page is the same wherever it is made.
                "config": {
                    name: value for name, value in read_json(places.train, CONFIG_FILE).items() if name != "paths"
                },
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
