"""A tiny random model with StarCoder2's whole vocabulary, made from a seed: too large to be stored.

Imported by make_golden.py, in an environment with torch, and by the test, in one without.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

EXPECTED = Path(__file__).parent / "completion.json"

CONFIG: dict[str, Any] = {
    "model_type": "starcoder2",
    "architectures": ["Starcoder2ForCausalLM"],
    "vocab_size": 49152,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "sliding_window": 16,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "bfloat16",
}
PROMPTS = (
    {"prompt": "def fibonacci(n: int) -> int:\n    # Überall größer als 0 😀", "suffix": ""},
    {
        "prompt": "class Stack:\n    def push(self, item):",
        "suffix": "\n    def pop(self):\n        return self.items.pop()\n",
    },
)
NEW_TOKENS = 24


def write_model(folder: Path, tokenizer: Path, seed: int) -> None:
    """Writes config, bfloat16 weights and the tokenizer in Hugging Face's format."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(tokenizer, folder / "tokenizer.json")
    rng = np.random.default_rng(seed)
    d, f, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], 8
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (CONFIG["vocab_size"], d)}
    for layer in range(CONFIG["num_hidden_layers"]):
        linear = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d)}
        linear |= {"self_attn.o_proj": (d, d), "mlp.c_fc": (f, d), "mlp.c_proj": (d, f)}
        linear |= {"input_layernorm": (d,), "post_attention_layernorm": (d,)}
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in linear.items()}
    shapes["model.norm"] = (d,)
    tensors = {}
    for name, shape in shapes.items():
        mean = 1.0 if len(shape) == 1 else 0.0
        tensors[f"{name}.weight"] = (mean + 0.4 * rng.standard_normal(shape)).astype(ml_dtypes.bfloat16)
        if name != "model.embed_tokens":
            tensors[f"{name}.bias"] = (0.4 * rng.standard_normal(shape[:1])).astype(ml_dtypes.bfloat16)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
