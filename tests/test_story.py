"""The whole path: from source code to a corpus, a model, scores, completions, and a report; then what grows from it.

Read this first. Each step is a verb of the command line; each leaves a folder that the next one reads.
"""

import json
from pathlib import Path

import pytest

from sc2jax.cli import main
from sc2jax.feed.batches import open_batches
from sc2jax.feed.sources import FeedInputs
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import read_manifest
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import load_tokenizer

TINY = {
    "tokenizer.vocab_size": 384,
    "model.context_length": 64,
    "model.embed_dim": 32,
    "model.num_layers": 2,
    "model.num_heads": 4,
    "model.window": 32,
    "training.steps": 20,
    "training.batch_size": 8,
    "training.warmup_tokens": 2 * 8 * 64,
    "training.log_every": 5,
    "training.checkpoint_every": 10,
    "corpus.heldout_fraction": 0.2,
    "evaluation.max_bytes": 4000,
    "evaluation.infill_samples": 4,
    "evaluation.infill_tokens": 8,
    "evaluation.prefix_characters": 60,
    "evaluation.suffix_characters": 30,
    "completion.max_new_tokens": 8,
    "completion.temperature": 0.0,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Twelve small packages, with a copied file and a file that no one should train on."""
    root = tmp_path_factory.mktemp("source")
    for package in range(12):
        folder = root / f"package_{package}"
        folder.mkdir()
        for module in range(3):
            names = [f"value_{package}_{module}_{line}" for line in range(12)]
            functions = [
                f"def get_{name}(scale):\n    return scale * {line} + len('{name}')\n"
                for line, name in enumerate(names)
            ]
            (folder / f"module_{module}.py").write_text(
                f'"""Module {module} of {package}."""\n\n\n' + "\n\n".join(functions)
            )
    (root / "package_3" / "copy.py").write_bytes((root / "package_2" / "module_0.py").read_bytes())
    (root / "package_3" / "binary.py").write_bytes(b"x = 1\0")
    return root


def sc2jax(verb: str, source: Path, workdir: Path, config: str | Path = "", **settings: object) -> None:
    named = [f"--config={config}"] if config else []
    overrides = [f"--config.{key}={value}" for key, value in (TINY | settings).items()]
    with pytest.raises(SystemExit) as exit_info:
        main([verb, *named, f"--config.paths.source={source}", *overrides, f"--workdir={workdir}"])
    assert exit_info.value.code in (0, None)


def logged(workdir: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (workdir / "train" / "metrics.jsonl").read_text().splitlines()]


def bits_per_byte(workdir: Path) -> float:
    return json.loads((workdir / "evaluate" / "bits_per_byte" / "scores.json").read_text())["total"]["model"]


def test_from_source_code_to_a_report(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Source trees become a corpus: one record a file, and a reason for each file that is left out.
    sc2jax("curate", source, tmp_path)
    corpus = read_manifest(str(tmp_path / "corpus"))
    files = [
        row
        for split in ("train", "heldout")
        for table in read_tables(str(tmp_path / "corpus"), corpus, split)
        for row in table.to_pylist()
    ]
    rejects = [row for table in read_tables(str(tmp_path / "corpus"), corpus, "rejects") for row in table.to_pylist()]
    assert len(files) + len(rejects) == 38
    assert {(row["path"], row["reason"]) for row in rejects} == {
        ("binary.py", "nul_byte"),
        ("copy.py", "exact_duplicate"),
    }
    assert all(row["swhid"].startswith("swh:1:cnt:") for row in files)

    # The corpus becomes a tokenizer; special tokens have their ids, and no text can forge one.
    sc2jax("tokenizer", source, tmp_path)
    tokenizer_file = str(tmp_path / "tokenizer" / "tokenizer.model")
    tokenizer = load_tokenizer(tokenizer_file)
    text = files[0]["content"] + Special.FIM_PREFIX.literal
    assert tokenizer.decode(tokenizer.encode_text(text)) == text
    assert Special.FIM_PREFIX not in tokenizer.encode_text(text)

    # Corpus and tokenizer become token rows with segments, weights and fill-in-the-middle.
    capsys.readouterr()
    sc2jax("show", source, tmp_path)
    assert "64 tokens" in capsys.readouterr().out

    # Documents become tokens, once, and these become the rows of a model.
    sc2jax("tokenize", source, tmp_path)
    capsys.readouterr()
    sc2jax("show", source, tmp_path)
    assert "batch 0, row 0: source_code, epoch 0, window" in capsys.readouterr().out
    sc2jax("train", source, tmp_path)
    losses = logged(tmp_path, "loss")
    assert losses[-1] < losses[0]

    # The model becomes scores and completions, and everything becomes a page.
    sc2jax("evaluate", source, tmp_path)
    assert 0 < bits_per_byte(tmp_path) < 8
    infilled = json.loads((tmp_path / "evaluate" / "infilling" / "scores.json").read_text())
    assert infilled["model"]["samples"] == 4
    sc2jax("complete", source, tmp_path)
    sc2jax("report", source, tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "nul byte" in page.replace("_", " ").lower()

    # A saved config runs its stage again elsewhere, on the same inputs, to the same bytes.
    with pytest.raises(SystemExit):
        main(["train", f"--config={tmp_path}/train/config.json", f"--workdir={tmp_path}/again"])
    log = Path("train", "metrics.jsonl")
    assert (tmp_path / "again" / log).read_bytes() == (tmp_path / log).read_bytes()

    # Done again, every stage finds itself complete.
    capsys.readouterr()
    sc2jax("quickstart", source, tmp_path)
    assert capsys.readouterr().out.count("complete already") >= 5


LONG = {
    "model.context_length": 256,
    "model.rope_theta": 1e6,
    "training.batch_size": 2,  # as many tokens a step, in a quarter of the rows
    "mesh.sequence": 4,
    "training.schedule": "plateau",
    "training.peak_learning_rate": 3e-4,
    "training.warmup_tokens": 0,
    "training.horizon_tokens": 20 * 512,
    "training.decay_tokens": 4 * 512,
}


@pytest.fixture
def own_source(tmp_path: Path) -> Path:
    """Repositories of a user, in a language that the others are not in."""
    root = tmp_path / "own"
    for package in range(8):
        (root / f"ledger_{package}").mkdir(parents=True)
        for module in range(2):
            structures = [
                f"struct Entry{package}{module}{number} {{\n\tlong amount;\n\tconst char *payee;\n}};\n"
                for number in range(16)
            ]
            (root / f"ledger_{package}" / f"entry_{module}.c").write_text("\n".join(structures))
    return root


@pytest.mark.slow
def test_base_long_and_fine_tuning_follow_one_another(
    source: Path, own_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The base stage trains on short rows, from random weights, by a cosine.
    base, long = tmp_path / "base", tmp_path / "long"
    for verb in ("curate", "tokenizer", "train"):
        sc2jax(verb, source, base, **{"training.steps": 60, "training.peak_learning_rate": 1e-2})

    # The long stage goes on from there with longer rows, another rotary base, and a plateau before the decay.
    data = {"paths.corpus": base / "corpus", "paths.tokenizer": base / "tokenizer"}
    sc2jax("train", source, long, **data, **LONG, **{"paths.start": base / "train"})
    assert logged(long, "loss")[0] < logged(base, "loss")[-2]
    rates = logged(long, "learning_rate")
    assert rates[0] == rates[-2] == pytest.approx(3e-4)
    assert rates[-1] < rates[0] / 2

    # It is released in the format of Hugging Face, and read back by those who have nothing else of it.
    released, adopted = tmp_path / "released", tmp_path / "adopted"
    sc2jax("convert", source, long, **data, **LONG, **{"convert.to_huggingface": released})
    assert json.loads((released / "config.json").read_text())["max_position_embeddings"] == 256
    sc2jax("convert", own_source, adopted, **{"convert.from_huggingface": released})

    # They adapt it to their own repositories: the model is the start's, low-rank adapters alone are trained.
    tuned, way = tmp_path / "tuned", "finetune:adapters"
    own: dict[str, object] = {
        "paths.start": adopted / "train",
        "model.compute_dtype": "float32",
        "training.steps": 60,
        "training.peak_learning_rate": 2e-2,
    }
    for verb in ("curate", "tokenizer", "train", "evaluate"):
        sc2jax(verb, own_source, tuned, way, **own)
    sc2jax("evaluate", own_source, adopted, **{"paths.corpus": tuned / "corpus", "model.compute_dtype": "float32"})
    assert bits_per_byte(tuned) < 0.9 * bits_per_byte(adopted)

    # The adapters are merged on export: what others read is one model, which completes as the two together.
    merged, shared = tmp_path / "merged", tmp_path / "shared"
    sc2jax("convert", own_source, tuned, way, **own, **{"convert.to_huggingface": merged})
    sc2jax("convert", own_source, shared, **{"convert.from_huggingface": merged})
    completions = []
    for workdir, settings in ((tuned, own), (shared, {"model.compute_dtype": "float32"})):
        capsys.readouterr()
        sc2jax("complete", own_source, workdir, **settings, **{"completion.prompt": "struct Entry"})
        completions.append(capsys.readouterr().out)
    assert completions[0] == completions[1]


def test_feed_of_the_quickstart_is_deterministic_and_predicts_end_of_text(source: Path, tmp_path: Path) -> None:
    for verb in ("curate", "tokenizer", "tokenize"):
        sc2jax(verb, source, tmp_path)
    from sc2jax.config import load_config, to_settings

    settings = to_settings(load_config("quickstart"))

    def batches():
        inputs = FeedInputs(
            corpus=str(tmp_path / "corpus"),
            tokenizer=load_tokenizer(str(tmp_path / "tokenizer" / "tokenizer.model")),
            config=settings.feed,
            row_length=settings.model.context_length,
            formats=settings.format,
            fim=FimConfig(level="off"),
            seed=0,
            tokens=str(tmp_path / "tokenize"),
        )
        with open_batches(inputs, 4) as feed:
            return [next(feed) for _ in range(40)]

    one, other = batches(), batches()
    assert all((a[name] == b[name]).all() for a, b in zip(one, other, strict=True) for name in a)
    ends = [(batch["targets"] == Special.END_OF_TEXT) for batch in one]
    assert sum(end.sum() for end in ends) > 0
    assert all((batch["weights"][end] == 1).all() for batch, end in zip(one, ends, strict=True))
