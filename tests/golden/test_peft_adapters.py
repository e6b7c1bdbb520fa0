"""Adapters that `peft` wrote give its logits here, apart and merged, and come back out as they were."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from sc2jax.errors import UserError
from sc2jax.interop.config import ConvertConfig
from sc2jax.interop.convert import export_model, import_model
from sc2jax.interop.peft import StoredAdapters, export_adapters, import_adapters, read_adapter_config
from sc2jax.model.adapters import adapter_table, with_adapters
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.model.params import Params, parameter_table
from sc2jax.model.transformer import forward, output_logits
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.runs.models import TrainedModel, restore_params, whole_params
from sc2jax.runs.starting_points import Origin

HERE = Path(__file__).parent
HOW = ModelConfig(compute_dtype="float32", attention="reference")
CASES = ("every_layer", "some_layers", "rank_stabilised")


class Case:
    """A golden case, its model and its adapters imported as checkpoints of step 0."""

    def __init__(self, name: str, folder: Path) -> None:
        self.source, self.folder = HERE / "adapters" / name, folder
        self.values = json.loads((self.source / "adapter_config.json").read_text())
        self.expected = load_file(self.source / "expected.safetensors")
        base = HERE / self.values["base_model_name_or_path"]
        self.model = import_model(base, str(folder / "base/checkpoints"), HOW).model
        self.adapters = read_adapter_config(self.source, self.model)
        import_adapters(self.source, str(folder / "checkpoints"), self.model, self.adapters, "key")
        self.table, self.mesh = parameter_table(self.model), create_mesh(MeshConfig(tensor=2, data=4))

    def logits(self, params: Params) -> np.ndarray:
        hidden = forward(params, jnp.asarray(self.expected["input_ids"].astype(np.int32)), self.model)
        return np.asarray(output_logits(params, hidden, self.model))


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def test_apart_from_the_model(case):
    base = restore_params(str(case.folder / "base/checkpoints"), 0, case.table, case.mesh)
    table = adapter_table(case.table, case.adapters)
    adapters = restore_params(str(case.folder / "checkpoints"), 0, table, case.mesh)
    found = case.logits(with_adapters(base, adapters, case.adapters))
    np.testing.assert_allclose(found, case.expected["logits"], atol=1e-4)
    assert np.abs(case.logits(base) - found).max() > 0.1


def test_merged_into_the_model(case):
    base = Origin(str(case.folder / "base"), 0, "")
    whole = whole_params(TrainedModel(case.model, str(case.folder / "checkpoints"), 0, case.adapters, base), case.mesh)
    np.testing.assert_allclose(case.logits(whole), case.expected["logits_merged"], atol=1e-4)


def test_merged_as_they_are_exported(case, tmp_path):
    (tmp_path / "out").mkdir()
    stored = StoredAdapters(str(case.folder / "checkpoints"), 0, case.adapters)
    wanted = ConvertConfig(to_huggingface="out")
    export_model(str(case.folder / "base/checkpoints"), 0, case.model, {}, tmp_path / "out", wanted, stored)
    imported = import_model(tmp_path / "out", str(tmp_path / "again"), HOW)
    whole = restore_params(str(tmp_path / "again"), 0, parameter_table(imported.model), case.mesh)
    np.testing.assert_allclose(case.logits(whole), case.expected["logits_merged"], atol=1e-4)


def test_written_again(case, tmp_path):
    (tmp_path / "out").mkdir()
    export_adapters(str(case.folder / "checkpoints"), 0, case.model, case.adapters, tmp_path / "out", "float32")
    tensors, back = (load_file(at / "adapter_model.safetensors") for at in (case.source, tmp_path / "out"))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)
    written = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert sorted(written["target_modules"]) == case.values["target_modules"]
    theirs = {key: case.values[key] for key in written if key in case.values}
    assert written.keys() <= case.values.keys()
    scale = case.values["lora_alpha"] / (case.values["r"] ** (0.5 if case.values["use_rslora"] else 1))
    assert written["lora_alpha"] / written["r"] == pytest.approx(scale)
    free = ("target_modules", "lora_alpha", "use_rslora", "base_model_name_or_path", "lora_dropout")
    assert {key: written[key] for key in written if key not in free} == {
        key: theirs[key] for key in written if key not in free
    }
    assert read_adapter_config(tmp_path / "out", case.model) == case.adapters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is True, not False"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', not 'LORA'"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"r": "3"}, "r is '3', not a number above 0"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"r": 100_000}, r"adapters\.rank is 100000; it must be at least 1|adapters\.rank is 100000"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_kind_of_adapters_is_refused(case, tmp_path, change, message):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((case.source / name).read_bytes())
    (tmp_path / "adapter_config.json").write_text(json.dumps(case.values | change))
    with pytest.raises(UserError, match=message):
        read_adapter_config(tmp_path, case.model)


def test_tensors_that_do_not_fit_are_named(case, tmp_path):
    other = AdapterConfig(case.adapters.rank + 1, case.adapters.alpha, case.adapters.targets)
    with pytest.raises(UserError, match=r"its adapter_config\.json describes; nothing was written\n  misshapen"):
        import_adapters(case.source, str(tmp_path / "checkpoints"), case.model, other, "key")
    assert not (tmp_path / "checkpoints").exists()
