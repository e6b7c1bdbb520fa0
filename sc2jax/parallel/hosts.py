"""The processes of one run, one a host: the one place that knows that there may be several.

`with joined(config.hosts) as hosts:` is the run's outermost block. Within it the processes can tell each other things,
agree on a step to stop after, and all end when one of them fails, within a minute, each with a message that says which
one it was. Why not by JAX's own means (0.10.2): its client ends a process without our message as soon as the service in
process 0 is gone; a process that is killed is missed only after a while; a service that is stopped answers no call, and
few calls have a limit; its agreement on a step (`reached_preemption_sync_point`) is asked for by SIGTERM alone, whose
Python handler it replaces.
"""

import contextlib
import dataclasses
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sc2jax.errors import UserError, os_error_text
from sc2jax.parallel.config import HostsConfig, split_address
from sc2jax.parallel.hub import Process, hello
from sc2jax.parallel.membership import Membership, end
from sc2jax.parallel.wire import Relay

_ANSWER_SECONDS = 600.0
_RETRY_SECONDS = 0.2
_JAX_SECONDS = 100
"""JAX's own limits, beyond ours, which find whatever it is first."""


class AgreedError(UserError):
    """What all processes find out alike and raise at the same point: each says it by itself, and none is at fault."""


class Hosts:
    """A run's processes as one of them sees them. This one is alone; `_Several` is not."""

    index = 0
    """Which of them this one is."""

    count = 1
    name = "this process"
    """What messages call this one."""

    def __init__(self) -> None:
        self._wants_stop = False

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which decides for all, and writes what is written once."""
        return self.index == 0

    def share(self, name: str, value: Any, within: float = _ANSWER_SECONDS) -> Any:
        """The value of process 0, at all processes, as JSON gives it back; what the others hand over is not looked at.

        Args:
            name: says in messages what is waited for; all processes share and gather the same names in the same order.
            value: anything that JSON can hold.
            within: seconds that the others wait at most for process 0, if it neither fails nor says it.

        Raises:
            UserError: process 0 has not said it in that time.
        """
        return self.gather(name, value, within)[0]

    def gather(self, name: str, value: Any, within: float = _ANSWER_SECONDS) -> list[Any]:  # noqa: ARG002
        """The values of all processes, by their index, at all of them; see `share`."""
        return [json.loads(json.dumps(value))]

    def ask_to_stop(self) -> None:
        """Asks all processes to stop after the same step; a signal's handler may call it."""
        self._wants_stop = True

    def stops_after(self, step: int) -> bool:
        """Whether the run stops with this step as its last, asked by each process before it begins the one after it.

        All answer the same for the same step, whichever was asked to stop, though some may have begun a step already
        and wait for the others in it: it is the newest step that any of them has begun.
        """
        del step
        return self._wants_stop

    def adds_when_ended(self, standing: Callable[[], str]) -> None:
        """Has a message add how far the run is, where another process's failure ends this one.

        Args:
            standing: is called from another thread, and waits for nothing.
        """

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """A block whose failure at one process is told to the others at once, before what cleans up around it.

        A clean-up may wait for others that wait in a collective; after this block they do not wait any longer.
        """
        yield


class _Several(Hosts):
    def __init__(self, us: Process, count: int, membership: Membership) -> None:
        super().__init__()
        self.index, self.count, self.name = us.index, count, str(us)
        self._membership = membership
        self._uses: Counter[str] = Counter()

    def share(self, name: str, value: Any, within: float = _ANSWER_SECONDS) -> Any:
        if self.is_first:
            return self._answer("shares", name, value, within)
        return self._membership.answer(self._unique(name), within)

    def gather(self, name: str, value: Any, within: float = _ANSWER_SECONDS) -> list[Any]:
        return self._answer("said", name, value, within)

    def _answer(self, kind: str, name: str, value: Any, within: float) -> Any:
        unique, value = self._unique(name), json.loads(json.dumps(value))
        self._membership.say({"kind": kind, "name": unique, "value": value})
        return self._membership.answer(unique, within)

    def _unique(self, name: str) -> str:
        self._uses[name] += 1
        return f"{name}/{self._uses[name]}"

    def ask_to_stop(self) -> None:
        self._membership.ask_to_stop()

    def stops_after(self, step: int) -> bool:
        return self._membership.stops_after(step)

    def adds_when_ended(self, standing: Callable[[], str]) -> None:
        self._membership.standing = standing

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if _is_agreed(error):
                raise  # all of them do
            self._membership.tell_failure(_said(error), is_sure=_is_sure(error))
            raise


def _is_agreed(error: BaseException) -> bool:
    """Whether all processes end alike, be it that a signal which one of them was sent takes its way at the end."""
    return isinstance(error, AgreedError)


def _said(error: BaseException) -> str:
    """What an error says to the other processes."""
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    if isinstance(error, OSError) and error.strerror:
        return os_error_text(error)
    text = str(error).strip()
    return text if isinstance(error, UserError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _is_sure(error: BaseException | None) -> bool:
    """Whether an error is this process's own: one of JAX or Orbax may follow from the end of another process.

    Such an error has many classes (gloo's is a ValueError), and may be the reason of one of ours.
    """
    if error is None:
        return True
    return isinstance(error, UserError | OSError | KeyboardInterrupt) and _is_sure(error.__cause__ or error.__context__)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process stands among `count`, and at which address process 0 listens."""

    coordinator: str
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None
    """Which accelerators of its machine are this process's; None: all."""


def find_place(config: HostsConfig) -> Place | None:
    """This process's place by the config, or by what the machines say; None if it is alone."""
    if config.count == 1:
        return None
    if config.coordinator:
        return Place(config.coordinator, config.count, config.index)
    from jax._src.clusters import ClusterEnv  # the very rules of jax.distributed.initialize, without its start

    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, round(config.join_seconds))
    coordinator, count, index, devices = found
    if coordinator is None or count is None or index is None or count < 2:
        return None
    return Place(coordinator, count, index, tuple(devices) if devices is not None else None)


@contextlib.contextmanager
def joined(config: HostsConfig) -> Iterator[Hosts]:
    """Takes part in a run of one or more processes, JAX's runtime included; before JAX is used in any other way.

    With one process nothing is started.

    Raises:
        UserError: process 0 cannot be reached, or cannot listen, or not all processes have joined in time.
    """
    place = find_place(config)
    if place is None:
        yield Hosts()
        return
    with together(place, config) as hosts, _jax_runtime(hosts, place, round(config.silent_seconds)):
        yield hosts
        hosts.gather("end", None)


@contextlib.contextmanager
def together(place: Place, config: HostsConfig, end: Callable[[str, int], None] = end) -> Iterator[Hosts]:
    """Takes part in a run of several processes, without JAX; ends this process by `end` if another one fails.

    Raises:
        UserError: as for `joined`.
    """
    us = Process(place.index, socket.gethostname())
    host, port = split_address(place.coordinator)
    connection = _reached(host, port, config.join_seconds) if place.index else _listening(port)
    membership = Membership(us, place.count, connection, config.silent_seconds, end)
    hosts = _Several(us, place.count, membership)
    membership.start()
    try:
        with membership.watching_signals(), hosts.ending_together():
            if place.index:
                membership.say(hello(us, place.count))
            membership.wait_for_all(config.join_seconds)
            try:
                yield hosts
            except BaseException as error:
                if _is_agreed(error):
                    membership.leave(_ANSWER_SECONDS)
                raise
            membership.leave(_ANSWER_SECONDS)
    finally:
        membership.close()


def _reached(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to process 0, which may start later than this one."""
    until = time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        try:
            return socket.create_connection((host, port), timeout=max(left, _RETRY_SECONDS))
        except OSError as error:
            if left < _RETRY_SECONDS:
                raise UserError(
                    f"the coordinator {host}:{port} cannot be reached within {seconds:,.0f} s (hosts.join_seconds): "
                    f"{error.strerror or error}; start process 0 there, and let port {port} through any firewall"
                ) from error
        time.sleep(_RETRY_SECONDS)


def _listening(port: int) -> socket.socket:
    """The socket at which process 0 listens, at every address of its machine."""
    try:
        if socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listener = socket.create_server(("", port))
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at port {port}: {os.strerror(error.errno or 0)}; name another one in "
            "hosts.coordinator, the same for all processes"
        ) from error
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def _jax_runtime(hosts: Hosts, place: Place, silent_seconds: int) -> Iterator[None]:
    """JAX's distributed runtime, whose service runs in process 0; the others reach it through a relay."""
    import jax

    # It would replace Python's handler of SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    port = hosts.share("port of JAX's service", _free_port() if hosts.is_first else 0)
    relay = None if hosts.is_first else Relay(split_address(place.coordinator)[0], port)
    any_address = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"
    seconds = max(_JAX_SECONDS, 2 * silent_seconds)
    jax.distributed.initialize(
        f"127.0.0.1:{relay.port if relay is not None else port}",
        place.count,
        place.index,
        local_device_ids=place.local_devices,
        cluster_detection_method="deactivate",
        coordinator_bind_address=f"{any_address}:{port}",
        initialization_timeout=seconds,
        heartbeat_timeout_seconds=seconds,
        shutdown_timeout_seconds=seconds,
    )
    yield
    jax.distributed.shutdown()
    if relay is not None:
        relay.close()


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]
