"""What a run trains, how it is measured on the way, and what its devices could do."""

from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from sc2jax.model.adapters import adapted, with_adapters
from sc2jax.model.loss import next_token_loss, target_losses
from sc2jax.model.params import Params, param_shardings
from sc2jax.parallel.chips import chip_of
from sc2jax.runs.inputs import feed_inputs
from sc2jax.runs.periodic_evaluation import heldout_rows
from sc2jax.runs.run import Run, say
from sc2jax.runs.start_parameters import frozen_parameters, trained_table
from sc2jax.training.evaluation import Evaluation
from sc2jax.training.loop import Objective
from sc2jax.training.utilisation import Utilisation, flops_per_token


def training_objective(run: Run, mesh: Mesh) -> Objective:
    """The parameters that a run trains, and their loss."""
    settings = run.settings
    loss = next_token_loss(settings.model, settings.training.loss_chunk, mesh, settings.training.z_loss)
    if settings.adapters.rank:
        loss = adapted(loss, settings.adapters)
    chip, dtype = chip_of(mesh.devices.flat[0].device_kind), settings.model.compute_dtype
    if chip is not None and not chip.has_bfloat16 and dtype == "bfloat16":
        say(f"{chip.name} has no matrix units for bfloat16, and has them for model.compute_dtype=float16")
    scaled = dtype == "float16"
    return Objective(trained_table(run), loss, settings.seed, scaled=scaled)


def training_utilisation(run: Run, mesh: Mesh) -> Utilisation:
    """How much of their peak a run's devices reach, where their peak is known."""
    settings = run.settings
    adapters = trained_table(run) if settings.adapters.rank else ()
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

    placements = (param_shardings(table, mesh) for table in (trained_table(run), frozen_parameters(run)))
    return Evaluation(rows, losses, mesh, *placements)
