"""How long a save keeps the training thread, beside a plain copy of the same state to host memory.

    python perf/save.py [--devices N] [--gibibytes G] [--rounds R] [--folder DIR]

Each round takes a step that overwrites the state, copies the state (`copy`: every shard into fresh numpy memory), then
saves it (`save`: until the training thread goes on; the disk is waited for afterwards and not counted). On CPU devices
the runtime lends out its own memory instead of copying it, and copies when the next step would overwrite what is still
being written; so `save` alone would flatter, and `and after` adds what the step after the save takes longer than
others. The first round, which pays for fresh memory and compiling, is left out; the ratio is of medians.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LAYERS, MLP = 8, 4096


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--gibibytes", type=float, default=1.0, help="of the state: parameters and two moments")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk that is written to")
    return parser.parse_args()


def timed(work: Callable[..., T], *given: Any) -> tuple[float, T]:
    """The seconds of some work, and what it gave."""
    started = time.perf_counter()
    done = work(*given)
    return time.perf_counter() - started, done


def main() -> None:
    """Prints the table."""
    asked = arguments()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={asked.devices}"
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sc2jax.checkpoint.checkpoints import Checkpoints
    from sc2jax.checkpoint.progress import Progress
    from sc2jax.parallel import rules
    from sc2jax.parallel.config import MeshConfig
    from sc2jax.parallel.mesh import create_mesh

    embed = int(asked.gibibytes * 2**30 / (3 * 4 * LAYERS * MLP) / 128) * 128
    shape = (LAYERS, embed, MLP)
    mesh = create_mesh(MeshConfig(data=1, fsdp=asked.devices))
    place = rules.sharding(mesh, (rules.LAYERS, rules.EMBED, rules.MLP), shape)
    names = ("params", "mu", "nu")

    def init() -> dict[str, Any]:
        return {name: jax.random.normal(jax.random.key(seed), shape) for seed, name in enumerate(names)}

    def update(state: dict[str, Any]) -> dict[str, Any]:
        return jax.tree.map(lambda x: x * 0.99 + 1e-3, state)

    places = dict.fromkeys(names, place)
    step = jax.jit(update, in_shardings=(places,), out_shardings=places, donate_argnums=0)

    def copy(state: dict[str, jax.Array]) -> list[np.ndarray]:
        shards = [shard for array in state.values() for shard in array.addressable_shards if shard.replica_id == 0]
        return [np.array(shard.data, copy=True) for shard in shards]

    folder = tempfile.mkdtemp(dir=asked.folder)
    checkpoints = Checkpoints(folder, 1)
    state = jax.block_until_ready(jax.jit(init, out_shardings=places)())
    size = sum(array.nbytes for array in state.values())
    seconds: dict[str, list[float]] = {"step": [], "copy": [], "save": [], "after": [], "disk": []}

    def run(state: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return jax.block_until_ready(step(state))

    def save(state: dict[str, jax.Array], number: int) -> None:
        moments = {"mu": state["mu"], "nu": state["nu"], "count": jnp.int32(number)}
        checkpoints.save(Progress(number, "key"), {"kernel": state["params"]}, moments, {"kernel": True})

    try:
        for number in range(asked.rounds + 1):
            taken: dict[str, float] = {}
            taken["step"], state = timed(run, state)
            taken["copy"], copied = timed(copy, state)
            del copied
            taken["save"], _ = timed(save, state, number)
            taken["after"], state = timed(run, state)
            taken["disk"], _ = timed(checkpoints.wait)
            for name, value in taken.items():
                seconds[name] += [value] if number else []
    finally:
        checkpoints.close()
        shutil.rmtree(folder)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    median["and after"] = median["save"] + max(0.0, median["after"] - median["step"])
    print(f"{size / 2**30:.2f} GiB on {asked.devices} CPU devices, medians of {asked.rounds} rounds, in seconds")
    for name in ("step", "copy", "save", "and after", "disk"):
        ratio = f"  {median[name] / median['copy']:.2f} of a copy" if name in ("save", "and after") else ""
        print(f"{name:>10} {median[name]:8.3f}{ratio}")


if __name__ == "__main__":
    main()
