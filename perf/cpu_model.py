"""Training and decoding on a CPU beside transformers with torch, eager and compiled, in one run.

    python perf/cpu_model.py [--peer-python=/path/to/python/with/torch/and/transformers] [--rounds=3]

The model: 26 M parameters (hidden 512, 8 layers, 8 heads, 2 key-value heads, vocabulary 8192), float32, random weights.
Training: sequence 512, batch 4, one step is forward, backward, clipping and AdamW. Decoding: greedy, 128 tokens after a
prompt of 64. Each contender has its own process and they take turns, so that a machine that slows down slows all of
them; the best round counts. Prints tokens per second and ratios to ours.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

SHAPE = {"hidden": 512, "layers": 8, "heads": 8, "kv_heads": 2, "vocab": 8192}
LENGTH, BATCH, PROMPT, NEW = 512, 4, 64, 128
TASKS = ("train", "decode 1", "decode 16")


def ours() -> dict[str, Callable[[], int]]:
    """Our training step and generation; each call does some work and returns its tokens."""
    import jax
    import numpy as np

    from sc2jax.inference.generate import generate
    from sc2jax.model.config import ModelConfig
    from sc2jax.model.loss import next_token_loss
    from sc2jax.model.params import parameter_table
    from sc2jax.parallel.config import MeshConfig
    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.config import TrainingConfig
    from sc2jax.training.step import compile_train_step, init_state

    model = ModelConfig(
        vocab_size=SHAPE["vocab"],
        context_length=LENGTH,
        embed_dim=SHAPE["hidden"],
        num_layers=SHAPE["layers"],
        num_heads=SHAPE["heads"],
        num_kv_heads=SHAPE["kv_heads"],
        compute_dtype="float32",
        scan_unroll=SHAPE["layers"],
    )
    training = TrainingConfig(steps=10_000, batch_size=BATCH)
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, SHAPE["vocab"], (BATCH, LENGTH + 1)).astype(np.int32)
    batch = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segment_ids": np.ones((BATCH, LENGTH), np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1)),
        "weights": np.ones((BATCH, LENGTH), np.float32),
    }
    table, loss = parameter_table(model), next_token_loss(model, training.loss_chunk, mesh)
    step = compile_train_step(table, loss, training, mesh, row_length=LENGTH, seed=0)
    states = [init_state(table, training, mesh, seed=0)]
    params = init_state(table, training, mesh, seed=1).params

    def train() -> int:
        for _ in range(2):
            states[0], _ = step(states[0], batch)
        jax.block_until_ready(states[0])
        return 2 * BATCH * LENGTH

    def decode(batch_size: int) -> int:
        prompts = rng.integers(0, SHAPE["vocab"], (batch_size, PROMPT)).tolist()
        generate(params, model, prompts, max_new_tokens=NEW, stop_ids=frozenset(), batch_size=batch_size)
        return batch_size * NEW

    return {"train": train, "decode 1": lambda: decode(1), "decode 16": lambda: decode(16)}


def theirs(compiled: bool) -> dict[str, Callable[[], int]]:
    """The same with transformers; compiled with torch.compile, decoding with its static cache."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import Starcoder2Config, Starcoder2ForCausalLM  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    config = Starcoder2Config(
        vocab_size=SHAPE["vocab"],
        hidden_size=SHAPE["hidden"],
        intermediate_size=4 * SHAPE["hidden"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=SHAPE["heads"],
        num_key_value_heads=SHAPE["kv_heads"],
        max_position_embeddings=16384,
        sliding_window=4096,
        tie_word_embeddings=True,
        residual_dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = Starcoder2ForCausalLM(config).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    forward = torch.compile(model) if compiled else model
    tokens = torch.randint(0, SHAPE["vocab"], (BATCH, LENGTH + 1))

    def train() -> int:
        model.train()
        for _ in range(2):
            logits = forward(tokens[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return 2 * BATCH * LENGTH

    def decode(batch_size: int) -> int:
        model.eval()
        prompts = torch.randint(0, SHAPE["vocab"], (batch_size, PROMPT))
        options = {"cache_implementation": "static"} if compiled else {}
        with torch.no_grad():
            out = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                pad_token_id=0,
                **options,
            )
        return (out.shape[1] - PROMPT) * batch_size

    return {"train": train, "decode 1": lambda: decode(1), "decode 16": lambda: decode(16)}


CONTENDERS = {"sc2jax": ours, "torch eager": lambda: theirs(False), "torch compiled": lambda: theirs(True)}


def serve(name: str) -> None:
    """Answers each task read from standard input with its tokens per second."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what libraries print is not taken for an answer
    tasks = CONTENDERS[name]()
    for task in TASKS:
        tasks[task]()  # compile and warm up
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        tokens = tasks[line.strip()]()
        print(json.dumps(tokens / (time.perf_counter() - started)), file=answers, flush=True)


def main() -> None:
    """Lets the contenders take turns and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with torch and transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    processes = {}
    for name in CONTENDERS:
        python = sys.executable if name == "sc2jax" else arguments.peer_python
        processes[name] = subprocess.Popen(
            [python, __file__, f"--serve={name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # One after the other: compiling side by side would only be slower.
        if processes[name].stdout.readline() != "ready\n":
            sys.exit(f"{name} did not start; see its message above")
    best: dict[str, dict[str, float]] = {task: dict.fromkeys(processes, 0.0) for task in TASKS}
    for _ in range(arguments.rounds):
        for task in TASKS:
            for name, process in processes.items():
                print(task, file=process.stdin, flush=True)
                best[task][name] = max(best[task][name], float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    print(
        f"{'tokens/s':<10}" + "".join(f"{name:>16}" for name in processes) + f"{'ours/eager':>12}{'ours/compiled':>15}"
    )
    for task, speeds in best.items():
        mine, eager, compiled = speeds.values()
        row = "".join(f"{speed:>16,.0f}" for speed in speeds.values())
        print(f"{task:<10}{row}{mine / eager:>12.2f}{mine / compiled:>15.2f}")


if __name__ == "__main__":
    main()
