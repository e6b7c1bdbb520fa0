"""Looks for the fastest way to compute a step: over meshes, rematerialization and the rows that a device has at a time.

None of these change what is computed. Most are ruled out without a compiler: what a mesh does not divide, what by
estimate takes more memory than there is, and a shard whose rows are no multiple of 16, for which the TPU's compiler
sums whole gradients where it would scatter them, or copies each weight into another layout. The most promising are
compiled with 4 layers, of which the loop's body says what each further layer takes, and the best of those whole, or as
the caller says with 4 and 8.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

from sc2jax.errors import UserError
from sc2jax.model.params import count_params, parameter_table
from sc2jax.parallel.mesh import mesh_sizes
from sc2jax.plan import tables
from sc2jax.plan.compilation import PlannedStep, TooLarge
from sc2jax.plan.estimate import StepTime, step_time
from sc2jax.plan.memory import TILE_ROWS, estimated_bytes
from sc2jax.plan.planning import COMFORTABLE, FEW_LAYERS, Plan, make_plan
from sc2jax.plan.slices import Slice
from sc2jax.plan.tasks import BACKWARD, FORWARD, LOSS
from sc2jax.plan.timeline import Timeline
from sc2jax.training.schedule import fitted_training, tokens_per_step
from sc2jax.training.utilisation import flops_per_token

COMPILED, WHOLE = 6, 3
"""How many candidates are compiled with few layers, and how many of these whole."""
_AGAIN = {"none": 0.0, "dots": 0.04, "full": 1 / 3}
"""Of the FLOPs of the model, what is computed again: forward passes of all, or of all but products and attention."""
_TYPICAL = 0.75
"""Of the peak that a step without collectives reaches, to weigh compute against links before anything is compiled."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to compute a step.

    Attributes:
        step: with its settings.
        arguments: of the command line, that bring them about.
        bytes: of a device that it takes, by estimate.
        seconds: that it takes, by estimate.
    """

    step: PlannedStep
    arguments: tuple[str, ...]
    bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A candidate that was compiled, and the plan of it: of all layers, or of few with the rest by their loop."""

    candidate: Candidate
    plan: Plan
    seconds: float
    is_whole: bool


def candidates(step: PlannedStep, slice_: Slice) -> list[Candidate]:
    """Every way that is not ruled out, the most promising first."""
    found = []
    for changed, arguments in _variants(step, slice_):
        sizes = mesh_sizes(changed.mesh, slice_.devices * changed.mesh.slices)
        if changed.model.embed_dim // sizes["fsdp"] % TILE_ROWS:
            continue
        try:
            needed = estimated_bytes(changed, sizes)
        except UserError:  # the mesh does not divide the model or the batch
            continue
        if needed <= COMFORTABLE * slice_.tpu.usable_memory_bytes:
            found.append(Candidate(changed, arguments, needed, _estimated_seconds(changed, slice_, sizes)))
    return sorted(found, key=_promise)


def promising(found: Sequence[Candidate]) -> list[Candidate]:
    """The first of them that are compiled, half of them at most of one rematerialization while there are others.

    The first are often one way with its neighbours: where the estimate misjudges that, something else is left.
    """
    counts: collections.Counter[str] = collections.Counter()
    first, others = [], []
    for each in found:
        policy = each.step.model.rematerialization
        counts[policy] += 1
        (first if counts[policy] <= COMPILED // 2 else others).append(each)
    return sorted([*first, *others][:COMPILED], key=_promise)


def _promise(candidate: Candidate) -> tuple[float, tuple[str, ...]]:
    return candidate.seconds, candidate.arguments


def search(
    step: PlannedStep, slice_: Slice, *, price: float, whole: bool, cache: str, tell: Callable[[str], None]
) -> list[Ranked]:
    """Compiles the most promising candidates; the fastest that fit, first those that were planned with all layers.

    `whole` says how these are: compiled with all, or as `make_plan` finds them from 4 and 8.

    Raises:
        UserError: nothing is left to be compiled, or nothing that was compiled fits.
    """
    chosen = promising(candidates(step, slice_))
    if not chosen:
        _require_shares(step, slice_)
        raise UserError(
            f"by estimate no mesh and rematerialization makes the step fit {slice_.name}; name a larger slice in "
            "plan.slice, or a smaller training.batch_size"
        )

    def compiled(chosen: Sequence[Candidate], layers: int) -> list[Ranked]:
        found = _compiled(chosen, slice_, layers, price=price, whole=whole, cache=cache, tell=tell)
        return sorted(found, key=lambda each: each.seconds)

    best = compiled(chosen, FEW_LAYERS)
    if best and best[0].is_whole:  # so few layers has the model
        return best
    finished = compiled([each.candidate for each in best[:WHOLE]], 0)
    rest = [each for each in best[WHOLE:] if each.candidate.bytes <= slice_.tpu.usable_memory_bytes]
    if not finished:
        raise UserError(
            f"none of the {len(chosen)} most promising meshes fits {slice_.name}; name a larger slice in plan.slice"
        )
    return finished + rest


def _require_shares(step: PlannedStep, slice_: Slice) -> None:
    """Raises UserError if there is no mesh over which the batch can be shared out, whatever the memory."""
    if next(_variants(step, slice_), None) is None:
        rows = fitted_training(step.training, step.model.context_length).batch_size
        raise UserError(
            f"no mesh of {slice_.name} shares out training.batch_size {rows:,} equally over its "
            f"{slice_.devices * step.mesh.slices:,} devices; make it a multiple of them"
        )


def pareto(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Those than which no other is both as fast and as small."""
    return [
        each
        for each in ranked
        if not any(
            other is not each
            and other.seconds <= each.seconds
            and other.plan.figures.memory.peak <= each.plan.figures.memory.peak
            for other in ranked
            if other.is_whole == each.is_whole
        )
    ]


def _compiled(
    chosen: Sequence[Candidate],
    slice_: Slice,
    layers: int,
    *,
    price: float,
    whole: bool,
    cache: str,
    tell: Callable[[str], None],
) -> Iterator[Ranked]:
    """Those that fit, with so many layers, or with all of them."""
    for number, candidate in enumerate(chosen, start=1):
        tell(f"[{number}/{len(chosen)}] {' '.join(candidate.arguments) or 'as it is'}")
        model = candidate.step.model
        few = 0 < layers < model.num_layers
        step = candidate.step
        if few:  # in a loop of which each turn is a layer, whatever the model's own has
            step = dataclasses.replace(step, model=dataclasses.replace(model, num_layers=layers, scan_unroll=1))
        try:
            plan = make_plan(step, slice_, price=price, whole=few or whole, cache=cache, tell=lambda _: None)
        except UserError as error:  # what the compiler cannot do with this mesh, it may with another
            tell(f"left out: {error}")
            continue
        if isinstance(plan, TooLarge) or not plan.fits:
            tell("does not fit")
            continue
        seconds = plan.figures.time.exposed
        if few:
            seconds += (model.num_layers - layers) * layer_seconds(plan.timeline).exposed
        tell(f"{tables.duration(seconds)} a step")
        yield Ranked(candidate, plan, seconds, not few)


def layer_seconds(step: Timeline) -> StepTime:
    """What a further layer takes: one more turn of the loops over layers, forward and backward.

    A loop that computes the loss too is over the parts of a batch: the loops over layers are inside of it, and a
    further layer takes its turn in each part.
    """
    found = StepTime(0.0, 0.0, 0.0)
    for loop, _ in step.loops:
        parts = {part for _, part, _ in loop.body.busy}
        if parts & {FORWARD, BACKWARD}:
            found = (
                found.plus(layer_seconds(loop.body), loop.times)
                if LOSS in parts
                else found.plus(step_time(loop.body), 1)
            )
    return found


def _variants(step: PlannedStep, slice_: Slice) -> Iterator[tuple[PlannedStep, tuple[str, ...]]]:
    training = fitted_training(step.training, step.model.context_length)
    for data, sequence in itertools.product(_divisors(slice_.devices), _powers(8)):
        fsdp, rest = divmod(slice_.devices, data * sequence)
        batch_shards = data * fsdp * step.mesh.slices
        # A row is shared out only where there are too few of them: its keys then travel in every layer.
        if (
            rest
            or training.batch_size % batch_shards
            or (sequence > 1 and training.batch_size % (2 * batch_shards) == 0)
        ):
            continue
        mesh = dataclasses.replace(step.mesh, data=data, fsdp=fsdp, sequence=sequence, tensor=1)
        rows = training.batch_size // batch_shards
        for parts, policy in itertools.product(_divisors(rows), _AGAIN):
            changed = dataclasses.replace(
                step,
                mesh=mesh,
                training=dataclasses.replace(step.training, accumulation=parts),
                model=dataclasses.replace(
                    step.model, rematerialization=policy, kept_activations=(), offloaded_activations=()
                ),
            )
            yield changed, _arguments(step, changed)


def _arguments(step: PlannedStep, changed: PlannedStep) -> tuple[str, ...]:
    """What has to be written on the command line."""
    sections = {"mesh": ("data", "fsdp", "sequence", "tensor"), "training": ("accumulation",)}
    sections |= {"model": ("rematerialization", "kept_activations", "offloaded_activations")}
    return tuple(
        f"--config.{section}.{name}={value if value != () else ''}"
        for section, names in sections.items()
        for name in names
        if (value := getattr(getattr(changed, section), name)) != getattr(getattr(step, section), name)
    )


def _estimated_seconds(step: PlannedStep, slice_: Slice, sizes: dict[str, int]) -> float:
    """The longer of compute and links: each part of a batch gathers all weights twice and scatters their gradients."""
    row_length, devices = step.model.context_length, slice_.devices * step.mesh.slices
    training = fitted_training(step.training, row_length)
    flops = tokens_per_step(training, row_length) * flops_per_token(step.model, row_length) / devices
    compute = flops * (1 + _AGAIN[step.model.rematerialization]) / (_TYPICAL * slice_.chip.peak_flops)
    gathered = 2 * count_params(parameter_table(step.model))  # bytes, in the type of the products
    moved = training.accumulation * 3 * gathered * (1 - 1 / sizes["fsdp"])
    if sizes["data"] * step.mesh.slices > 1:  # gradients are summed over copies, in float32
        moved += 2 * 2 * gathered / sizes["fsdp"]
    # One ring where copies have cut the torus, else one along each axis.
    rings = 1 if sizes["data"] * sizes["sequence"] > 1 else slice_.tpu.torus_dimensions
    links = moved / (2 * rings * slice_.tpu.link_bandwidth / slice_.chip.devices)
    return max(compute, links) + 0.1 * min(compute, links)


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2


def _divisors(number: int) -> Iterator[int]:
    return (each for each in range(1, number + 1) if number % each == 0)
