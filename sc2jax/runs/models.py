"""The model of a run: the shape that it was trained in, and the model opened for use."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.errors import UserError
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.interop.folder import HUGGINGFACE
from sc2jax.interop.generation import GENERATION_FILES, read_generation
from sc2jax.model.adapters import adapter_table, merged
from sc2jax.model.config import AdapterConfig, Computation, ModelConfig
from sc2jax.model.params import Params, Table, abstract_params, param_shardings, parameter_table
from sc2jax.parallel.compilation_cache import use_compilation_cache
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import read_manifest, read_output
from sc2jax.runs.inputs import refuse_mixed
from sc2jax.runs.model_checkpoint import model_statistics
from sc2jax.runs.run import Run
from sc2jax.runs.starting_points import START, Origin, adapters_of, base_of, read_start
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.settings import part
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Where a trained model lies: its shape, the folder of its checkpoints and the step of the one to use.

    Where it consists of adapters, `base` is what they are added to.
    """

    config: ModelConfig
    checkpoints: str
    step: int
    adapters: AdapterConfig | None = None
    base: Origin | None = None


def fitted_model(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's shape with the tokenizer's vocabulary.

    Raises:
        UserError: the config names a smaller vocabulary than the tokenizer's.
    """
    if model.vocab_size and model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size {model.vocab_size} is less than the tokenizer's {tokenizer.vocab_size}; use 0 to take "
            "the tokenizer's"
        )
    return dataclasses.replace(model, vocab_size=model.vocab_size or tokenizer.vocab_size)


def trained_model(run: Run) -> TrainedModel:
    """The model that `train` or `convert` left in the run.

    Raises:
        UserError: there is none, it is not one that this version knows, or it does not belong to what lies beside it.
    """
    refuse_mixed(run, "convert")
    folder = run.folder("train")
    manifest = run.manifest("train")
    step = model_statistics(folder, manifest)["steps"]
    try:
        config = ModelConfig(**manifest.config["model"])
    except TypeError as error:
        raise UserError(f"{folder} holds a model of another version ({error}); make it again") from error
    trained, adapters = TrainedModel(config, join(folder, CHECKPOINTS), step), adapters_of(manifest.config)
    if adapters is None:
        return trained
    began = read_start(folder)
    if began is None:
        raise UserError(f"{join(folder, START)} is missing, which says what its adapters belong to; bring it back")
    return dataclasses.replace(trained, adapters=adapters, base=base_of(run, began))


def open_model(run: Run) -> LoadedModel:
    """The run's model opened for use: its shape is the checkpoint's, how it is computed is in the settings.

    Raises:
        UserError: the training is not finished, or its checkpoint or a file that was imported with it is damaged.
    """
    settings, trained = run.settings, trained_model(run)
    config = dataclasses.replace(trained.config, **dataclasses.asdict(part(settings.model, Computation)))
    use_compilation_cache(settings.paths.compilation_cache)
    mesh = create_mesh(settings.mesh)
    params = whole_params(trained, mesh)
    return dataclasses.replace(LoadedModel(params, config, open_tokenizer(run), mesh), **_ways(run, config.vocab_size))


def whole_params(trained: TrainedModel, mesh: Mesh) -> Params:
    """A model's parameters, float32 on the mesh; adapters are merged into what they are added to.

    Raises:
        UserError: a checkpoint is damaged.
    """
    table = parameter_table(trained.config)
    if trained.adapters is None or trained.base is None:
        return restore_params(trained.checkpoints, trained.step, table, mesh)
    base = restore_params(trained.base.checkpoints, trained.base.step, table, mesh)
    adapters = restore_params(trained.checkpoints, trained.step, adapter_table(table, trained.adapters), mesh)
    merge = jax.jit(merged, static_argnums=2, donate_argnums=0, out_shardings=param_shardings(table, mesh))
    return merge(base, adapters, trained.adapters)


def restore_params(checkpoints_folder: str, step: int, table: Table, mesh: Mesh) -> Params:
    """Parameters of a checkpoint in the types and places of a table, whatever types they were saved in.

    They are restored as they were saved, for only so can their fingerprints be compared, and then converted one by one.

    Raises:
        UserError: the checkpoint is damaged or has another shape.
    """
    checkpoints = Checkpoints(checkpoints_folder)
    try:
        saved = tuple(
            dataclasses.replace(entry, dtype=checkpoints.open_array(step, entry.path).dtype.name) for entry in table
        )
        params = checkpoints.restore_params(step, abstract_params(saved, mesh))
    finally:
        checkpoints.close()
    return jax.tree.map(_converted, params, abstract_params(table, mesh))


def _converted(array: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
    if array.dtype == wanted.dtype:
        return array
    converted = array.astype(wanted.dtype)
    converted.block_until_ready()
    array.delete()  # before the next is converted: both of all of them do not fit
    return converted


def _ways(run: Run, vocab_size: int) -> dict[str, Any]:
    """How an imported model ends and draws, by the files that came with it; nothing for a model trained here."""
    folder = run.folder("train")
    manifest = read_manifest(folder)
    paths = {output.path.rpartition("/")[2]: output.path for output in manifest.under(HUGGINGFACE)}
    if not paths:
        return {}
    files = {name: read_output(folder, manifest, path) for name, path in paths.items() if name in GENERATION_FILES}
    return dataclasses.asdict(read_generation(files, join(folder, HUGGINGFACE), vocab_size))
