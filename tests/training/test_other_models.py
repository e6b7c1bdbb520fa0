"""The same trainer for other models: a token classifier, and low-rank adapters of a model that stays as it is."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import Parameter, count_params, frozen_table, init_params, parameter_table
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.loop import train
from sc2jax.training.metrics import read_metrics
from sc2jax.training.objective import Objective
from sc2jax.training.step import compile_train_step, init_state

LABELS, WIDTH, RANK = 4, 8, 2


class LabelFeed:
    """Rows of tokens labelled by their remainders; the last quarter of a row has wrong labels and counts nothing."""

    wait_seconds = 0.0

    def __init__(self, batch_size: int, length: int, vocab_size: int) -> None:
        self.shape, self.vocab_size, self.count = (batch_size, length), vocab_size, 0

    def __iter__(self):
        return self

    def __next__(self):
        tokens = np.random.default_rng(self.count).integers(0, self.vocab_size, self.shape).astype(np.int32)
        self.count += 1
        weights = np.ones(self.shape, np.float32)
        weights[:, self.shape[1] * 3 // 4 :] = 0.0
        return {"tokens": tokens, "labels": np.where(weights > 0, tokens % LABELS, 0), "weights": weights}

    def counts(self):
        return np.zeros((self.shape[0], 1), np.int64)

    def statistics(self, step, counts, before):  # noqa: ARG002
        return {"batches": step, "lacking": int(sum(counts))}

    def seek(self, step):
        self.count = step


def test_a_token_classifier_trains_on_a_mesh(tmp_path, training):
    vocab, length = 32, 16
    table = (
        Parameter(("embedding",), (vocab, WIDTH), (rules.VOCAB, rules.EMBED), 0.1, True),
        Parameter(("head", "kernel"), (WIDTH, LABELS), (rules.EMBED, rules.HEAD_DIM), 0.1, True),
        Parameter(("head", "bias"), (LABELS,), (rules.HEAD_DIM,), "zeros", False),
    )

    def loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = params["embedding"][batch["tokens"]] @ params["head"]["kernel"] + params["head"]["bias"][None, None]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), batch["labels"][..., None], axis=-1)[..., 0]
        return -jnp.sum(chosen * batch["weights"]), jnp.sum(batch["weights"])

    training = dataclasses.replace(training, steps=60, peak_learning_rate=0.1, checkpoint_every=30)
    mesh = create_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    feed = LabelFeed(training.batch_size, length, vocab)
    objective = Objective(table, loss, seed=1)
    result = train(feed, objective, training, mesh, row_length=length, folder=str(tmp_path), key="key")
    lines = read_metrics(str(tmp_path))
    assert abs(lines[0]["loss"] - np.log(LABELS)) < 0.2
    assert lines[-1]["loss"] < 0.1
    assert lines[-1]["tokens"] == 60 * training.batch_size * length * 3 // 4
    assert set(result.fingerprints) == {"embedding", "head/kernel", "head/bias"}


def test_low_rank_adapters_train_and_the_model_stays_as_it_is(model, training, make_feed):
    L, D, F = model.num_layers, model.embed_dim, model.mlp_dim
    table = (
        Parameter(("into",), (L, F, RANK), (rules.LAYERS, rules.MLP, rules.HEAD_DIM), 0.1, False),
        Parameter(("out",), (L, RANK, D), (rules.LAYERS, rules.HEAD_DIM, rules.EMBED), "zeros", False),
    )
    frozen = frozen_table(parameter_table(model), model.compute_dtype)
    base = init_params(frozen, jax.random.key(4))
    whole_loss = next_token_loss(model, training.loss_chunk)

    def adapted(params: Any, base: Any) -> Any:
        mlp = base["layers"]["mlp"]
        kernel = mlp["down"]["kernel"] + params["into"] @ params["out"]
        return base | {"layers": base["layers"] | {"mlp": mlp | {"down": mlp["down"] | {"kernel": kernel}}}}

    def loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return whole_loss(adapted(params, frozen), {}, batch, key)

    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    training = dataclasses.replace(training, steps=20, peak_learning_rate=0.1)
    state = init_state(table, training, mesh, seed=1, frozen=jax.tree.map(jnp.array, base))
    assert sum(array.size for array in jax.tree.leaves(state.params)) == count_params(table) == L * RANK * (D + F)
    step = compile_train_step(table, loss, training, mesh, row_length=model.context_length, seed=1, frozen=frozen)
    batch, losses = next(make_feed()), []
    for _ in range(20):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    jax.tree.map(np.testing.assert_array_equal, state.frozen, base)
    total, tokens = whole_loss(base, {}, batch, jax.random.key(0))
    np.testing.assert_allclose(losses[0], total / tokens, rtol=1e-5)  # adapters begin as no change at all
    assert losses[-1] < losses[0] - 0.3
