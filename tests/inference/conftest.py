"""One toy model and a tokenizer of bytes, shared by the room."""

import dataclasses

import jax
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params, init_params, parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def toy_config() -> ModelConfig:
    return ModelConfig(
        vocab_size=50,
        context_length=16,
        embed_dim=16,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        window=6,
        rope_theta=100.0,
        init_stddev=0.4,
        compute_dtype="float32",
    )


@pytest.fixture(scope="session")
def toy_params(toy_config: ModelConfig) -> Params:
    return init_params(parameter_table(toy_config), jax.random.key(2))


@pytest.fixture(scope="session")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The special tokens and a token for each byte, by GPT-2's names for bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]
    words = [token.literal for token in Special] + characters
    tokenizer = tokenizers.Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([tokenizers.AddedToken(token.literal, special=True) for token in Special])
    path = str(tmp_path_factory.mktemp("bytes") / "tokenizer.json")
    tokenizer.save(path)
    return load_tokenizer(path)


@pytest.fixture(scope="session")
def byte_model(toy_config: ModelConfig, byte_tokenizer: Tokenizer) -> LoadedModel:
    """A random model of many more tokens than its tokenizer has."""
    config = dataclasses.replace(toy_config, vocab_size=4096)
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    return LoadedModel(init_params(parameter_table(config), jax.random.key(3)), config, byte_tokenizer, mesh)
