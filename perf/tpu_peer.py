"""MaxText's training step of StarCoder2's shapes, compiled for a TPU slice without one, to be read beside ours.

In an environment of its own (Python 3.12, Linux on x86-64), with the fewest packages that MaxText's compiler asks for:

    uv venv --python 3.12 PEER
    uv pip install --python PEER/bin/python --no-deps maxtext==0.2.4
    uv pip install --python PEER/bin/python jax==0.10.2 libtpu==0.0.42.1 flax==0.12.8 optax==0.2.8 qwix==0.1.8 \\
        aqtp==0.9.0 tokamax==0.0.15 drjax==0.2.1 orbax-checkpoint==0.12.8 grain==0.2.18 pathwaysutils==0.1.13 \\
        transformers==5.24.0 tiktoken sentencepiece omegaconf pydantic ml-collections absl-py jinja2 pillow sympy \\
        msgspec
    export PYTHONPATH=$PWD
    PEER/bin/python perf/tpu_peer.py --size=15b --slice=v5p-512 --layers=4 --rows=2 --data=2 --out=DIR
    PEER/bin/python perf/tpu_peer.py --size=15b --slice=v6e-256 --layers=4 --rows=1 --data=2 --out=DIR
    PEER/bin/python perf/tpu_peer.py --size=7b --slice=v5e-256 --layers=4 --rows=1 --data=8 --out=DIR

Writes `DIR/15b-v5p-512-4.txt`, the program that the TPU's compiler made, and beside it as JSON what it was made of and
its memory, which it prints too. `--flags="--xla_tpu_scoped_vmem_limit_kib=49152"` adds to the compiler flags that
MaxText recommends for the chip, and wins over them; `KEY=VALUE` behind the options sets any key of its `base.yml`.

What is equal: widths, heads, vocabulary, tied or not, one ungated activation, rotary positions, biases of the query,
key and value projections, rows of 4096 tokens attended to in whole, float32 weights and AdamW, bfloat16 compute,
gradients clipped. What MaxText has no key for in a block with few key and value heads, and leaves out: biases of the
attention's output and of the MLP, and LayerNorm (it has RMSNorm). All of these save it time. Its attention always
compares segment ids.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from configs.starcoder2 import SIZES, get_config
from sc2jax.config import to_settings
from sc2jax.plan.environment import ENVIRONMENT

FUSED_ALL_GATHERS = (
    "--xla_tpu_enable_async_collective_fusion=true --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true "
    "--xla_tpu_enable_async_collective_fusion_multiple_steps=true --xla_tpu_overlap_compute_collective_tc=true "
    "--xla_enable_async_all_gather=true"
)
OVERLAPPED_DATA_PARALLELISM = (
    "--xla_tpu_enable_data_parallel_all_reduce_opt=true --xla_tpu_data_parallel_opt_different_sized_ops=true"
)


@dataclasses.dataclass(frozen=True)
class Recommended:
    """What MaxText's own scripts for dense models set on a chip."""

    flags: str
    attention_blocks: dict[str, int]  # rows of queries in a tile of each pass; the others are base.yml's 512


RECOMMENDED = {
    # src/maxtext/configs/tpu/v5p/llama2_7b.sh and 64b.sh
    "v5p": Recommended(
        f"{FUSED_ALL_GATHERS} {OVERLAPPED_DATA_PARALLELISM} --xla_tpu_megacore_fusion_allow_ags=false "
        "--xla_enable_async_collective_permute=true --xla_tpu_enable_ag_backward_pipelining=true",
        {},
    ),
    # src/maxtext/configs/tpu/v5e/16b.sh and 32b.sh
    "v5e": Recommended(f"{FUSED_ALL_GATHERS} {OVERLAPPED_DATA_PARALLELISM}", {}),
    # src/maxtext/configs/tpu/v6e/llama2_7b_4096.sh
    "v6e": Recommended(
        f"{FUSED_ALL_GATHERS} --xla_tpu_scoped_vmem_limit_kib=98304",
        {"sa_block_q": 1024, "sa_block_q_dkv": 2048, "sa_block_q_dq": 2048},
    ),
}


def base_keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keys of MaxText's `base.yml` that make the model, the mesh and the step."""
    model = to_settings(get_config(f"{arguments.size},stage=base")).model
    recommended = RECOMMENDED[_chip(arguments.slice)]
    return {
        "decoder_block": "qwen2",  # of the blocks with grouped queries, the one with biases and global attention
        "attention_bias": True,
        "base_emb_dim": model.embed_dim,
        "base_num_decoder_layers": arguments.layers,
        "base_num_query_heads": model.num_heads,
        "base_num_kv_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "base_mlp_dim": model.mlp_dim,
        "mlp_activations": "[gelu]",
        "vocab_size": model.vocab_size,
        "logits_via_embedding": model.tie_embeddings,
        "normalize_embedding_logits": False,
        "use_iota_embed": True,
        "attention": "flash",
        "enable_dropout": False,
        "max_target_length": model.context_length,
        "per_device_batch_size": arguments.rows,
        "remat_policy": "minimal_with_context",
        "opt_type": "adamw",
        "ici_data_parallelism": arguments.data,
        "ici_fsdp_parallelism": -1,
        "allow_split_physical_axes": True,
        **recommended.attention_blocks,
        "compile_topology": arguments.slice,
        "compile_topology_num_slices": 1,
        "compile_xla_flags": f"{recommended.flags} {arguments.flags}",
        "dataset_type": "synthetic",
        "enable_checkpointing": False,
        "skip_jax_distributed_system": True,
        "jax_cache_dir": "",
        "run_name": "peer",
        "base_output_directory": str(arguments.out),
        **dict(arguments.settings),
    }


def compile_step(keys: dict[str, Any]) -> Any:
    """The compiled training step, by the calls that `maxtext.trainers.pre_train.train_compile` makes."""
    import jax
    from flax.linen import partitioning
    from maxtext.configs import pyconfig  # pyright: ignore[reportMissingImports]
    from maxtext.trainers.pre_train import train, train_compile  # pyright: ignore[reportMissingImports]
    from maxtext.utils import maxtext_utils, sharding  # pyright: ignore[reportMissingImports]

    jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    base = Path(pyconfig.__file__).with_name("base.yml")
    config = pyconfig.initialize(["", str(base), *(f"{key}={value}" for key, value in keys.items())])
    train_compile.validate_config(config)
    mesh = train_compile.get_topology_mesh(config)
    shaped, shaped_by_name, state_shardings, _, model = train_compile.get_shaped_inputs(mesh, config)
    parameter_shardings, state_shardings = sharding.maybe_update_params_sharding_with_opt(config, state_shardings)
    step, in_shardings, out_shardings, static, donated = maxtext_utils.get_functional_train_with_signature(
        train.train_step,
        sharding.get_input_data_sharding(config, mesh),
        sharding.build_zero1_input_state_mesh_shardings(config, state_shardings, parameter_shardings),
        model,
        config,
        parameter_shardings,
    )
    rules = partitioning.axis_rules(config.logical_axis_rules)
    return train_compile.jit_and_compile(
        step, shaped, shaped_by_name, mesh, in_shardings, out_shardings, static, donated, config, rules
    )


def memory_gib(compiled: Any) -> dict[str, float]:
    """GiB of a device that the step takes, by what they hold; arguments are state and batch."""
    memory = compiled.memory_analysis()
    kinds = ("argument", "output", "alias", "temp", "generated_code", "host_temp")
    sizes = {kind: getattr(memory, f"{kind}_size_in_bytes") for kind in kinds}
    return {name: size / 2**30 for name, size in {**sizes, "peak": memory.peak_memory_in_bytes}.items()}


def parse(command_line: list[str]) -> argparse.Namespace:
    """The command line; a slice of a chip that is not in `RECOMMENDED` ends the program with their names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--slice", type=_slice, required=True, help="by Google's name, such as v5p-512")
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--rows", type=int, default=1, help="rows of 4096 tokens a chip")
    parser.add_argument("--data", type=int, default=1, help="copies of the state; each is spread over the others")
    parser.add_argument("--flags", default="", help="compiler flags beside those that MaxText recommends")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("settings", nargs="*", type=_setting, metavar="KEY=VALUE", help="keys of MaxText's base.yml")
    return parser.parse_args(command_line)


def _chip(name: str) -> str:
    return name.partition("-")[0]


def _slice(name: str) -> str:
    if _chip(name) not in RECOMMENDED:
        raise argparse.ArgumentTypeError(f"{name} is no slice of {', '.join(RECOMMENDED)}")
    return name


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def main() -> None:
    """Compiles one step, and writes its program and what it takes."""
    arguments = parse(sys.argv[1:])
    arguments.out.mkdir(parents=True, exist_ok=True)
    keys = base_keys(arguments)

    start = time.monotonic()
    compiled = compile_step(keys)
    report = {
        "versions": {name: importlib.metadata.version(name) for name in ("maxtext", "jax", "libtpu", "flax")},
        "config": keys,
        "compile_seconds": time.monotonic() - start,
        "memory_gib": memory_gib(compiled),
    }
    path = arguments.out / f"{arguments.size}-{arguments.slice}-{arguments.layers}.txt"
    path.write_text(compiled.as_text(), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report["memory_gib"]), f"{report['compile_seconds']:.0f} s", path)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT, DECOUPLE_GCLOUD="TRUE")  # the latter: without Google Cloud's packages
    rng = "--xla_tpu_spmd_rng_bit_generator_unsafe=true"  # as MaxText's compiler sets it
    os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {rng}"
    main()
