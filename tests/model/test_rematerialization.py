"""What a backward pass computes again changes no gradient, and what it keeps by name is what is named."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.model.config import ACTIVATIONS, ModelConfig
from sc2jax.model.params import abstract_params, init_params, parameter_table
from sc2jax.model.transformer import _rematerialized, forward
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

MODEL = ModelConfig(
    vocab_size=24,
    context_length=16,
    embed_dim=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    window=6,
    rope_theta=100.0,
    init_stddev=0.2,
    compute_dtype="float32",
)
TOKENS = jax.random.randint(jax.random.key(1), (8, 16), 0, 24)


def named(kept=(), offloaded=(), **changes):
    return dataclasses.replace(
        MODEL, rematerialization="named", kept_activations=kept, offloaded_activations=offloaded, **changes
    )


def gradient(model, mesh=None):
    def total(params):
        return jnp.sum(jnp.sin(forward(params, TOKENS, model, mesh=mesh)))

    return jax.jit(jax.grad(total))


@pytest.fixture(scope="module")
def params():
    return init_params(parameter_table(MODEL), jax.random.key(0))


@pytest.fixture(scope="module")
def expected(params):
    return gradient(MODEL)(params)


CHOICES = {
    "dots": dataclasses.replace(MODEL, rematerialization="dots"),
    "full": dataclasses.replace(MODEL, rematerialization="full"),
    "named, none": named(),
    "kept": named(("q", "k", "v", "attention_output")),
    "all kept": named(ACTIVATIONS),
    "offloaded": named(offloaded=("layer_input", "mlp_up")),
    "both": named(("attention_output", "mlp_down"), ("mlp_hidden", "q")),
    "all offloaded": named(offloaded=ACTIVATIONS),
    "the kernel for TPUs": named(("attention_output",), attention="pallas"),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_are_those_of_keeping_everything(choice, params, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), gradient(CHOICES[choice])(params), expected
    )


@pytest.mark.parametrize("offloaded", [(), ("q", "mlp_up")], ids=["kept", "offloaded"])
def test_gradients_are_the_same_on_a_mesh(offloaded, params, expected):
    mesh = create_mesh(MeshConfig(fsdp=2, sequence=2, tensor=2))
    found = gradient(named(("attention_output",), offloaded), mesh)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def saved(model):
    """How many elements, other than parameters, the forward pass leaves for the backward pass of each layer."""
    abstract = abstract_params(parameter_table(model))

    def total(params):
        return jnp.sum(forward(params, TOKENS, model))

    forward_pass = jax.make_jaxpr(lambda params: jax.vjp(total, params))(abstract)
    # What the scan over the layers stacks.
    stacked = [
        variable.aval.shape
        for equation in forward_pass.jaxpr.eqns
        if equation.primitive.name == "scan"
        for variable in equation.outvars[equation.params["num_carry"] :]
    ]
    return sum(int(np.prod(shape[1:])) for shape in stacked)


def test_each_name_keeps_what_it_names():
    """Beside the residual stream, which is always left: the elements of each activation by the model's shape."""
    tokens, D, F, N, K, H = TOKENS.size, 16, 64, 4, 2, 4
    elements = {
        "layer_input": 0,  # kept in any case
        "q": N * H, "k": K * H, "v": K * H, "attention_output": N * H, "attention_projection": D,
        "mlp_up": F, "mlp_hidden": F,
        "mlp_down": 0,  # nothing needs it but the sum that the next layer begins with
    }  # fmt: skip
    assert set(elements) == set(ACTIVATIONS)
    least = saved(named())
    assert least >= tokens * D
    for name, size in elements.items():
        assert saved(named((name,))) - least == tokens * size, name


def test_dots_keep_products_and_attention():
    """Queries, keys, values, what is attended, projected and computed in the MLP, but not its activation."""
    tokens, D, F, N, K, H = TOKENS.size, 16, 64, 4, 2, 4
    dots = dataclasses.replace(MODEL, rematerialization="dots")
    assert saved(dots) == saved(
        named(("q", "k", "v", "attention_output", "attention_projection", "mlp_up", "mlp_down"))
    )
    assert saved(dots) - saved(named()) == tokens * (N * H + 2 * K * H + N * H + D + F)


def test_a_device_without_its_host_s_memory_is_refused():
    device = SimpleNamespace(
        device_kind="chip", addressable_memories=lambda: [SimpleNamespace(kind="device"), SimpleNamespace(kind="other")]
    )
    with pytest.raises(
        UserError, match=r"pinned_host, and chip has device, other; name them in model\.kept_activations"
    ):
        _rematerialized(lambda: None, named(offloaded=("q",)), device)
    _rematerialized(lambda: None, named(("q",)), device)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"kept_activations": ("q",)}, "name q, but with model.rematerialization=none they do nothing"),
        ({"rematerialization": "named", "kept_activations": ("x",)}, "must be one of layer_input, q, "),
        ({"rematerialization": "named", "kept_activations": ("q", "v", "q")}, "name q twice"),
        (
            {"rematerialization": "named", "kept_activations": ("q",), "offloaded_activations": ("v", "q")},
            "name q twice",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(changes, hint):
    with pytest.raises(UserError, match=re.escape(hint)):
        dataclasses.replace(MODEL, **changes)
