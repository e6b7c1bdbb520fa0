"""Conversion from Hugging Face's format and back, through the command."""

import dataclasses
import json
import shutil
import warnings
from pathlib import Path

import hf_folders
import jax
import ml_dtypes
import numpy as np
import pytest
import tokenizers
from hf_folders import TINY, finite_bits, random_bits, write_folder
from safetensors.numpy import load_file, save_file

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.fingerprints import fingerprint
from sc2jax.checkpoint.progress import Progress
from sc2jax.cli import run
from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.interop.config import ConvertConfig
from sc2jax.interop.convert import export_model, import_model
from sc2jax.interop.tensors import write_file
from sc2jax.interop.weights import cast
from sc2jax.model.config import Computation, ModelConfig
from sc2jax.model.params import abstract_params, init_params, parameter_table, stacked_mask
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import Manifest, commit, read_manifest, write_output
from sc2jax.runs.model_checkpoint import PARAMETERS
from sc2jax.runs.models import open_model
from sc2jax.runs.run import open_run
from sc2jax.settings import part
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.text.train_tokenizer import train_tokenizer

BF16, F16, F32 = ml_dtypes.bfloat16, np.float16, np.float32
MODEL = {"parameters": 1, "steps": 1, "tokens": 1}
"""Statistics of a model."""


def convert_in(source: Path, workdir: Path) -> None:
    run(["convert", f"--config.convert.from_huggingface={source}", f"--workdir={workdir}"])


def convert_out(target: Path, workdir: Path, *more: str) -> None:
    run(["convert", f"--config.convert.to_huggingface={target}", f"--workdir={workdir}", *more])


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("dtypes", [(BF16,), (F16,), (F32,), (BF16, F32, F16)], ids=["bf16", "fp16", "fp32", "mixed"])
def test_every_byte_comes_back(tmp_path, files, dtypes):
    source = tmp_path / "source"
    write_folder(source, dtypes=dtypes, files=files)
    convert_in(source, tmp_path / "run")
    convert_out(tmp_path / "back", tmp_path / "run")
    (source / "notes.txt").unlink()
    assert {path.name for path in source.iterdir()} == {path.name for path in (tmp_path / "back").iterdir()}
    for path in source.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
def test_any_finite_bits_come_back(tmp_path, dtype):
    write_folder(tmp_path / "source", dtypes=(dtype,), values=finite_bits)
    convert_in(tmp_path / "source", tmp_path / "run")
    convert_out(tmp_path / "back", tmp_path / "run")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (tmp_path / "source/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"num_key_value_heads": 1}, {"num_key_value_heads": 4}, {"tie_word_embeddings": True}, {"sliding_window": None}],
    ids=str,
)
def test_every_shape_of_attention_and_output_converts(tmp_path, change):
    tensors = write_folder(tmp_path / "source", TINY | change)
    convert_in(tmp_path / "source", tmp_path / "run")
    convert_out(tmp_path / "back", tmp_path / "run")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_tensors_lie_where_the_model_looks_for_them(tmp_path):
    tensors = write_folder(tmp_path / "source", dtypes=(F32,))
    imported = import_model(tmp_path / "source", str(tmp_path / "checkpoints"), ModelConfig())
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"), 1)
    mesh = create_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    params = checkpoints.restore_params(0, abstract_params(parameter_table(imported.model), mesh))
    checkpoints.close()
    x = np.random.default_rng(0).standard_normal(16).astype(F32)
    attention = params["layers"]["attention"]
    q = np.einsum("d,dnh->nh", x, attention["q"]["kernel"][1])
    expected = tensors["model.layers.1.self_attn.q_proj.weight"] @ x
    np.testing.assert_allclose(q.reshape(-1), expected, rtol=1e-5)
    o = np.einsum("nh,nhd->d", x.reshape(4, 4), attention["o"]["kernel"][2])
    np.testing.assert_allclose(o, tensors["model.layers.2.self_attn.o_proj.weight"] @ x, rtol=1e-5)
    np.testing.assert_array_equal(
        np.asarray(attention["k"]["bias"][0]).reshape(-1), tensors["model.layers.0.self_attn.k_proj.bias"]
    )
    np.testing.assert_array_equal(params["output"], tensors["lm_head.weight"])


def test_the_run_holds_what_other_verbs_need(tmp_path):
    write_folder(tmp_path / "source")
    convert_in(tmp_path / "source", tmp_path / "run")
    manifest = read_manifest(str(tmp_path / "run/train"))
    model = ModelConfig(**manifest.config["model"])
    assert (model.vocab_size, model.context_length, model.window, model.mlp_dim) == (64, 128, 8, 40)
    assert (model.rope_theta, model.tie_embeddings, model.residual_dropout) == (12345.5, False, 0.1)
    assert manifest.statistics["steps"] == 0
    tokenizer = read_manifest(str(tmp_path / "run/tokenizer")).outputs[0].path
    assert (tmp_path / "run/tokenizer" / tokenizer).read_bytes() == (tmp_path / "source/tokenizer.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["tokenizer", "train"]
    # The config beside it is a whole one, whatever the context of the config that it was converted with.
    saved = to_settings(load_config(str(tmp_path / "run/train/config.json"))).model
    assert dataclasses.replace(model, **dataclasses.asdict(part(saved, Computation))) == saved


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_trained_here_is_exported(tmp_path, dtype):
    config = {name: value for name, value in TINY.items() if name != "rope_theta"}
    model = ModelConfig(
        vocab_size=64,
        context_length=128,
        embed_dim=16,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        mlp_dim=40,
        window=8,
        rope_theta=777.0,
        tie_embeddings=False,
        init_stddev=0.3,
    )
    table = parameter_table(model)
    params = init_params(table, jax.random.key(3))
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"), 1)
    progress = Progress(5, "key")
    checkpoints.save(progress, params, {"count": np.zeros(1)}, stacked_mask(table))
    checkpoints.close()
    (tmp_path / "out").mkdir()
    wanted = ConvertConfig(export_dtype=dtype, max_file_bytes=4000)
    kept = {"tokenizer.model": b"content"}
    files = export_model(str(tmp_path / "checkpoints"), 5, model, kept, tmp_path / "out", wanted)
    assert (tmp_path / "out/tokenizer.model").read_bytes() == b"content"
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    tensors = {name: value for file in files for name, value in load_file(tmp_path / "out" / file.name).items()}
    assert {name: value.shape for name, value in tensors.items()} == hf_folders.tensor_shapes(config)
    up = np.asarray(params["layers"]["mlp"]["up"]["kernel"][1])
    np.testing.assert_array_equal(tensors["model.layers.1.mlp.c_fc.weight"], up.T.astype(dtype))
    # It is read again, config and index included.
    imported = import_model(tmp_path / "out", str(tmp_path / "again"), ModelConfig())
    assert imported.model == model
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 777.0


@pytest.fixture
def trained(tmp_path) -> ModelConfig:
    """A tiny model in `run`, as if it had been trained there, and a tokenizer in `own.model`."""
    texts = [Path(dataclasses.__file__).read_text(), Path(json.__file__).read_text()]
    (tmp_path / "own.model").write_bytes(train_tokenizer(texts, TokenizerConfig(vocab_size=512), seed=0))
    model = ModelConfig(vocab_size=512, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1)
    checkpoints = Checkpoints(str(tmp_path / "run/train/checkpoints"), 1)
    table = parameter_table(model)
    params = init_params(table, jax.random.key(0))
    progress = Progress(1, "key")
    checkpoints.save(progress, params, {"count": np.zeros(1)}, stacked_mask(table))
    checkpoints.close()
    config = {"model": dataclasses.asdict(model)}
    parameters = write_output(str(tmp_path / "run/train"), PARAMETERS, json.dumps(fingerprint(params)).encode())
    commit(str(tmp_path / "run/train"), Manifest("convert", {}, config, (parameters,), MODEL))
    return model


def test_a_tokenizer_in_the_current_folder_goes_with_the_model(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert_out(Path("out"), Path("run"), "--config.paths.tokenizer=own.model")
    assert (tmp_path / "out/tokenizer.model").read_bytes() == (tmp_path / "own.model").read_bytes()
    # transformers reads this one, with the class of tokenizers that takes it as it is.
    written = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    text = "def f(x):\n    return x  # \u00e9 \u2581"
    ids = load_tokenizer(str(tmp_path / "own.model")).encode_text(text)
    assert written.encode(text).ids == ids
    beside = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert beside["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written.token_to_id(beside["eos_token"]) == Special.END_OF_TEXT


def test_an_exported_model_is_read_again_with_its_own_tokenizer(tmp_path, trained):
    convert_out(tmp_path / "out", tmp_path / "run", f"--config.paths.tokenizer={tmp_path / 'own.model'}")
    convert_in(tmp_path / "out", tmp_path / "again")
    kept = read_manifest(str(tmp_path / "again/tokenizer")).outputs[0].path
    assert (tmp_path / "again/tokenizer" / kept).read_bytes() == (tmp_path / "own.model").read_bytes()
    convert_out(tmp_path / "out again", tmp_path / "again")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out again").iterdir())
    for name in names:
        assert (tmp_path / "out again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("config", "statistics"), [({}, MODEL), ({"model": {}}, {}), ({"model": {"unheard_of": 1}}, MODEL | {"steps": 0})]
)
def test_a_folder_of_another_stage_or_version_is_no_model(tmp_path, config, statistics):
    write_folder(tmp_path / "source")
    convert_in(tmp_path / "source", tmp_path / "run")
    commit(str(tmp_path / "run/train"), Manifest("curate", {}, config, (), statistics))
    with pytest.raises(UserError, match=r"describes no model of this version|lists no parameters"):
        convert_out(tmp_path / "out", tmp_path / "run")
    settings = to_settings(load_config("quickstart"))
    with pytest.raises(UserError, match=r"describes no model of this version|lists no parameters"):
        open_model(open_run(settings, str(tmp_path / "run")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "source"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda files: files[0].pop("tensors"),
        lambda files: files[0]["tensors"].pop(),
        lambda files: files[0]["tensors"][0].update(dtype="I8"),
        lambda files: files[0]["tensors"][0].update(shape=[1]),
        lambda files: files[0].update(name="../elsewhere.safetensors"),
        lambda files: files[0].update(name="/elsewhere.safetensors"),
        lambda files: files[0].update(name="config.json"),
        lambda files: files.append(files[0]),
        lambda files: files.append({"name": files[0]["name"], "tensors": [], "metadata": {}}),
        lambda files: files.append(3),
    ],
)
def test_a_damaged_layout_is_refused(tmp_path, damage):
    write_folder(tmp_path / "source")
    convert_in(tmp_path / "source", tmp_path / "run")
    path = tmp_path / "run/train/huggingface/tensors.json"
    files = json.loads(path.read_text())
    damage(files)
    rewrite(tmp_path / "run/train", "huggingface/tensors.json", json.dumps(files).encode())
    with pytest.raises(
        UserError, match=r"the kept tensors\.json is damaged: .*; convert the model again, or name a type"
    ):
        convert_out(tmp_path / "out", tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "source"]


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Exchanges a file as somebody would who knows how manifests are made."""
    manifest = read_manifest(str(folder))
    output = write_output(str(folder), name, content)
    outputs = tuple(output if other.path == name else other for other in manifest.outputs)
    commit(str(folder), dataclasses.replace(manifest, outputs=outputs))


def test_nested_json_and_endless_layers_are_refused(tmp_path):
    write_folder(tmp_path / "source", files=3)
    index = tmp_path / "source/model.safetensors.index.json"
    whole = index.read_text()
    index.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        convert_in(tmp_path / "source", tmp_path / "run")
    index.write_text(whole)
    (tmp_path / "source/config.json").write_text(json.dumps(TINY | {"num_hidden_layers": 10**9}))
    with pytest.raises(UserError, match=r"model\.num_layers is 1000000000; it must be at least 1 and at most 1,000"):
        convert_in(tmp_path / "source", tmp_path / "run")


def test_a_tensor_of_a_missing_file_that_lies_elsewhere_is_listed_once(tmp_path):
    write_folder(tmp_path / "source", files=3)
    first, second, third = sorted((tmp_path / "source").glob("*.safetensors"))
    moved, *others = load_file(third)
    save_file(load_file(second) | {moved: load_file(third)[moved]}, second)
    third.unlink()
    with pytest.raises(UserError) as caught:
        convert_in(tmp_path / "source", tmp_path / "run")
    message = str(caught.value)
    assert message.count(moved) == 1
    assert f"places elsewhere: {moved} in {second.name}" in message
    assert f"missing file {third.name}: {sorted(others)[0]}" in message
    assert first.name not in message


def test_numbers_that_a_type_cannot_hold_are_not_written_as_infinity(tmp_path):
    large = {65504.0: True, 65520.0: False}  # float16's largest number, and the least that rounds to infinity
    for number, fits in large.items():
        folder = tmp_path / str(number)
        write_folder(
            folder / "source", dtypes=(F32,), values=lambda shape, dtype, _, n=number: np.full(shape, n, dtype)
        )
        convert_in(folder / "source", folder / "run")
        if fits:
            convert_out(folder / "out", folder / "run", "--config.convert.export_dtype=float16")
            written = load_file(folder / "out/model.safetensors")
            assert all((tensor == number).all() for tensor in written.values())
            continue
        with pytest.raises(UserError, match=r"model\.embed_tokens\.weight holds numbers too large for float16"):
            convert_out(folder / "out", folder / "run", "--config.convert.export_dtype=float16")
        assert sorted(path.name for path in folder.iterdir()) == ["run", "source"]


def damaged_folders(folder: Path) -> dict[str, str]:
    """Damages a folder of three files in every way; returns what the message must say, by kind."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    first, second, third = (folder / name for name in names)
    tensors = load_file(first)
    taken = sorted(tensors)[:2]
    shapes = {name: tensor for name, tensor in tensors.items() if name not in taken}
    odd = sorted(shapes)[0]
    shapes[odd] = np.zeros((3, 5), BF16)
    shapes["model.layers.0.unknown"] = np.zeros(3, BF16)
    counted = sorted(shapes)[1]
    shapes[counted] = np.zeros(shapes[counted].shape, np.int32)
    save_file(shapes, first)
    second.write_bytes(second.read_bytes()[:-100])
    third.unlink()
    return {
        "missing tensors": taken[1],
        "misshapen tensors": f"{odd} is [3, 5], not",
        "extra tensors": "model.layers.0.unknown in",
        "tensors of a type other than BF16, F16, F32": f"{counted} is I32",
        "truncated tensors": f"in {second.name}",
        "tensors of the missing file": third.name,
    }


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_left(tmp_path):
    write_folder(tmp_path / "source", files=3)
    expected = damaged_folders(tmp_path / "source")
    with pytest.raises(UserError) as caught:
        convert_in(tmp_path / "source", tmp_path / "run")
    message = str(caught.value)
    for kind, example in expected.items():
        (line,) = [line for line in message.splitlines() if line.strip().startswith(kind)]
        assert example in line
    assert not (tmp_path / "run").exists()


def test_damage_that_shows_late_leaves_nothing_either(tmp_path, monkeypatch):
    write_folder(tmp_path / "source")
    reads = []

    def fail_in_the_middle(*args):
        reads.append(args)
        if len(reads) > 20:
            raise OSError(5, "Input/output error")
        return original(*args)

    from sc2jax.interop import weights

    original = weights.read_rows
    monkeypatch.setattr(weights, "read_rows", fail_in_the_middle)
    with pytest.raises(OSError, match="Input/output"):
        convert_in(tmp_path / "source", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    convert_in(tmp_path / "source", tmp_path / "run")

    chunk = next((tmp_path / "run/train/checkpoints/0/params/layers.mlp.up.kernel").glob("2.*"))
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    with pytest.raises(UserError, match="layers/mlp/up/kernel among them"):
        convert_out(tmp_path / "back", tmp_path / "run")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(UserError, match="layers/mlp/up/kernel cannot be read"):
        convert_out(tmp_path / "back", tmp_path / "run")
    chunk.unlink()
    with pytest.raises(UserError, match="layers/mlp/up/kernel cannot be read"):
        convert_out(tmp_path / "back", tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "source"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "there is no .*config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no .*safetensors file"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"abc"), "unreadable files: model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "unreadable files"),
    ],
)
def test_folders_that_are_none(tmp_path, change, message):
    write_folder(tmp_path / "source")
    change(tmp_path / "source")
    with pytest.raises(UserError, match=message):
        convert_in(tmp_path / "source", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folders_with_content_are_not_overwritten(tmp_path):
    write_folder(tmp_path / "source")
    convert_in(tmp_path / "source", tmp_path / "run")
    with pytest.raises(UserError, match="run/train holds a model already"):
        convert_in(tmp_path / "source", tmp_path / "run")
    with pytest.raises(UserError, match="exists and is not empty"):
        convert_out(tmp_path / "source", tmp_path / "run")
    assert (tmp_path / "source/README.md").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["--config.convert.from_huggingface=a", "--config.convert.to_huggingface=b"]]
)
def test_one_direction_is_named(tmp_path, arguments):
    with pytest.raises(UserError, match="name one folder"):
        run(["convert", f"--workdir={tmp_path}", *arguments])


@pytest.mark.parametrize("direction", ["from_huggingface", "to_huggingface"])
@pytest.mark.parametrize("url", ["unheard-of://x/y", "memory://x/y", "gs://x/y"])
def test_hugging_face_folders_are_local(tmp_path, direction, url):
    write_folder(tmp_path / "source")
    convert_in(tmp_path / "source", tmp_path / "run")
    workdir = tmp_path / ("run" if direction == "to_huggingface" else "other")
    with pytest.raises(UserError, match="name a local folder"):
        run(["convert", f"--config.convert.{direction}={url}", f"--workdir={workdir}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "source"]


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.layers.2.mlp.c_fc.bias", "model.embed_tokens.weight"])
def test_weights_that_are_not_finite_are_refused(tmp_path, dtype, value, name):
    write_folder(tmp_path / "source", dtypes=(dtype,))
    tensors = load_file(tmp_path / "source/model.safetensors")
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    save_file(tensors, tmp_path / "source/model.safetensors", {"format": "pt"})
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(UserError, match=rf"model\.safetensors: {name} holds numbers that are not finite"),
    ):
        convert_in(tmp_path / "source", tmp_path / "run")
    assert not list((tmp_path / "run/train").rglob("manifest.json"))
    assert not list((tmp_path / "run").rglob("checkpoints"))


def test_casting_is_exact_where_it_can_be_and_rounds_where_not():
    bits = random_bits((1000,), BF16, 0)
    np.testing.assert_array_equal(cast(cast(bits, np.dtype(F32)), np.dtype(BF16)).view(np.uint16), bits.view(np.uint16))
    numbers = np.random.default_rng(0).standard_normal(1000).astype(F32)
    np.testing.assert_array_equal(cast(numbers, np.dtype(BF16)), numbers.astype(BF16))
    np.testing.assert_array_equal(cast(numbers.astype(BF16), np.dtype(F16)), numbers.astype(BF16).astype(F16))


def test_files_are_those_that_transformers_would_load(tmp_path):
    write_folder(tmp_path / "source")
    save_file({"logits": np.zeros(3, F32)}, tmp_path / "source/other.safetensors")
    convert_in(tmp_path / "source", tmp_path / "run")
    convert_out(tmp_path / "back", tmp_path / "run")
    assert not (tmp_path / "back/other.safetensors").exists()


def test_a_file_is_what_the_header_says(tmp_path):
    from sc2jax.interop.tensors import Tensor, TensorFile

    file = TensorFile("x.safetensors", (Tensor("a", "F32", (2, 3)),), {})
    with pytest.raises(ValueError, match="a block of type float16"):
        write_file(tmp_path, file, lambda _: [np.zeros((2, 3), F16)])
    with pytest.raises(ValueError, match="12 bytes instead of 24"):
        write_file(tmp_path, file, lambda _: [np.zeros((1, 3), F32)])
