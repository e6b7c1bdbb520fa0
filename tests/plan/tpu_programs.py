"""Compiles small programs with the TPU's compiler and prints, as JSON, their texts and what it says of them.

A process of its own, since libtpu keeps what it read of the environment.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

bfloat16, float32 = jnp.bfloat16, jnp.float32
DEVICES = topologies.get_topology_desc("v5e:2x2", "tpu", chip_config_name="default").devices
PRODUCTS: dict[str, tuple[str, Sequence[int], Sequence[int]]] = {
    "matrices": ("ik,kj->ij", (384, 256), (256, 640)),
    "transposed": ("ki,jk->ji", (256, 384), (640, 256)),
    "batch": ("bik,bkj->bij", (3, 128, 256), (3, 256, 384)),
    "two batches": ("abik,abkj->abij", (2, 3, 128, 128), (2, 3, 128, 256)),
    "attention's output": ("btnh,nhd->btd", (2, 128, 4, 128), (4, 128, 256)),
    "attention's input": ("btd,dnh->btnh", (2, 128, 256), (256, 4, 128)),
    "weight gradient": ("btd,btnh->dnh", (2, 128, 256), (2, 128, 4, 128)),
}


def _spec(shape: Sequence[int], kind: Any = bfloat16, sharding: Any = None) -> jax.ShapeDtypeStruct:
    alone = jax.sharding.SingleDeviceSharding(DEVICES[0])
    return jax.ShapeDtypeStruct(tuple(shape), kind, sharding=sharding or alone)


def _compiled(function: Callable, *arguments: Any) -> dict[str, Any]:
    compiled = jax.jit(function).lower(*arguments).compile()
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None
    assert costs is not None
    return {
        "text": compiled.as_text(),
        "flops": costs.get("flops", 0),
        "argument_bytes": memory.argument_size_in_bytes,
    }


def _convolution(strides: tuple[int, int], padding: Any, left: tuple[int, int], right: tuple[int, int]) -> Callable:
    return lambda x, k: jax.lax.conv_general_dilated(
        x, k, strides, padding, left, right, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _layers(weights, x):
    """Five layers scanned, whose inputs are kept in a stack."""
    return jax.lax.scan(lambda x, weight: (jnp.tanh(x @ weight), x), x, weights)


def _kernel(x):
    def double(x_ref, out_ref):
        out_ref[...] = x_ref[...] * 2

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(double, out_shape=shape, name="double", metadata={"a": "}}\n%x = f32[] ", "b": '"{('})(x) + 1


def _mesh() -> Mesh:
    return Mesh(np.array(DEVICES).reshape(2, 2), ("data", "fsdp"))


def _sharded() -> dict[str, Any]:
    mesh = _mesh()

    def placed(*axes: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*axes))

    def loss(weight, x):
        return (jnp.tanh(x @ weight).astype(float32) ** 2).sum()

    weight, x = placed("fsdp"), placed(("data", "fsdp"))
    return _compiled(jax.grad(loss), _spec((512, 512), bfloat16, weight), _spec((1024, 512), bfloat16, x))


def _permuted() -> dict[str, Any]:
    mesh = _mesh()
    spec = PartitionSpec(("data", "fsdp"))
    ring = [(device, (device + 1) % 4) for device in range(4)]

    def turned(x):
        return jax.lax.ppermute(x, ("data", "fsdp"), ring) + 1

    return _compiled(
        jax.shard_map(turned, mesh=mesh, in_specs=spec, out_specs=spec),
        _spec((1024, 512), bfloat16, NamedSharding(mesh, spec)),
    )


def main() -> None:
    programs = {
        f"product: {name}": _compiled(lambda x, y, e=equation: jnp.einsum(e, x, y), _spec(left), _spec(right))
        for name, (equation, left, right) in PRODUCTS.items()
    }
    images, kernel = _spec((2, 17, 19, 16)), _spec((3, 5, 16, 32))
    programs["product: convolution"] = _compiled(_convolution((2, 3), ((1, 2), (3, 0)), (1, 1), (2, 1)), images, kernel)
    programs["product: dilated"] = _compiled(_convolution((1, 2), ((2, 1), (4, 4)), (2, 3), (1, 2)), images, kernel)
    programs["layers"] = _compiled(_layers, _spec((5, 128, 128)), _spec((256, 128)))
    odd = [_spec((3, 5, 7)), _spec((130,), float32), _spec((9, 129), jnp.int8), _spec((1, 1), bool), _spec((33, 1))]
    programs["odd shapes"] = _compiled(lambda *x: jnp.stack([each.astype(float32).sum() for each in x]), *odd)
    programs["kernel"] = _compiled(_kernel, _spec((256, 256), float32))
    programs["sharded"] = _sharded()
    programs["permuted"] = _permuted()
    json.dump(programs, sys.stdout)


if __name__ == "__main__":
    main()
