"""Low-rank adapters in the format of `peft` (LoRA): read onto a model that is here, and written for others.

A folder holds adapter_config.json and adapter_model.safetensors, whose tensors have the names of the modules that they
are added to. What `peft` can do beside plain LoRA, or in another place than a linear layer, is refused by name. Dropout
of adapters is left out: it plays a part in training alone.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from sc2jax import storage
from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.fingerprints import Index, block_sum, widen
from sc2jax.checkpoint.streamed import save_streamed
from sc2jax.errors import UserError
from sc2jax.interop.folder import find_file, path_in
from sc2jax.interop.tensors import DTYPES, Tensor, TensorFile, read_header, read_layout, write_file
from sc2jax.interop.weights import refuse_other_sums, streamed_parameter, tensor_parameters, tensor_rows
from sc2jax.json_files import read_json
from sc2jax.model.adapters import A, B, adapter_table
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.model.params import Table, parameter_table
from sc2jax.progress import progress

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_MODEL = "adapter_model.safetensors"

_REMEDY = "get it again from where it came"

_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "use_dora": (False,),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "layers_to_transform": (None, []),
    "layer_replication": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    "use_qalora": (False,),
    "use_bdlora": (False, None),
    **dict.fromkeys(
        ("alora_invocation_tokens", "arrow_config", "kasa_config", "megatron_config", "monteclora_config"), (None,)
    ),
    # The others change the weights that the adapters are added to.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
"""What a key of adapter_config.json may be, where it is there."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters and not a whole model."""
    return find_file(folder, ADAPTER_CONFIG) is not None


def read_adapter_config(folder: Path, model: ModelConfig) -> AdapterConfig:
    """What adapters of a model a folder describes. Which layers have some, its tensors say, not its patterns of names.

    Raises:
        UserError: the folder holds no adapters, or other ones than plain LoRA of linear layers.
    """
    path = path_in(folder, ADAPTER_CONFIG)
    values = read_json(str(path), dict[str, Any], _REMEDY)
    wrong = [
        f"{key} is {values[key]!r}, not {' or '.join(map(repr, allowed))}"
        for key, allowed in _PLAIN.items()
        if key in values and values[key] not in allowed
    ]
    rank, alpha = (_number(values, key, wrong) for key in ("r", "lora_alpha"))
    if wrong:
        raise UserError(f"{path} describes adapters of a kind that is not read: {'; '.join(wrong)}")
    targets = tuple(_targets(_read_file(folder), model))
    scale = math.sqrt(rank) if values.get("use_rslora") else 1.0  # rank-stabilised: alpha / sqrt(rank)
    try:
        return AdapterConfig(int(rank), alpha * scale, targets)
    except UserError as error:
        raise UserError(f"{path} describes adapters that are not read: {error}") from error


def _number(values: Mapping[str, Any], key: str, wrong: list[str]) -> float:
    value = values.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    wrong.append(f"{key} is {value!r}, not a number above 0")
    return 1.0


def _read_file(folder: Path) -> TensorFile:
    path = find_file(folder, ADAPTER_MODEL)
    if path is None:
        raise UserError(f"{folder} holds no {ADAPTER_MODEL}; adapters in other formats are not read")
    try:
        return read_header(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); {_REMEDY}") from error


def _targets(file: TensorFile, model: ModelConfig) -> list[str]:
    """The layers for which the file has any tensor."""
    names = {tensor.name for tensor in file.tensors}
    every = tensor_parameters(adapter_table(parameter_table(model), AdapterConfig(rank=1)))
    return sorted({parameter.path[-2] for name, (parameter, _) in every.items() if name in names})


def import_adapters(
    source: Path, checkpoints_folder: str, model: ModelConfig, adapters: AdapterConfig, key: str
) -> dict[str, int]:
    """Converts a folder of `peft` into the checkpoint of step 0, which holds the adapters alone; its fingerprints.

    Raises:
        UserError: tensors are missing, extra, misshapen or not finite.
    """
    table = adapter_table(parameter_table(model), adapters)
    expected = {name: parameter.hf_shape for name, (parameter, _) in tensor_parameters(table).items()}
    (file,) = read_layout(source, expected, {}, ADAPTER_CONFIG, ADAPTER_MODEL)
    tensors = {tensor.name: (file, tensor) for tensor in file.tensors}
    bar = progress(total=len(tensors), desc="convert", unit="tensor")
    arrays = {parameter.path: streamed_parameter(parameter, source, tensors, bar.update) for parameter in table}
    with bar:
        return save_streamed(checkpoints_folder, 0, key, arrays)


def export_adapters(
    checkpoints_folder: str, step: int, model: ModelConfig, adapters: AdapterConfig, target: Path, dtype: str
) -> TensorFile:
    """Writes the adapters of a checkpoint as a folder that `peft` reads.

    Raises:
        UserError: the checkpoint is damaged, or a number is too large for the type.
    """
    parameters = tensor_parameters(adapter_table(parameter_table(model), adapters))
    header_name = next(name for name, kind in DTYPES.items() if kind.name == dtype)
    tensors = tuple(Tensor(name, header_name, parameter.hf_shape) for name, (parameter, _) in parameters.items())
    file = TensorFile(ADAPTER_MODEL, tensors, {"format": "pt"})
    checkpoints = Checkpoints(checkpoints_folder)
    sums: dict[str, int] = {}

    def rows(tensor: Tensor) -> Iterator[np.ndarray]:
        parameter, layer = parameters[tensor.name]
        return tensor_rows(parameter, layer, checkpoints, step, DTYPES[tensor.dtype], sums)

    try:
        write_file(target, file, rows)
        refuse_other_sums(checkpoints, checkpoints_folder, step, sums)
    finally:
        checkpoints.close()
    storage.write_whole(str(target / ADAPTER_CONFIG), _adapter_config_json(adapters, parameter_table(model)))
    return file


def _adapter_config_json(adapters: AdapterConfig, table: Table) -> bytes:
    modules = {entry.path[-2]: entry.hf_name.split(".")[-2] for entry in table if entry.path[-1] == "kernel"}
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": adapters.rank,
        "lora_alpha": int(adapters.alpha) if adapters.alpha.is_integer() else adapters.alpha,
        "lora_dropout": 0.0,
        "target_modules": [modules[name] for name in adapters.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
    }
    return (json.dumps(dict(sorted(values.items())), indent=2) + "\n").encode()


@dataclasses.dataclass(frozen=True)
class StoredAdapters:
    """The adapters of a checkpoint: they are small, so that all of them are read at once."""

    checkpoints: str
    step: int
    config: AdapterConfig

    def products(self, table: Table) -> Callable[[tuple[str, ...], Index], np.ndarray | None]:
        """What they add to a part of a parameter of a model's table, float32; None where they add nothing.

        Raises:
            UserError: the checkpoint is damaged.
        """
        arrays, scale = self._read(table), self.config.alpha / self.config.rank
        inputs = {entry.path: len(entry.sides[0]) for entry in table if entry.path[-1] == "kernel"}

        def product(path: tuple[str, ...], index: Index) -> np.ndarray | None:
            if (*path[:-1], A) not in arrays or path not in inputs:
                return None
            layer, sides = index[0], index[1:]
            into, out = sides[: inputs[path]], sides[inputs[path] :]
            a, b = arrays[(*path[:-1], A)][(layer, *into)], arrays[(*path[:-1], B)][(layer, slice(None), *out)]
            return np.stack([np.tensordot(*pair, axes=1) for pair in zip(a, b * np.float32(scale), strict=True)])

        return product

    def _read(self, table: Table) -> dict[tuple[str, ...], np.ndarray]:
        checkpoints = Checkpoints(self.checkpoints)
        sums: dict[str, int] = {}
        arrays: dict[tuple[str, ...], np.ndarray] = {}
        try:
            for entry in adapter_table(table, self.config):
                whole = tuple(slice(0, size) for size in entry.shape)
                store = checkpoints.open_array(self.step, entry.path)
                array = checkpoints.read_block(self.step, entry.path, store, whole)
                sums["/".join(entry.path)] = block_sum(array, whole, entry.shape) % 2**32
                arrays[entry.path] = widen(array)
            refuse_other_sums(checkpoints, self.checkpoints, self.step, sums)
        finally:
            checkpoints.close()
        return arrays
