"""Arrays of a checkpoint restored by Orbax, but one at a time: all of them may not fit into this machine."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath


class StoredArrays:
    """The arrays of a part of a checkpoint, as Orbax describes them.

    Whatever is damaged, Orbax may raise any exception.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._folder, self._handler = folder, ocp.PyTreeCheckpointHandler()
        described = self._handler.metadata(folder).tree
        paths, self._structure = jax.tree_util.tree_flatten_with_path(described)
        self._arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): array for path, array in paths}

    @property
    def names(self) -> list[str]:
        """The path of each array."""
        return list(self._arrays)

    def restore(self, name: str) -> jax.Array:
        """One array, on one device."""
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        item: list[Any]
        args: list[Any]
        item, args = [ocp.PLACEHOLDER] * len(self._arrays), [ocp.RestoreArgs()] * len(self._arrays)
        index, array = self.names.index(name), self._arrays[name]
        item[index] = jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)
        args[index] = ocp.ArrayRestoreArgs(sharding=place)
        wanted = ocp.args.PyTreeRestore(self._structure.unflatten(item), restore_args=self._structure.unflatten(args))
        return jax.tree_util.tree_leaves(self._handler.restore(self._folder, args=wanted))[index]
