"""What a run trains, how it is measured on the way, and what its devices could do."""

from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from sc2jax.model.adapters import with_adapters
from sc2jax.model.loss import target_losses
from sc2jax.model.params import Params, param_shardings
from sc2jax.parallel.chips import chip_of
from sc2jax.runs.inputs import feed_inputs
from sc2jax.runs.periodic_evaluation import heldout_rows
from sc2jax.runs.run import Run, say
from sc2jax.training.evaluation import Evaluation
from sc2jax.training.objective import Objective, language_model, trained_table, untrained_table
from sc2jax.training.utilisation import Utilisation, flops_per_token


def training_objective(run: Run, mesh: Mesh) -> Objective:
    """The parameters that a run trains, and their loss."""
    settings = run.settings
    chip, dtype = chip_of(mesh.devices.flat[0].device_kind), settings.model.compute_dtype
    if chip is not None and not chip.has_bfloat16 and dtype == "bfloat16":
        say(f"{chip.name} has no matrix units for bfloat16, and has them for model.compute_dtype=float16")
    return language_model(settings.model, settings.adapters, settings.training, settings.seed, mesh)


def training_utilisation(run: Run, mesh: Mesh) -> Utilisation:
    """How much of their peak a run's devices reach, where their peak is known."""
    settings = run.settings
    adapters = trained_table(settings.model, settings.adapters) if settings.adapters.rank else ()
    flops = flops_per_token(settings.model, settings.model.context_length, adapters)
    chip = chip_of(mesh.devices.flat[0].device_kind)
    return Utilisation(flops, mesh.size, chip.peak_flops if chip is not None else 0.0)


def periodic_evaluation(run: Run, mesh: Mesh) -> Evaluation | None:
    """Measures a run's parameters on its corpus's held-out text; None where nothing is held out.

    Raises:
        UserError: the corpus is missing or damaged, or the rows are too few.
    """
    settings = run.settings
    rows = heldout_rows(feed_inputs(run), settings.training.evaluation_tokens)
    if rows is None:
        say("nothing is held out in the corpus: bits per byte are not measured while training")
        return None

    def losses(params: Params, frozen: Params, batch: Mapping[str, jax.Array]) -> jax.Array:
        whole = with_adapters(frozen, params, settings.adapters) if settings.adapters.rank else params
        return target_losses(whole, batch, settings.model, settings.training.loss_chunk, mesh)

    tables = (of(settings.model, settings.adapters) for of in (trained_table, untrained_table))
    placements = (param_shardings(table, mesh) for table in tables)
    return Evaluation(rows, losses, mesh, *placements)
