"""config.json in its styles, and what is refused."""

import json

import pytest
from hf_folders import TINY

from sc2jax.config import load_config, to_settings
from sc2jax.errors import UserError
from sc2jax.interop.architecture import read_architecture, write_architecture
from sc2jax.model.config import ModelConfig

HOW = ModelConfig(compute_dtype="float16", rematerialization="dots", scan_unroll=2)

# What the released model's repository holds, written with transformers 4.37.
RELEASED_3B = {
    "architectures": ["Starcoder2ForCausalLM"],
    "attention_dropout": 0.1,
    "bos_token_id": 0,
    "embedding_dropout": 0.1,
    "eos_token_id": 0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 3072,
    "initializer_range": 0.018042,
    "intermediate_size": 12288,
    "max_position_embeddings": 16384,
    "mlp_type": "default",
    "model_type": "starcoder2",
    "norm_epsilon": 1e-05,
    "norm_type": "layer_norm",
    "num_attention_heads": 24,
    "num_hidden_layers": 30,
    "num_key_value_heads": 2,
    "residual_dropout": 0.1,
    "rope_theta": 999999.4420358813,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.37.0.dev0",
    "use_bias": True,
    "use_cache": True,
    "vocab_size": 49152,
}


def read(folder, values) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(values))
    return read_architecture(folder, HOW)


def test_the_released_config_is_the_shipped_one(tmp_path):
    found = read(tmp_path, RELEASED_3B)
    shipped = to_settings(load_config("starcoder2:3b")).model
    for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
        assert getattr(found, name) == 0.1  # the rates are released, pretraining used none
    same = ("context_length", "embed_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "mlp_dim", "window")
    for name in (*same, "vocab_size", "rope_theta", "norm_epsilon", "init_stddev", "tie_embeddings"):
        assert getattr(found, name) == getattr(shipped, name), name
    assert (found.compute_dtype, found.rematerialization, found.scan_unroll) == ("float16", "dots", 2)


def test_both_styles_of_the_rotary_base(tmp_path):
    bare = {name: value for name, value in TINY.items() if name != "rope_theta"}
    newer = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    assert read(tmp_path, bare | newer).rope_theta == 5e5
    assert read(tmp_path, bare | {"rope_theta": 5e5, "rope_scaling": None}).rope_theta == 5e5
    assert read(tmp_path, bare | {"rope_theta": 4e5} | newer).rope_theta == 5e5
    assert read(tmp_path, bare | {"rope_theta": 4e5, "rope_parameters": None}).rope_theta == 4e5
    assert read(tmp_path, bare).rope_theta == 1e4
    whole = {"rope_parameters": {"rope_theta": 3e4, "partial_rotary_factor": 1.0}}
    assert read(tmp_path, bare | whole).rope_theta == 3e4


# What transformers 5.24 makes of them: its own function, run on each.
@pytest.mark.parametrize(
    ("values", "theta"),
    [
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_theta": 5e5}}, 1e4),
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_theta": 5e5}, "rope_theta": 7e4}, 7e4),
        ({"rope_scaling": {"type": "default", "rope_theta": 3.0}, "rope_parameters": {"rope_theta": 5e5}}, 3.0),
        ({"rope_scaling": {}, "rope_parameters": {"rope_theta": 5e5}, "rope_theta": 7e4}, 5e5),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "default"}, "rope_theta": 7e4}, 7e4),
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {}, "rope_theta": 7e4}, 7e4),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": None}}, 1e4),
    ],
)
def test_the_rotary_base_is_that_of_transformers(tmp_path, values, theta):
    bare = {name: value for name, value in TINY.items() if name != "rope_theta"}
    assert read(tmp_path, bare | values).rope_theta == theta


def test_no_window_and_keys_left_out(tmp_path):
    assert read(tmp_path, TINY | {"sliding_window": None}).window == 0
    assert read(tmp_path, {"model_type": "starcoder2"}).num_layers == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', not 'starcoder2'"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"use_bias": False}, "use_bias is False"),
        ({"norm_type": "rms_norm"}, "norm_type is 'rms_norm'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is .*linear"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_parameters is .*yarn"),
        ({"rope_parameters": "yarn"}, "rope_parameters is 'yarn', not an object"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "rope_parameters is .*0.5"),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "rope_scaling is .*0.5"),
        ({"rope_theta": "big"}, "rope_theta is 'big'"),
        ({"rope_theta": 0}, "model.rope_theta is 0.0; it must be at least 1 "),
        ({"rope_parameters": {"rope_theta": -1e4}}, "model.rope_theta is -10000.0; it must be at least 1 "),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters is .*full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, not 1.0"),
        ({"rope_parameters": {"rope_theta": float("nan")}}, "config.json is damaged: .*malformed"),
        ({"norm_epsilon": float("inf")}, "config.json is damaged: .*malformed"),
        ({"initializer_range": 10**400}, "config.json "),
        ({"initializer_range": True}, "initializer_range is True; it must be a number"),
        ({"rope_theta": True}, "rope_theta is True; it must be a number"),
        ({"norm_epsilon": -1.0}, "config.json describes .*model.norm_epsilon is -1.0; it must be at least"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"sliding_window": 0}, "sliding_window is 0"),
        ({"sliding_window": False}, "sliding_window is False; it must be an integer"),
        ({"head_dim": "8"}, "head_dim is '8'; it must be an integer"),
        ({"head_dim": 0}, "head_dim is 0$"),
        ({"head_dim": -2}, "model.head_dim is -2; it must be at least 0 "),
        ({"num_hidden_layers": "3"}, "num_hidden_layers is '3'; it must be an integer"),
        ({"num_hidden_layers": 1001}, "model.num_layers is 1001; it must be at least 1 and at most 1,000"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1; it must be true or false"),
        ({"num_key_value_heads": 3}, "num_heads 4 is not a multiple of model.num_kv_heads 3"),
        ({"model_type": "llama", "hidden_act": "silu"}, "model_type .*; hidden_act"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_architectures_are_refused_with_all_that_differs(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, TINY | change)


def test_a_config_nested_without_end_is_damaged(tmp_path):
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(UserError, match=r"config\.json is damaged: .*recursion"):
        read_architecture(tmp_path, HOW)


@pytest.mark.parametrize(
    "change", [{}, {"window": 0}, {"num_kv_heads": 1}, {"head_dim": 8}, {"tie_embeddings": False}], ids=str
)
def test_what_is_written_is_read(tmp_path, change):
    model = ModelConfig(
        vocab_size=64, embed_dim=16, num_layers=2, num_heads=4, mlp_dim=40, **({"num_kv_heads": 2} | change)
    )
    (tmp_path / "config.json").write_bytes(write_architecture(model, "float32", 0))
    assert read_architecture(tmp_path, ModelConfig()) == model
