"""Checkpoints with Orbax: saved in the background, restored exactly onto any mesh, parameters alone or everything.

A checkpoint has three parts: `params`, `optimizer` and `progress`, a small JSON with the position of the feed, the key
of the run, and fingerprints of the arrays. Orbax commits a checkpoint by renaming its finished folder, so a
half-written one is never taken for complete; the fingerprints find one that was damaged later.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is saved beside the arrays: `key` names the run's config and inputs."""

    step: int
    key: str
    feed_position: np.ndarray


class Checkpoints:
    """The checkpoints of one run, in folders named by their steps."""

    def __init__(self, folder: str, kept: int) -> None:
        """Opens the folder, which is made if it is missing; the newest `kept` checkpoints stay."""
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=kept, cleanup_tmp_directories=True),
            item_names=("params", "optimizer", "progress"),
        )

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def read_key(self, step: int) -> str:
        """The key of the run that saved a checkpoint.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return self._restore(step, ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]["key"]

    def save(self, progress: Progress, params: Any, optimizer_state: Any) -> None:
        """Saves in the background; waits first for the save before it.

        Raises:
            OSError: the disk is full, for example; the checkpoint is then not committed.
        """
        described = {
            "step": progress.step,
            "key": progress.key,
            "feed_position": progress.feed_position.tolist(),
            "fingerprints": {"params": fingerprint(params), "optimizer": fingerprint(optimizer_state)},
        }
        self._manager.save(
            progress.step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                optimizer=ocp.args.StandardSave(optimizer_state),
                progress=ocp.args.JsonSave(described),
            ),
        )

    def restore(self, step: int, abstract_params: Any, abstract_optimizer: Any) -> tuple[Progress, Any, Any]:
        """The checkpoint of a step, placed as the abstract arrays' shardings say.

        Raises:
            UserError: it is damaged or has another shape.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract_params),
            optimizer=ocp.args.StandardRestore(abstract_optimizer),
            progress=ocp.args.JsonRestore(),
        )
        restored = self._restore(step, args)
        described = restored["progress"]
        for name in ("params", "optimizer"):
            self._verify(step, name, restored[name], described)
        position = np.asarray(described["feed_position"], np.int64)
        return Progress(described["step"], described["key"], position), restored["params"], restored["optimizer"]

    def restore_params(self, step: int, abstract_params: Any) -> Any:
        """The parameters alone.

        Raises:
            UserError: the checkpoint is damaged or has another shape.
        """
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract_params), progress=ocp.args.JsonRestore())
        restored = self._restore(step, args)
        self._verify(step, "params", restored["params"], restored["progress"])
        return restored["params"]

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._manager.restore(step, args=args)
        except Exception as error:  # Orbax raises this very class for an array that cannot be read.
            raise self._damaged(step, (str(error).strip() or repr(error)).splitlines()[0][:300]) from error

    def _verify(self, step: int, name: str, tree: Any, described: Any) -> None:
        found, expected = fingerprint(tree), described["fingerprints"][name]
        wrong = sorted(path for path in expected if found.get(path) != expected[path])
        if wrong:
            raise self._damaged(
                step, f"{len(wrong)} arrays of its {name} are not what was saved, {wrong[0]} among them"
            )

    def _damaged(self, step: int, what: str) -> UserError:
        older = [other for other in self._manager.all_steps() if other < step]
        rest = f"to go on from step {max(older)}" if older else "to start anew"
        return UserError(f"the checkpoint {self._folder}/{step} cannot be restored: {what}; delete that folder {rest}")

    def wait(self) -> None:
        """Returns when everything is on disk; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.close()


def fingerprint(tree: Any) -> dict[str, int]:
    """A 32-bit sum of each array's bits, weighted by place: exact, and the same on any mesh.

    Integer sums do not depend on the order of addition, so no gathering is needed however the array is sharded.
    """
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    sums = jax.device_get(_weighted_sums(jax.tree_util.tree_leaves(tree)))
    return dict(zip(paths, (int(value) for value in sums), strict=True))


@jax.jit
def _weighted_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_weighted_sum(leaf) for leaf in leaves]


def _weighted_sum(array: jax.Array) -> jax.Array:
    unsigned = jnp.dtype(f"uint{array.dtype.itemsize * 8}")
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for dimension, size in enumerate(array.shape):
        place = place * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    # Odd multipliers: every bit of every element reaches the sum.
    return jnp.sum(bits * (place * jnp.uint32(2654435762) + jnp.uint32(1)), dtype=jnp.uint32)
