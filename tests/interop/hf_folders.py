"""Folders in Hugging Face's format, written with the library itself."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

TINY: dict[str, Any] = {
    "model_type": "starcoder2",
    "architectures": ["Starcoder2ForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "sliding_window": 8,
    "rope_theta": 12345.5,
    "tie_word_embeddings": False,
    "residual_dropout": 0.1,
    "hidden_act": "gelu_pytorch_tanh",
    "use_bias": True,
}


BESIDE = ("LICENSE", "NOTICE", "README.md", "chat_template.jinja", "special_tokens_map.json", "tokenizer_config.json")
"""Files that belong to a model whatever the type of its weights."""


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of the released format, written out here once more, so that the table has an oracle."""
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        linear = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d)}
        linear |= {"self_attn.o_proj": (d, d), "mlp.c_fc": (f, d), "mlp.c_proj": (d, f)}
        for name, shape in linear.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{prefix}{name}.weight": (d,), f"{prefix}{name}.bias": (d,)}
    shapes |= {"model.norm.weight": (d,), "model.norm.bias": (d,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def random_bits(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    """Numbers with random bits: NaN of every kind, infinities and the tiniest among them."""
    itemsize = np.dtype(dtype).itemsize
    size = int(np.prod(shape)) * itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)


def finite_bits(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    """The same with a negative 0 in place of whatever is not finite."""
    numbers = random_bits(shape, dtype, seed)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(numbers), numbers, np.array(-0.0, dtype))


def small_numbers(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def write_folder(
    folder: Path,
    config: dict[str, Any] = TINY,
    *,
    dtypes: Sequence[Any] = (ml_dtypes.bfloat16,),
    files: int = 1,
    values: Callable[[tuple[int, ...], Any, int], np.ndarray] = small_numbers,
) -> dict[str, np.ndarray]:
    """Writes config, tokenizer and weights; tensors take their types by turns, and so do they the files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"any": "content"}')
    for name in BESIDE:
        (folder / name).write_bytes(f"\ufeffof {name}\r\n".encode())
    (folder / "generation_config.json").write_text('{"bos_token_id": 0}')
    (folder / "notes.txt").write_text("not kept")
    tensors = {
        name: values(shape, dtypes[place % len(dtypes)], place)
        for place, (name, shape) in enumerate(tensor_shapes(config).items())
    }
    if files == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return tensors
    weight_map = {name: f"model-{place % files + 1:05}-of-{files:05}.safetensors" for place, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 123}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors
