"""Comparing files that meet in a group, on partitions: the signatures of the few are brought to where the many lie.

Files of one side, the visitors, are to be compared with members of the other in every group (what has one key in a
band) that they share. Who knows the groups tells each stretch of members which visitors come to which of its groups,
and each stretch of visitors which stretches each is to be sent to; a signature is sent once to a stretch, however many
groups and members it meets there. A pair is written down nowhere: it is formed where it is compared.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.keyed import ascending, numbered, openings
from sc2jax.corpus.dedup.plain import UNDECIDED
from sc2jax.corpus.dedup.signed import Signed, Stretches, chosen_files, matrix
from sc2jax.corpus.dedup.similar import agreeing
from sc2jax.corpus.shuffle import Buckets, dealt

MEETING = pa.schema(
    [
        pa.field("visits", pa.bool_()),
        pa.field("key", pa.uint64()),
        pa.field("id", pa.int64()),
        pa.field("order", pa.uint64()),
        pa.field("bound", pa.uint64()),
        pa.field("count", pa.uint8()),
    ]
)
"""Rows by stretch of members: members of groups, and visitors to groups (`visits`); then, by stretch of visitors, whom
(`id`) to send where (`key`)."""

_PAIRS = 1 << 19
"""Pairs that are formed at a time; more only where one visitor meets more."""

_PARTITIONS_SENT = 64
"""Partitions of signatures that are on disk at a time."""


class Pairs(NamedTuple):
    """Pairs that were compared: each member, its visitor and the order of that, the permutations that they agree in."""

    members: np.ndarray
    visitors: np.ndarray
    orders: np.ndarray
    agreeing: np.ndarray


@dataclasses.dataclass(frozen=True)
class Side:
    """Files that meet others: the table, and the stretches of it that fit in memory."""

    signed: Signed
    stretches: Stretches

    @classmethod
    def of(cls, signed: Signed, partition_bytes: int) -> "Side":
        """Stretches of at most `partition_bytes` of signatures, or of one unit."""
        return cls(signed, Stretches.of_bytes(signed, 4 * signed.permutations + 24, partition_bytes))


Judge = Callable[[Iterator[Pairs]], tuple[pa.Table, np.ndarray]]
"""What was compared in a stretch of members -> rows, and the bucket of each."""


class Hosts(NamedTuple):
    """Where members of groups lie, sorted by key: each group and stretch once.

    `limits` says for each below which order a visitor must be to matter to some member of the group there.
    """

    keys: np.ndarray
    stretches: np.ndarray
    limits: np.ndarray


def hosts_of(keys: np.ndarray, members: np.ndarray, limits: np.ndarray, hosts: Stretches) -> Hosts:
    """Where members lie, given each one's group (sorted), its number, and below which order a visitor matters to it."""
    codes = numbered(keys) * len(hosts) + hosts.of(members)
    order = ascending(codes)
    first = openings(codes[order])
    if not len(first):
        return Hosts(keys[:0], codes[:0], limits[:0])
    chosen = order[first]
    return Hosts(keys[chosen], codes[chosen] % len(hosts), np.maximum.reduceat(limits[order], first))


def invitations(
    hosts: Hosts, visitors: pa.Table, stretches: Stretches, guests: Stretches
) -> tuple[pa.Table, np.ndarray]:
    """Who visits which stretch, and whom to send there, of `MEETING`, with the bucket of each row.

    Args:
        hosts: where members lie.
        visitors: (key, id, order) of those that are to be compared with all members of a key, sorted by key.
        stretches: of members.
        guests: the stretches of visitors.
    """
    size, found = len(stretches), visitors["key"].to_numpy()
    low, high = np.searchsorted(found, hosts.keys), np.searchsorted(found, hosts.keys, side="right")
    times = high - low
    rows = np.repeat(low + times - np.cumsum(times), times) + np.arange(times.sum())
    host = np.repeat(np.arange(len(times)), times)
    orders, ids = visitors["order"].to_numpy()[rows], visitors["id"].to_numpy()[rows]
    matters = orders < hosts.limits[host]
    orders, ids, host = orders[matters], ids[matters], host[matters]
    come = meeting_rows(hosts.keys[host], ids, orders, visits=True)
    sent = ids * size + hosts.stretches[host]
    sent = sent[ascending(sent)]
    sent = sent[openings(sent)]
    send = meeting_rows((sent % size).astype(np.uint64), sent // size, np.zeros(len(sent), np.uint64))
    places = [hosts.stretches[host], size + guests.of(sent // size).astype(np.int64)]
    return pa.concat_tables([come, send]), np.concatenate(places).astype(np.uint16)


def meeting_rows(
    keys: np.ndarray,
    ids: np.ndarray,
    orders: np.ndarray,
    bounds: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    *,
    visits: bool = False,
) -> pa.Table:
    """Rows of `MEETING`."""
    size = len(keys)
    bounds = np.full(size, UNDECIDED) if bounds is None else bounds
    counts = np.zeros(size, np.uint8) if counts is None else counts
    return pa.Table.from_arrays(
        [np.full(size, visits), keys, ids, orders, bounds, counts.astype(np.uint8)], schema=MEETING
    )


@contextlib.contextmanager
def judged(
    folder: str,
    meetings: Buckets,
    hosts: Side,
    guests: Side,
    judge: Judge,
    schema: pa.Schema,
    buckets: int,
    partition_bytes: int,
) -> Iterator[list[Buckets]]:
    """Compares all that meet, and gives what is judged of it.

    Args:
        folder: of the stage.
        meetings: of `MEETING`, dealt as `invitations` says.
        hosts: the side of members.
        guests: the side of visitors.
        judge: of what was compared.
        schema: of what it gives.
        buckets: of what it gives.
        partition_bytes: of signatures in memory at a time; 64 times as many lie on disk.
    """
    size, width = len(hosts.stretches), 4 * guests.signed.permutations
    asked = meetings.counts[:, size : size + len(guests.stretches)].sum(axis=0)
    work = _Work(meetings, hosts, guests, judge)
    sending = _sending(asked, max(1, partition_bytes // width))
    turns = max(1, -(-int(asked.sum()) * width // (_PARTITIONS_SENT * partition_bytes)))
    with contextlib.ExitStack() as stack:
        found = []
        for stretches in np.array_split(np.arange(size), min(turns, size)):
            send = functools.partial(_send, work=work, stretches=stretches)
            sent_schema = pa.schema([pa.field("id", pa.int64()), pa.field("signature", pa.binary(width))])
            with dealt(folder, sending, send, sent_schema, size) as sent:
                came = stretches[sent.counts.sum(axis=0)[stretches] > 0]
                compare = functools.partial(_compare, work=work, sent=sent)
                units = pa.table({"stretch": came})
                found.append(stack.enter_context(dealt(folder, units, compare, schema, buckets)))
        yield found


@dataclasses.dataclass(frozen=True)
class _Work:
    meetings: Buckets
    hosts: Side
    guests: Side
    judge: Judge


def _sending(counts: np.ndarray, most: int) -> pa.Table:
    """Work: the rows of each stretch that say whom to send where, a bounded number at a time."""
    cuts = [(stretch, low) for stretch, count in enumerate(counts.tolist()) for low in range(0, count, most)]
    stretch, low = (np.array(column, np.int64) for column in (zip(*cuts, strict=True) if cuts else ([], [])))
    return pa.table({"stretch": stretch, "low": low, "high": low + most})


def _send(unit: pa.Table, work: _Work, stretches: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """The signatures of some visitors, for each stretch that they are sent to."""
    stretch, low, high = (unit[name][0].as_py() for name in ("stretch", "low", "high"))
    size = len(work.hosts.stretches)
    rows = work.meetings.read(size + stretch).slice(low, high - low)
    hosts, ids = rows["key"].to_numpy().astype(np.int64), rows["id"].to_numpy()
    mine = (hosts >= stretches[0]) & (hosts <= stretches[-1])
    ids, hosts = np.divmod(np.unique(ids[mine] * size + hosts[mine]), size)
    files = chosen_files(work.guests.signed, work.guests.stretches.units_of(stretch), np.unique(ids))
    places = np.searchsorted(files.ids, ids)
    table = pa.table({"id": ids, "signature": files.column().take(pa.array(places))})
    return table, hosts.astype(np.uint16)


def _compare(unit: pa.Table, work: _Work, sent: Buckets) -> tuple[pa.Table, np.ndarray]:
    """Judges what meets in a stretch."""
    return work.judge(_met(unit["stretch"][0].as_py(), work, sent))


def _met(stretch: int, work: _Work, sent: Buckets) -> Iterator[Pairs]:
    rows = work.meetings.read(stretch)
    keys, ids, orders, bounds = (rows[name].to_numpy() for name in ("key", "id", "order", "bound"))
    visits = rows["visits"].to_numpy()
    visitors, members = np.flatnonzero(visits), np.flatnonzero(~visits)
    members = members[np.isin(keys[members], np.unique(keys[visitors]))]
    members = members[ascending(keys[members])]
    visitors = visitors[ascending(ids[visitors])]  # so that a pair is formed once, in whatever groups it meets
    units = work.hosts.stretches.units_of(stretch)
    files = chosen_files(work.hosts.signed, units, np.unique(ids[members]))
    row_of = np.searchsorted(files.ids, ids[members])
    limits = np.minimum(orders[members], bounds[members])
    for piece in sent.pieces(stretch):
        guests = np.unique(piece["id"].to_numpy(), return_index=True)
        mine = visitors[np.isin(ids[visitors], guests[0])]
        signatures = matrix(piece["signature"])
        for member, visitor in _pairs(keys[members], keys[mine]):
            matters = orders[mine[visitor]] < limits[member]
            place = np.searchsorted(guests[0], ids[mine[visitor[matters]]])
            row, place = np.divmod(np.unique(row_of[member[matters]] * len(guests[0]) + place), len(guests[0]))
            agree = agreeing(files.signatures, row, signatures, guests[1][place])
            order_of = orders[mine][np.searchsorted(ids[mine], guests[0])] if len(mine) else orders[:0]
            yield Pairs(files.ids[row], guests[0][place], order_of[place], agree)


def _pairs(members: np.ndarray, visitors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of members (their keys are sorted) and of visitors of the same key, a bounded number of pairs at a time."""
    low, high = np.searchsorted(members, visitors), np.searchsorted(members, visitors, side="right")
    times = high - low
    ends = np.cumsum(times)
    begin = 0
    while begin < len(visitors):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
        some = times[begin:end]
        visitor = np.repeat(np.arange(begin, end), some)
        yield np.repeat(low[begin:end] + some - np.cumsum(some), some) + np.arange(some.sum()), visitor
        begin = end
