"""Where the processes of a run are: by flags, whole or not at all, or as the machines say."""

import pytest

from sc2jax.errors import UserError
from sc2jax.parallel.config import HostsConfig, split_address
from sc2jax.parallel.hosts import Place, find_place, joined


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"count": 4, "index": 1}, "hosts.coordinator is missing"),
        ({"coordinator": "a:1", "index": 0}, "hosts.count is missing"),
        ({"coordinator": "a:1", "count": 2}, "hosts.index is missing"),
        ({"coordinator": "a:1"}, "hosts.count and hosts.index is missing"),
        ({"count": 2}, "hosts.coordinator and hosts.index is missing"),
    ],
)
def test_flags_are_given_whole_or_not_at_all(given, missing):
    with pytest.raises(UserError, match=missing):
        HostsConfig(**given)


def test_an_index_is_one_of_the_processes():
    assert HostsConfig("a:1", 2, 1).index == 1
    with pytest.raises(UserError, match=r"hosts\.index is 2; of 2 processes it is one of 0 to 1"):
        HostsConfig("a:1", 2, 2)


@pytest.mark.parametrize(
    ("address", "split"),
    [("10.0.0.1:8476", ("10.0.0.1", 8476)), ("[::1]:1", ("::1", 1)), ("worker-0.pods:65535", ("worker-0.pods", 65535))],
)
def test_addresses(address, split):
    assert split_address(address) == split


@pytest.mark.parametrize("address", ["10.0.0.1", ":8476", "a:0", "a:65536", "a:http", "a:", "a:-1", "a:٣"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UserError, match="must be a host and a port"):
        HostsConfig(address, 2, 0)


SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NODELIST": "node[007-009]",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def machines(monkeypatch):
    """Sets the environment of a job of Slurm, with changes."""
    return lambda **changed: [monkeypatch.setenv(name, value) for name, value in (SLURM | changed).items()]


def test_the_machines_say_where_the_processes_are(machines):
    machines()
    # Slurm's port is the job's number, folded into the last 4096 ports.
    assert find_place(HostsConfig()) == Place("node007:62344", 3, 2, (0,))


def test_flags_go_before_what_the_machines_say(machines):
    machines()
    assert find_place(HostsConfig("a:1", 2, 1)) == Place("a:1", 2, 1)
    assert find_place(HostsConfig(count=1)) is None


def test_one_process_is_alone(machines):
    assert find_place(HostsConfig()) is None
    machines(SLURM_NTASKS="1", SLURM_PROCID="0")
    assert find_place(HostsConfig()) is None


def test_alone_everything_is_as_it_says(monkeypatch):
    monkeypatch.setattr("threading.Thread.start", lambda _: pytest.fail("a thread"))
    with joined(HostsConfig()) as hosts:
        assert (hosts.index, hosts.count, hosts.is_first) == (0, 1, True)
        # As JSON gives it back, so that one process sees what several would.
        assert hosts.share("name", {"a": (1, 2)}) == {"a": [1, 2]}
        assert hosts.gather("name", (1,)) == [[1]]
        assert not hosts.stops_after(3)
        hosts.ask_to_stop()
        assert hosts.stops_after(3)


def test_alone_an_error_is_what_it_was():
    with pytest.raises(ZeroDivisionError), joined(HostsConfig()) as hosts, hosts.ending_together():
        raise ZeroDivisionError
