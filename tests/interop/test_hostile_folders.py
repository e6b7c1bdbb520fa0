"""Folders that were damaged or made to harm: one message, no hang, and nothing read or written elsewhere."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hf_folders import BESIDE, TINY, write_folder
from safetensors.numpy import load_file, save_file

from sc2jax.cli import run
from sc2jax.errors import UserError
from sc2jax.interop.architecture import read_architecture
from sc2jax.interop.config import ConvertConfig
from sc2jax.interop.convert import export_model, import_model, kept_files
from sc2jax.interop.folder import find_file, path_in
from sc2jax.interop.generation import read_generation
from sc2jax.interop.tensors import read_layout
from sc2jax.interop.weights import tensor_parameters
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import parameter_table

INDEX = "model.safetensors.index.json"


def convert_in(folder: Path) -> None:
    run(["convert", f"--config.convert.from_huggingface={folder}", f"--workdir={folder.parent / 'run'}"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_folder(tmp_path / "source", files=3)
    return tmp_path / "source"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "a/../../secret", "..", ".", "", "a\0b"])
def test_a_name_that_is_no_plain_one_is_refused(source, name):
    with pytest.raises(UserError, match="names a file"):
        path_in(source, name)


def test_a_file_is_found_and_nothing_else(source):
    (source / "folder").mkdir()
    (source / "alias.json").symlink_to("config.json")
    assert find_file(source, "config.json") == source / "config.json"
    assert find_file(source, "alias.json") == source / "alias.json"
    assert find_file(source, "folder") is None
    assert find_file(source, "missing") is None
    assert find_file(source, "9" * 300) is None
    (source / "circle").symlink_to("circle")
    assert find_file(source, "circle") is None
    assert find_file(source / "config.json", "missing") is None


READ = ["config.json", INDEX, "model-00002-of-00003.safetensors", "tokenizer.json", "generation_config.json", *BESIDE]


@pytest.mark.parametrize("name", READ)
def test_a_pipe_is_refused_and_not_waited_for(source, name):
    (source / name).unlink(missing_ok=True)
    os.mkfifo(source / name)
    with pytest.raises(UserError, match=f"{name} is no regular file"):
        convert_in(source)
    assert sorted(path.name for path in source.parent.iterdir()) == ["source"]


@pytest.mark.parametrize("name", READ)
def test_a_link_out_of_the_folder_is_refused(source, name):
    if (source / name).exists():
        (source / name).rename(source.parent / "secret")
    else:
        (source.parent / "secret").write_text("secret")
    (source / name).symlink_to("../secret")
    with pytest.raises(UserError, match=f"{name} is a link that leaves .*; where links are meant, copy the folder"):
        convert_in(source)
    assert not (source.parent / "run").exists()


def test_a_snapshot_of_hugging_faces_cache_is_read(source, tmp_path):
    """There every file is a link to a blob of the same repository, and to nothing else."""
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots/0123"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(source.iterdir())):
        file.rename(repository / f"blobs/{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (repository / "secret").write_text("secret")
    (snapshot / "README.md").unlink(missing_ok=True)
    (snapshot / "README.md").symlink_to("../../secret")
    with pytest.raises(UserError, match=r"README\.md is a link that leaves"):
        convert_in(snapshot)
    (snapshot / "README.md").unlink()
    convert_in(snapshot)
    assert (snapshot.parent / "run/train/manifest.json").exists()


def test_a_single_file_and_unlisted_files_are_looked_at_alike(tmp_path):
    write_folder(tmp_path / "source")
    weights = tmp_path / "source/model.safetensors"
    weights.rename(tmp_path / "secret")
    for name in ("model.safetensors", "any.safetensors"):
        (tmp_path / "source" / name).symlink_to("../secret")
        with pytest.raises(UserError, match="is a link that leaves"):
            convert_in(tmp_path / "source")
        (tmp_path / "source" / name).unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../model-00001-of-00003.safetensors", "names a file"),
        ("/tmp/model-00001-of-00003.safetensors", "names a file"),
        ("config.json", "names a file 'config.json' for tensors"),
        ("", "names a file ''"),
    ],
)
def test_an_index_names_safetensors_files_of_the_folder(source, name, message):
    index = json.loads((source / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = name
    (source / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        convert_in(source)


@pytest.mark.parametrize("name", ["../payload.sh", "/payload.sh", "a/payload.sh"])
def test_nothing_that_was_kept_is_written_elsewhere(source, name):
    out = source.parent / "out"
    imported = import_model(source, str(source.parent / "checkpoints"), ModelConfig())
    kept = {**imported.kept, name: b"#!/bin/sh"}
    out.mkdir()
    with pytest.raises(UserError, match="names a file"):
        export_model(str(source.parent / "checkpoints"), 0, imported.model, kept, out, ConvertConfig())
    assert not list(source.parent.rglob("payload.sh"))


def layout(folder: Path) -> None:
    shapes = {name: parameter.hf_shape for name, (parameter, _) in tensor_parameters(parameter_table(MODEL)).items()}
    files = read_layout(folder, shapes, {})
    assert sorted((tensor.name, tensor.shape) for file in files for tensor in file.tensors) == sorted(shapes.items())


def generation(folder: Path) -> None:
    found = read_generation(kept_files(folder), str(folder), 64)
    assert all(0 <= token < 64 for token in found.end_ids)
    assert found.temperature >= 0


MODEL = ModelConfig(
    vocab_size=64, embed_dim=16, num_layers=3, num_heads=4, num_kv_heads=2, mlp_dim=40, tie_embeddings=False
)
HEADER = "model-00001-of-00003.safetensors"
FORMATS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "config.json": ("config.json", lambda folder: read_architecture(folder, ModelConfig())),
    "its end tokens": ("config.json", generation),
    "generation_config.json": ("generation_config.json", generation),
    "index": (INDEX, layout),
    "header": (HEADER, layout),
}
INSERTED = [b"", b"9" * 400, b"-1", b"[", b"{", b"null", b'""', b'"../x"', b"1e400", b"NaN", b"\\ud800", b"\0", b"\xff"]


def mutate(content: bytes, end: int, chance: random.Random) -> bytes:
    """One to three stretches before `end` replaced by something that a parser may stumble over."""
    mutated = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(end)
        mutated[at : at + chance.randrange(8)] = chance.choice([*INSERTED, bytes([chance.randrange(256)])])
    return bytes(mutated)


def fuzz(folder: Path, which: str, times: int) -> None:
    name, read = FORMATS[which]
    write_folder(folder / "source", files=3)
    generation_config = {"eos_token_id": [0, 5], "do_sample": True, "temperature": 0.2, "top_p": 0.9, "bos_token_id": 0}
    (folder / "source/generation_config.json").write_text(json.dumps(generation_config))
    path = folder / "source" / name
    whole = path.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0] if name == HEADER else len(whole)
    chance = random.Random(which)
    refused = 0
    for _ in range(times):
        path.write_bytes(mutate(whole, end, chance))
        try:
            read(folder / "source")
        except UserError as error:
            refused += 1
            assert str(folder) in str(error)
    assert refused > times // 4


@pytest.mark.parametrize("which", FORMATS)
def test_no_mutation_raises_anything_else(tmp_path, which):
    fuzz(tmp_path, which, 200)


@pytest.mark.slow
@pytest.mark.parametrize("which", FORMATS)
def test_none_of_many_mutations_raises_anything_else(tmp_path, which):
    fuzz(tmp_path, which, 1000)


def tied(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A tied model whose file holds the output projection too, as `change` makes it of the embedding."""
    tensors = write_folder(folder / "source", TINY | {"tie_word_embeddings": True})
    tensors["lm_head.weight"] = change(tensors["model.embed_tokens.weight"])
    save_file(tensors, folder / "source/model.safetensors", {"format": "pt"})
    return folder / "source"


def test_a_tied_model_may_hold_its_embedding_twice(tmp_path):
    source = tied(tmp_path, np.copy)
    convert_in(source)
    workdir, target = f"--workdir={tmp_path / 'run'}", "--config.convert.to_huggingface"
    run(["convert", f"{target}={tmp_path / 'same'}", workdir])
    assert (tmp_path / "same/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    run(["convert", f"{target}={tmp_path / 'wide'}", workdir, "--config.convert.export_dtype=float32"])
    assert "lm_head.weight" not in load_file(tmp_path / "wide/model.safetensors")


def last_number(tensor: np.ndarray) -> np.ndarray:
    changed = tensor.copy()
    changed[-1, -1] += 1
    return changed


def test_a_tied_model_with_another_output_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"lm_head\.weight has other values than model\.embed_tokens\.weight"):
        convert_in(tied(tmp_path, last_number))
    assert not (tmp_path / "run").exists()
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(UserError, match=r"misshapen tensors: lm_head\.weight is \[63, 16\], not \[64, 16\]"):
        convert_in(tied(tmp_path, lambda tensor: tensor[1:].copy()))


def test_rows_beyond_the_first_block_are_compared_too(tmp_path, monkeypatch):
    monkeypatch.setattr("sc2jax.interop.weights._ROWS_COMPARED", 5)
    import_model(tied(tmp_path, np.copy), str(tmp_path / "checkpoints"), ModelConfig())
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(UserError, match="has other values"):
        import_model(tied(tmp_path, last_number), str(tmp_path / "other"), ModelConfig())
