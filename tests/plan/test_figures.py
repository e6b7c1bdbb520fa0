"""What few layers take becomes what all of them do; shares of the peak; a training from its step."""

import pytest

from sc2jax.model.config import ModelConfig
from sc2jax.plan.compilation import Memory
from sc2jax.plan.estimate import (
    ImpossibleEstimateError,
    StepTime,
    Utilisation,
    step_time,
    uncausal_flops_per_token,
    utilisation,
    whole_run,
)
from sc2jax.plan.figures import Exchanged, Figures, extrapolated
from sc2jax.plan.timeline import Lane, Task, Wait, timeline
from sc2jax.training.utilisation import flops_per_token


def figures(layers: int) -> Figures:
    """Of a program in which everything is a constant and a multiple of the layers."""
    found = Exchanged(2.0 * layers, 1e6 * layers, 0.01 * layers, 0.001 * layers, 1.0 * layers)
    return Figures(
        memory=Memory(1000 + 10 * layers, 7 + 3 * layers, 0),
        time=StepTime(1 + 0.1 * layers, 1 + 0.2 * layers, 1 + 0.3 * layers),
        measured=StepTime(2 + 0.1 * layers, 2 + 0.2 * layers, 2 + 0.3 * layers),
        computed_flops=5.0 * layers,
        parts={"forward": {"products": 0.05 * layers}, "loss": {"products": 0.5}},
        exchanged={"backward": {"all-gather": found}},
    )


def test_each_layer_takes_a_quarter_of_the_difference_of_four():
    found, exact = extrapolated(figures(4), figures(8), 4, 8, 40), figures(40)
    assert found.memory == exact.memory
    assert vars(found.time) == pytest.approx(vars(exact.time))
    assert vars(found.measured) == pytest.approx(vars(exact.measured))
    assert found.computed_flops == pytest.approx(200)
    assert found.parts["forward"] == pytest.approx(exact.parts["forward"])
    assert found.parts["loss"] == pytest.approx({"products": 0.5})
    assert vars(found.exchanged["backward"]["all-gather"]) == pytest.approx(
        vars(exact.exchanged["backward"]["all-gather"])
    )


def test_what_one_of_both_programs_lacks_takes_nothing_in_it():
    few, many = figures(4), figures(8)
    few = Figures(few.memory, few.time, few.measured, 0.0, {"forward": {}}, {})
    many = Figures(many.memory, many.time, many.measured, 0.0, {"forward": {"other": 4.0}}, many.exchanged)
    found = extrapolated(few, many, 4, 8, 10)
    assert found.parts == {"forward": {"other": pytest.approx(6.0)}}
    assert found.exchanged["backward"]["all-gather"].count == pytest.approx(1.5 * 16)


def test_the_busiest_lane_is_what_nothing_can_hide():
    gather = Task("g", "forward", "all-gather", 5.0, Lane.LINKS, starts=True)
    found = step_time(timeline([gather, Task("p", "forward", "products", 3.0), Wait("g")]))
    assert found == StepTime(compute=3.0, overlapped=5.0, exposed=5.0)
    found = step_time(timeline([Task("p", "forward", "products", 7.0), gather]))
    assert found == StepTime(compute=7.0, overlapped=7.0, exposed=12.0)


def test_utilisation_is_of_all_devices_and_never_above_one():
    found = utilisation(8e15, devices=4, peak_flops=1e15, time=StepTime(2.0, 2.5, 4.0))
    assert found == Utilisation(overlapped=0.8, exposed=0.5)
    assert utilisation(8e15, 4, 1e15, StepTime(2.0, 2.0, 2.0)) == Utilisation(1.0, 1.0)
    with pytest.raises(ImpossibleEstimateError, match="missed a part of the program"):
        utilisation(8e15, 4, 1e15, StepTime(1.9, 1.99, 2.5))


def test_an_uncausal_count_has_every_key_of_the_row():
    model = ModelConfig(
        vocab_size=100, embed_dim=32, num_layers=3, num_heads=4, num_kv_heads=2, window=8, context_length=64
    )
    seen = sum(min(position + 1, 8) for position in range(64)) / 64
    extra = 12 * 3 * 32 * (64 - seen)
    assert uncausal_flops_per_token(model, 64) == pytest.approx(flops_per_token(model, 64) + extra)


def test_a_training_from_its_step():
    found = whole_run(steps=1000, tokens_per_step=4_000_000, seconds=2.0, chips=256, price=1.5)
    assert found.tokens == 4_000_000_000
    assert found.tokens_per_day == pytest.approx(4e6 * 43_200)
    assert found.days == pytest.approx(2000 / 86_400)
    assert found.chip_hours == pytest.approx(2000 / 3600 * 256)
    assert found.cost == pytest.approx(2000 / 3600 * 256 * 1.5)
    assert whole_run(1, 1, 1.0, 1, 0.0).cost == 0
