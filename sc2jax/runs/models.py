"""The model of a run: the shape that it was trained in, and the model opened for use."""

import dataclasses
from typing import Any

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.errors import UserError
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.interop.folder import HUGGINGFACE
from sc2jax.interop.generation import GENERATION_FILES, read_generation
from sc2jax.model.config import Computation, ModelConfig
from sc2jax.model.params import abstract_params, parameter_table
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import read_manifest, read_output
from sc2jax.runs.inputs import refuse_mixed
from sc2jax.runs.model_checkpoint import model_statistics
from sc2jax.runs.run import Run
from sc2jax.runs.tokenizer_file import open_tokenizer
from sc2jax.settings import part
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Where a trained model lies: its shape, the folder of its checkpoints and the step of the one to use."""

    config: ModelConfig
    checkpoints: str
    step: int


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
    return TrainedModel(config, join(folder, CHECKPOINTS), step)


def open_model(run: Run) -> LoadedModel:
    """The run's model opened for use: its shape is the checkpoint's, how it is computed is in the settings.

    Raises:
        UserError: the training is not finished, or its checkpoint or a file that was imported with it is damaged.
    """
    settings, trained = run.settings, trained_model(run)
    config = dataclasses.replace(trained.config, **dataclasses.asdict(part(settings.model, Computation)))
    mesh = create_mesh(settings.mesh)
    checkpoints = Checkpoints(trained.checkpoints)
    try:
        params = checkpoints.restore_params(trained.step, abstract_params(parameter_table(config), mesh))
    finally:
        checkpoints.close()
    return dataclasses.replace(LoadedModel(params, config, open_tokenizer(run), mesh), **_ways(run, config.vocab_size))


def _ways(run: Run, vocab_size: int) -> dict[str, Any]:
    """How an imported model ends and draws, by the files that came with it; nothing for a model trained here."""
    folder = run.folder("train")
    manifest = read_manifest(folder)
    paths = {output.path.rpartition("/")[2]: output.path for output in manifest.under(HUGGINGFACE)}
    if not paths:
        return {}
    files = {name: read_output(folder, manifest, path) for name, path in paths.items() if name in GENERATION_FILES}
    return dataclasses.asdict(read_generation(files, join(folder, HUGGINGFACE), vocab_size))
