"""One of two processes that save together, each with two devices.

    python saving_process.py NUMBER PORT FOLDER

Saves steps 1, 2 and 3. FOLDER/small holds the number of a process and how long its files may be while step 2 is saved;
0: it can make no folder then. Writes what it found of each save to FOLDER/NUMBER.json.
"""

import errno
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress


def main(number: int, port: str, folder: Path) -> None:
    """Saves three times."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number)
    mesh = Mesh(np.array(jax.devices()), ("d",))
    split, whole = NamedSharding(mesh, PartitionSpec(None, "d")), NamedSharding(mesh, PartitionSpec())

    def state(step: int) -> tuple[dict, dict]:
        return {"kernel": jnp.arange(720_000.0).reshape(2, 400, 900) * step, "scale": jnp.ones(4)}, {"count": step}

    make = jax.jit(state, out_shardings=({"kernel": split, "scale": whole}, {"count": whole}))
    who, longest = map(int, (folder / "small").read_text().split())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(str(folder / "checkpoints"), 2)
    found, mkdir = [], ocp.path.atomicity.async_path.mkdir

    async def refuse(path: object, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    for step in (1, 2, 3):
        is_small = number == who and step == 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest if longest and is_small else soft, hard))
        ocp.path.atomicity.async_path.mkdir = refuse if is_small and not longest else mkdir
        params, rest = make(step)
        started = time.monotonic()
        checkpoints.save(Progress(step, "key"), params, rest, {"kernel": True, "scale": False})
        try:
            checkpoints.wait()
            raised = ""
        except OSError as error:
            raised = str(error)
        found.append({"raised": raised, "told": checkpoints.failed(), "seconds": time.monotonic() - started})
    (folder / f"{number}.json").write_text(json.dumps(found))
    checkpoints.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
