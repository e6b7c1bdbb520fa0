"""A step is compiled with the options of the TPUs that it is for, and with none elsewhere."""

import dataclasses
from typing import Any

import jax
import pytest

from sc2jax.errors import UserError
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import parameter_table
from sc2jax.parallel.chips import GENERATIONS
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.plan.slices import find_slice
from sc2jax.training.config import TrainingConfig
from sc2jax.training.step import compile_train_step


@pytest.fixture
def mesh_of(tpu_compiler):
    return lambda name: create_mesh(MeshConfig(), find_slice(name).devices_of())


@pytest.fixture
def options_of_step(monkeypatch, model, training):
    """What `jax.jit` is told for the step itself, before which nothing is compiled but a try of its options."""
    jit = jax.jit
    told: list[Any] = []

    def recording(function, **arguments):
        told.append(arguments.get("compiler_options"))
        return jit(function, **arguments)

    def options(mesh, *changes):
        settings = dataclasses.replace(training, compiler_options=changes)
        monkeypatch.setattr(jax, "jit", recording)
        told.clear()
        loss = next_token_loss(model, training.loss_chunk, mesh)
        compile_train_step(parameter_table(model), loss, settings, mesh, row_length=model.context_length, seed=0)
        assert told == ([told[-1]] * 2 if told[-1] else [None])
        return told[-1]

    return options


@pytest.mark.parametrize(
    ("name", "generation"), [("v5e-8", "v5e"), ("v5p-16", "v5p"), ("v6e-8", "v6e"), ("tpu7x-8", "tpu7x")]
)
def test_a_step_for_tpus_is_compiled_with_their_options(name, generation, mesh_of, options_of_step):
    tpu = GENERATIONS[generation].tpu
    assert tpu is not None and tpu.compiler_options
    assert options_of_step(mesh_of(name)) == tpu.compiler_options


def test_options_of_the_config_are_added(mesh_of, options_of_step):
    found = options_of_step(mesh_of("v5e-8"), "xla_tpu_scoped_vmem_limit_kib=65536")
    own = GENERATIONS["v5e"].tpu
    assert own is not None
    assert found == {**own.compiler_options, "xla_tpu_scoped_vmem_limit_kib": "65536"}


def test_a_step_without_options_has_none(mesh_of, options_of_step):
    assert options_of_step(mesh_of("tpu7x-8"), "xla_tpu_scoped_vmem_limit_kib=") is None


def test_a_step_for_cpus_is_compiled_with_none(options_of_step):
    mesh = create_mesh(MeshConfig())
    assert options_of_step(mesh) is None
    assert options_of_step(mesh, "xla_tpu_scoped_vmem_limit_kib=65536") is None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("xla_foo=true", r"No such compile option: 'xla_foo'"),
        ("xla_tpu_scoped_vmem_limit_kib=much", r"Failed to parse 'much' into flag xla_tpu_scoped_vmem_limit_kib"),
    ],
)
def test_an_option_that_the_compiler_does_not_know_is_refused(option, said, mesh_of, options_of_step):
    mesh = mesh_of("v5e-8")
    with pytest.raises(
        UserError, match=rf"TPU v5 lite refuses an option: .*{said}.*training\.compiler_options \(NAME="
    ):
        options_of_step(mesh, option)


def test_another_fault_of_the_compiler_is_no_fault_of_the_options(mesh_of, options_of_step):
    """Here VMEM beyond what 64 bits count, which it tries to give."""
    mesh = mesh_of("v5e-8")
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        options_of_step(mesh, "xla_tpu_scoped_vmem_limit_kib=1000000000000000000")


@pytest.mark.parametrize(
    "option",
    ["xla_foo", "--xla_foo=true", "=true", "xla foo=1", "xla_foo=a b", "", "xla_é=1", "a\n=1", "a=1\n", "a=b=c"],
)
def test_a_malformed_option_is_refused(option):
    with pytest.raises(UserError) as error:
        TrainingConfig(compiler_options=("xla_tpu_a=1", option))
    assert str(error.value) == (
        f"training.compiler_options has {option!r}; each must be NAME=VALUE, without dashes, as "
        "xla_tpu_scoped_vmem_limit_kib=65536, or NAME= to take away the chip's own"
    )


def test_an_option_named_twice_is_refused():
    with pytest.raises(UserError) as error:
        TrainingConfig(compiler_options=("xla_a=1", "xla_b=1", "xla_a="))
    assert str(error.value) == "training.compiler_options names xla_a more than once"
    assert TrainingConfig(compiler_options=("xla_a=1", "xla_b=", "xla_c=x")).compiler_options[1] == "xla_b="
