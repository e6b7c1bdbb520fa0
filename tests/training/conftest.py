"""A toy model, how it is trained, and its feed."""

import pytest
from counting_feed import CountingFeed

from sc2jax.model.config import ModelConfig
from sc2jax.training.config import TrainingConfig


@pytest.fixture(scope="session")
def model() -> ModelConfig:
    return ModelConfig(
        vocab_size=32,
        context_length=16,
        embed_dim=16,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        window=8,
        rope_theta=100.0,
        init_stddev=0.1,
        compute_dtype="float32",
    )


@pytest.fixture(scope="session")
def training() -> TrainingConfig:
    return TrainingConfig(
        steps=8,
        batch_size=8,
        peak_learning_rate=1e-2,
        warmup_tokens=2 * 8 * 16,
        log_every=2,
        checkpoint_every=2,
        checkpoints_kept=2,
    )


@pytest.fixture(scope="session")
def make_feed(model, training):
    return lambda rows=None: CountingFeed(
        list(range(training.batch_size)) if rows is None else rows,
        training.batch_size,
        model.context_length,
        model.vocab_size,
    )
