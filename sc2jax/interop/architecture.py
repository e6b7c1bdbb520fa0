"""The model's shape in Hugging Face's config.json: both its styles are read, and what is written serves both."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sc2jax.errors import UserError
from sc2jax.interop.folder import find_file
from sc2jax.json_files import decode_json, read_json
from sc2jax.model.config import ModelConfig
from sc2jax.settings import fitted

CONFIG = "config.json"

# Our field: its key in config.json and the value that transformers takes where the key is missing.
_FIELDS: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 49152),
    "context_length": ("max_position_embeddings", 4096),
    "embed_dim": ("hidden_size", 3072),
    "num_layers": ("num_hidden_layers", 30),
    "num_heads": ("num_attention_heads", 24),
    "num_kv_heads": ("num_key_value_heads", 2),
    "mlp_dim": ("intermediate_size", 12288),
    "window": ("sliding_window", None),
    "norm_epsilon": ("norm_epsilon", 1e-5),
    "init_stddev": ("initializer_range", 0.018042),
    "tie_embeddings": ("tie_word_embeddings", True),
    "embedding_dropout": ("embedding_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
    "residual_dropout": ("residual_dropout", 0.0),
}
_HEAD_DIM: dict[str, tuple[str, Any]] = {"head_dim": ("head_dim", None)}
"""The same for a field that is only written where it does not follow from the others."""

_MAY_BE_NULL = ("window", "head_dim")

_FIXED: dict[str, Any] = {"model_type": "starcoder2", "hidden_act": "gelu_pytorch_tanh", "use_bias": True}
_FIXED_ONCE: dict[str, Any] = {"norm_type": "layer_norm", "mlp_type": "default"}
"""Keys for which StarCoder2 has only one value, and such keys that newer config files no longer have."""

_NOT_ZERO = ("vocab_size", "mlp_dim", "window", "head_dim")
"""Fields whose 0 means in our config what config.json writes out, or leaves out."""

_ROPE_THETA = 10000.0
"""The base that transformers uses where none is given."""

_DTYPE_KEYS = ("dtype", "torch_dtype")
"""The type of the weights, as transformers from 5 on and before it write it; both read either."""

_REMEDY = "get it again from where it came"


def read_architecture(folder: Path, how: ModelConfig) -> ModelConfig:
    """The shape that a folder's config.json describes; how it is computed (types, rematerialization) comes from `how`.

    Raises:
        UserError: there is no config.json, it is damaged, or it describes another architecture.
    """
    path = find_file(folder, CONFIG)
    if path is None:
        raise UserError(f"there is no {folder / CONFIG}; give the folder of a model in Hugging Face's format")
    values = read_json(str(path), dict[str, Any], _REMEDY)
    wrong = [
        f"{key} is {values[key]!r}, not {only!r}"
        for key, only in (_FIXED | _FIXED_ONCE).items()
        if values.get(key, only) != only
    ]
    fields: dict[str, Any] = {}
    for name, (key, default) in (_FIELDS | _HEAD_DIM).items():
        value = values.get(key, default)
        if name in _MAY_BE_NULL and value is None:
            fields[name] = 0
            continue
        try:
            fields[name] = fitted(key, getattr(how, name), value)
        except UserError as error:
            wrong.append(str(error))
        else:
            wrong += [f"{key} is 0"] if name in _NOT_ZERO and not value else []
    fields["rope_theta"] = _rope_theta(values, wrong)
    if wrong:
        raise UserError(f"{path} describes what is no StarCoder2 model: {'; '.join(wrong)}")
    try:
        return dataclasses.replace(how, **fields)
    except UserError as error:  # out of the range that our own config has for it
        raise UserError(f"{path} describes what is no StarCoder2 model: {error}") from error


def _rope_theta(values: Mapping[str, Any], wrong: list[str]) -> float:
    """The rotary base: a key of its own in the older style, inside `rope_parameters` since transformers 5.

    transformers 5 reads `rope_scaling`, the older name, instead of `rope_parameters` where it holds anything, and the
    key of its own where the base is not in what it reads.
    """
    theta = values.get("rope_theta", _ROPE_THETA)
    for key in ("rope_parameters", "rope_scaling"):
        parameters = values.get(key) or {}
        if not isinstance(parameters, Mapping):
            wrong.append(f"{key} is {parameters!r}, not an object")
            continue
        kind = parameters.get("rope_type", parameters.get("type", "default"))
        is_nested = any(isinstance(value, Mapping) for value in parameters.values())  # other ones for some layers
        if kind != "default" or is_nested or parameters.get("partial_rotary_factor") not in (None, 1.0):
            wrong.append(f"{key} is {parameters!r}, not of type 'default'")
        if parameters:
            theta = parameters.get("rope_theta", values.get("rope_theta", _ROPE_THETA))
    if values.get("partial_rotary_factor") not in (None, 1.0):
        wrong.append(f"partial_rotary_factor is {values['partial_rotary_factor']!r}, not 1.0")
    try:
        return fitted("rope_theta", _ROPE_THETA, theta)
    except UserError as error:
        wrong.append(str(error))
        return _ROPE_THETA


def with_dtype(config: bytes, where: str, dtype: str) -> bytes:
    """An imported config.json for weights of another type: nothing else of it changes, known here or not.

    Raises:
        UserError: it is damaged.
    """
    values = decode_json(config, dict[str, Any], where, _REMEDY)
    keys = [key for key in _DTYPE_KEYS if key in values] or _DTYPE_KEYS[-1:]
    return _json(values | dict.fromkeys(keys, dtype))


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def write_architecture(model: ModelConfig, dtype: str, end_of_text: int) -> bytes:
    """The config.json of a model, as versions of transformers before and after 5 read it alike."""
    values = {key: getattr(model, name) for name, (key, _) in _FIELDS.items()}
    values["sliding_window"] = model.window or None
    if model.head_dim * model.num_heads != model.embed_dim:
        values["head_dim"] = model.head_dim
    values |= {
        "architectures": ["Starcoder2ForCausalLM"],
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "rope_theta": model.rope_theta,
        "rope_parameters": {"rope_theta": model.rope_theta, "rope_type": "default"},
        _DTYPE_KEYS[-1]: dtype,
        "use_cache": True,
    }
    return _json(dict(sorted((values | _FIXED).items())))
