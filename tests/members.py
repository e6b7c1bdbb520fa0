"""Members of one run, each in a thread of the test: they tell each other things as the processes of a run do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from processes import free_port

from sc2jax.parallel.config import HostsConfig
from sc2jax.parallel.hosts import AgreedError, Hosts, Place, together

CONFIG = HostsConfig(join_seconds=20.0, silent_seconds=4.0)


def in_threads(count: int, work: Callable[[Hosts], Any], config: HostsConfig = CONFIG) -> list[Any]:
    """What `work` returns, or the error that all end with, in each of so many members of one run."""
    coordinator = f"127.0.0.1:{free_port()}"

    def member(index: int) -> Any:
        ended: list[str] = []
        try:
            with together(Place(coordinator, count, index), config, lambda message, _: ended.append(message)) as hosts:
                result = work(hosts)
            assert not ended
            return result
        except AgreedError as error:
            assert not ended
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(member, range(count)))
