"""A run and the model that it begins with: what it may take over from it, and what must be the same."""

import dataclasses

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.model.config import AdapterConfig, Computation
from sc2jax.runs.run import Run
from sc2jax.runs.starting_points import StartingPoint, starting_point, tokenizers_beside
from sc2jax.runs.tokenizer_file import tokenizer_digest, tokenizer_path

SHAPE = (
    "vocab_size", "embed_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "mlp_dim", "tie_embeddings",
)  # fmt: skip
"""What of a model decides the shapes of its parameters. A run may differ from its start in all else: in context and
rotary base it does, where a model is trained further on longer rows (StarCoder2 paper, section 6.2)."""

_OF_THE_RUN = ("context_length", "embedding_dropout", "attention_dropout", "residual_dropout")
"""What a run that takes its model's shape from the start still says itself."""


def with_model_of_start(run: Run) -> Run:
    """The run with the model's shape taken from its start, where its config says so.

    Raises:
        UserError: no start is named, or it holds no model.
    """
    settings = run.settings
    if not settings.training.model_of_start:
        return run
    point = starting_point(run)
    if point is None:
        raise UserError(
            "training.model_of_start takes the model's shape from paths.start, which names none; give "
            "--config.paths.start=DIR, a folder that `train` or `convert` wrote"
        )
    own = {name: getattr(settings.model, name) for name in _OF_THE_RUN}
    own["context_length"] = min(settings.model.context_length, point.shape.context_length)
    how = {field.name: getattr(settings.model, field.name) for field in dataclasses.fields(Computation)}
    model = dataclasses.replace(point.shape, **own, **how)
    return dataclasses.replace(run, settings=dataclasses.replace(settings, model=model))


def refuse_misfit(run: Run, point: StartingPoint) -> None:
    """Makes sure that the run's parameters can begin with those of its starting point.

    Raises:
        UserError: naming all in which they differ.
    """
    _refuse_other_shape(run, point)
    _refuse_other_parts(run, point)
    _refuse_other_tokenizer(run, point)


def _refuse_other_shape(run: Run, point: StartingPoint) -> None:
    model, theirs = run.settings.model, point.shape
    ours = dataclasses.replace(model, vocab_size=model.vocab_size or theirs.vocab_size)
    differing = [
        f"model.{name} {getattr(theirs, name)}, not {getattr(ours, name)}"
        for name in SHAPE
        if getattr(theirs, name) != getattr(ours, name)
    ]
    if differing:
        raise UserError(
            f"the parameters in {point.taken.folder} have other shapes than the run's: {'; '.join(differing)}. Name "
            "another paths.start, or take its shape with --config.training.model_of_start=true"
        )


def _refuse_other_parts(run: Run, point: StartingPoint) -> None:
    wanted = run.settings.adapters
    if point.adapters and wanted.rank and AdapterConfig(**point.adapters) != wanted:
        raise UserError(
            f"the adapters in {point.taken.folder} are others than the run's ({point.adapters}): give these settings, "
            "or export the model with `sc2jax convert` and begin with that"
        )
    if point.optimizer and bool(point.adapters) != bool(wanted.rank):
        raise UserError(
            f"the optimizer in {point.taken.folder} is that of {'adapters' if point.adapters else 'all parameters'}; "
            "leave training.start_with_optimizer out"
        )


def _refuse_other_tokenizer(run: Run, point: StartingPoint) -> None:
    if point.tokenizer not in ("", tokenizer_digest(run)):
        raise UserError(
            f"the model in {point.taken.folder} was trained with another tokenizer than the run's "
            f"({tokenizer_path(run)}); name its own with --config.paths.tokenizer=PATH"
        )


def start_tokenizer(point: StartingPoint) -> str:
    """The file of a start's tokenizer, beside its folder or where its config says.

    Raises:
        UserError: there is none, or another one.
    """
    for path in tokenizers_beside(point.taken.folder):
        if point.tokenizer in ("", storage.sha256_of_file(path)):
            return path
    raise UserError(
        f"the tokenizer of the model in {point.taken.folder} is not found beside it; name it with "
        "--config.paths.tokenizer=PATH"
    )
