"""When what is done, on schedules worked by hand."""

import pytest

from sc2jax.plan.timeline import Lane, Repeat, Task, Wait, timeline


def compute(name: str, seconds: float, kind: str = "products") -> Task:
    return Task(name, "forward", kind, seconds)


def gather(name: str, seconds: float, *, starts: bool = True) -> Task:
    return Task(name, "forward", "all-gather", seconds, Lane.LINKS, starts)


def places(found) -> dict[str, tuple[float, float]]:
    return {event.task.name: (event.start, event.end) for event in found.events}


def test_what_has_enough_compute_beside_it_costs_nothing():
    found = timeline([gather("g", 2.0), compute("a", 3.0), Wait("g"), compute("b", 1.0)])
    assert found.seconds == 4
    assert found.waited.get(("forward", "all-gather"), 0) == 0
    assert places(found) == {"g": (0, 2), "a": (0, 3), "b": (3, 4)}


def test_what_is_longer_than_compute_is_waited_for():
    found = timeline([gather("g", 5.0), compute("a", 3.0), Wait("g"), compute("b", 1.0)])
    assert (found.seconds, found.waited[("forward", "all-gather")]) == (6, 2)
    assert [event.waited for event in found.events if event.task.name == "g"] == [2]


def test_a_start_that_is_awaited_at_once_hides_nothing():
    found = timeline([gather("g", 2.0), Wait("g"), compute("a", 3.0)])
    assert (found.seconds, found.waited[("forward", "all-gather")]) == (5, 2)


def test_what_is_not_asynchronous_stops_compute():
    found = timeline([compute("a", 3.0), gather("g", 2.0, starts=False), compute("b", 1.0)])
    assert (found.seconds, found.waited[("forward", "all-gather")]) == (6, 2)
    assert places(found)["b"] == (5, 6)


def test_what_stops_compute_does_not_queue_behind_what_goes_on():
    small = gather("s", 1.0, starts=False)
    found = timeline([gather("g", 10.0), small, gather("h", 1.0), compute("a", 11.0), Wait("g"), Wait("h")])
    assert places(found) == {"g": (0, 10), "s": (0, 1), "h": (11, 12), "a": (1, 12)}
    assert found.waited[("forward", "all-gather")] == 1


def test_transfers_share_their_lane_and_lanes_nothing():
    copy = Task("c", "forward", "copies", 1.0, Lane.COPIES, starts=True)
    found = timeline([gather("g", 2.0), gather("h", 2.0), copy, compute("a", 1.0), Wait("c"), Wait("h")])
    assert places(found) == {"g": (0, 2), "h": (2, 4), "c": (0, 1), "a": (0, 1)}
    assert found.seconds == 4
    assert found.lane_seconds(Lane.LINKS) == 4
    assert found.lane_seconds(Lane.COMPUTE) == 1


def test_a_loop_is_timed_once_and_counted_as_often_as_it_turns():
    body = timeline([gather("g", 3.0), compute("a", 2.0), Wait("g")])
    found = timeline([compute("before", 1.0), Repeat("loop", body, 10), compute("after", 1.0, "other")])
    assert body.seconds == 3
    assert found.seconds == 32
    assert found.loops[0][1] == 1
    assert found.busy == {
        (Lane.COMPUTE, "forward", "products"): 21,
        (Lane.LINKS, "forward", "all-gather"): 30,
        (Lane.COMPUTE, "forward", "other"): 1,
    }
    assert found.waited[("forward", "all-gather")] == 10


def test_what_nobody_waits_for_ends_before_the_program():
    found = timeline([gather("g", 4.0), compute("a", 1.0)])
    assert (found.seconds, found.waited[("forward", "all-gather")]) == (4, 3)


def test_nothing_takes_no_time():
    found = timeline([])
    assert (found.seconds, found.events, found.lane_seconds(Lane.COMPUTE)) == (0, (), 0)


def test_waiting_for_what_never_began_is_an_error():
    with pytest.raises(KeyError):
        timeline([Wait("g")])
