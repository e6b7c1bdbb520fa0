"""What a round of the greedy rule (`rounds.py`) does with one stretch of files, or with one piece of their groups."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.bands import band_hashes
from sc2jax.corpus.dedup.keyed import Fold, Keyed, ascending, numbered, openings, place
from sc2jax.corpus.dedup.meeting import Pairs, Side, hosts_of, invitations, meeting_rows
from sc2jax.corpus.dedup.plain import UNDECIDED, Grouped, decide
from sc2jax.corpus.dedup.signatures import scramble
from sc2jax.corpus.dedup.signed import KEPT, Signed, Stretches, chosen_files, each_unit, matrix
from sc2jax.corpus.shuffle import Buckets

_KEY = pa.field("key", pa.uint64())
_ID, _ORDER = pa.field("id", pa.int64()), pa.field("order", pa.uint64())
_STATE = [pa.field("bound", pa.uint64()), pa.field("count", pa.uint8())]
RAW = pa.schema([_KEY, _ID, _ORDER])
ROWS = pa.schema([*RAW, *_STATE])
"""A file in a group: `bound` is the order of the best survivor known to resemble it, its own if it stays, `UNDECIDED`
if neither; `count` says how many survivors of the group have been compared with its members."""
LED = pa.schema([*ROWS, pa.field("leads", pa.bool_())])
FALLEN = pa.schema([*KEPT, pa.field("bound", pa.uint64())])
"""A file, the one that is kept in its place, and the order of that."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What all steps know: the files, the bands, and how tables are cut."""

    side: Side
    bands: int
    rows: int
    least: int
    most: int
    partition_bytes: int

    @property
    def signed(self) -> Signed:
        """The files."""
        return self.side.signed

    @property
    def stretches(self) -> Stretches:
        """Of them, what fits in memory."""
        return self.side.stretches

    @property
    def capacity(self) -> int:
        """How many files the plain loop takes at a time."""
        return max(1, self.partition_bytes // (4 * self.signed.permutations + 9 * self.bands + 40))


ONE = pa.table({"stretch": [0]})
"""Work that cannot be divided."""


def band_rows(unit: pa.Table, work: Work, buckets: int) -> tuple[pa.Table, np.ndarray]:
    """A row for each band of each file of a stretch."""
    tables, places = [RAW.empty_table()], [np.zeros(0, np.uint16)]
    for files in each_unit(work.signed, work.stretches.units_of(unit["stretch"][0].as_py())):
        keys = band_hashes(files.signatures, work.bands, work.rows, files.languages).reshape(-1)
        columns = [keys, np.tile(files.ids, work.bands), np.tile(files.orders, work.bands)]
        tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=RAW))
        places.append(place(keys, buckets))
    return pa.concat_tables(tables), np.concatenate(places)


def decide_everything(unit: pa.Table, work: Work, results: Stretches) -> tuple[pa.Table, np.ndarray]:
    """The plain loop over all files."""
    del unit
    found = list(each_unit(work.signed, range(len(work.signed.starts) - 1)))
    if not found:
        return FALLEN.empty_table(), np.zeros(0, np.uint16)
    ids, orders = (np.concatenate([getattr(files, name) for files in found]) for name in ("ids", "orders"))
    keys = [band_hashes(files.signatures, work.bands, work.rows, files.languages).T.reshape(-1) for files in found]
    size = len(ids)
    files = Grouped(
        ids,
        orders,
        np.full(size, UNDECIDED),
        np.concatenate([files.signatures for files in found]),
        np.full(size, work.bands),
        np.concatenate(keys),
        np.zeros(size * work.bands, np.uint8),
    )
    return _decision(files, work, results)


def decide_head(unit: pa.Table, head: Buckets, work: Work, stretches: Stretches) -> tuple[pa.Table, np.ndarray]:
    """The plain loop over the files of the head."""
    del unit
    table = head.read(0)
    ids, orders, bounds = (table[name].to_numpy() for name in ("id", "order", "bound"))
    groups = table["keys"].combine_chunks()
    keys, counts = (column.combine_chunks().flatten().to_numpy() for column in (table["keys"], table["counts"]))
    lengths = np.diff(groups.offsets.to_numpy())
    files = Grouped(ids, orders, bounds, matrix(table["signature"]), lengths, keys, counts)
    return _decision(files, work, stretches)


def _decision(files: Grouped, work: Work, stretches: Stretches) -> tuple[pa.Table, np.ndarray]:
    """What the plain loop decides; a file that stays is kept in its own place."""
    kept = decide(files, work.least, work.most)
    rows = np.flatnonzero(kept >= 0)
    kept = kept[rows]
    return fallen(files.ids[rows], files.ids[kept], files.orders[kept]), stretches.of(files.ids[rows])


def _lift(rows: pa.Table) -> pa.Table:
    """What matters of each row: the order of an undecided file, or the bound of one that fell."""
    orders, bounds = rows["order"].to_numpy(), _bounds(rows)
    undecided = bounds == UNDECIDED
    columns = {
        "key": rows["key"],
        "lead": np.where(undecided, orders, UNDECIDED),
        "undecided": undecided.astype(np.int64),
        "farthest": np.where(undecided, np.uint64(0), bounds),
    }
    return pa.table(columns)


def _merge(summaries: pa.Table) -> pa.Table:
    keys = summaries["key"].to_numpy()
    first = openings(keys)
    if not len(first):
        return summaries
    merged = {
        name: ufunc.reduceat(summaries[name].to_numpy(), first)
        for name, ufunc in (("lead", np.minimum), ("undecided", np.add), ("farthest", np.maximum))
    }
    return pa.table({"key": keys[first], **merged})


LEADERS = Fold(_lift, _merge)
"""Of each group the order of its best undecided file, their number, and the highest bound of those that fell."""


def lead(piece: pa.Table, groups: Keyed, work: Work, one_in: int) -> tuple[pa.Table, np.ndarray]:
    """The rows of groups in which a file waits for another, by stretch, and a sample of the files."""
    rows, summary = groups.read(piece)
    if not len(rows):
        return LED.empty_table(), np.zeros(0, np.uint16)
    group = numbered(rows["key"].to_numpy())
    lead, undecided, farthest = (summary[name].to_numpy() for name in ("lead", "undecided", "farthest"))
    bounds, orders, ids = _bounds(rows), rows["order"].to_numpy(), rows["id"].to_numpy()
    waits = (undecided > 1) | (farthest > lead)
    chosen = np.flatnonzero(waits[group] & (bounds > lead[group]))
    leads = orders == lead[group]
    counts = rows["count"].to_numpy() if "count" in rows.column_names else np.zeros(len(rows), np.uint8)
    columns = [column[chosen] for column in (rows["key"].to_numpy(), ids, orders, bounds, counts, leads)]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=LED)
    sampled = np.flatnonzero(scramble(ids[chosen].view(np.uint64)) % np.uint64(one_in) == 0)
    places = [work.stretches.of(ids[chosen]), np.full(len(sampled), len(work.stretches), np.uint16)]
    return pa.concat_tables([table, table.take(pa.array(sampled))]), np.concatenate(places)


def until(sample: pa.Table, one_in: int, capacity: int) -> np.uint64:
    """Up to which order undecided files are few enough for the plain loop; `UNDECIDED` if all files are."""
    _, first = np.unique(sample["id"].to_numpy(), return_index=True)
    room = capacity if one_in == 1 else int(0.8 * capacity / one_in)  # of a sample some more may come than is expected
    if len(first) <= room:
        return UNDECIDED
    orders = np.sort(sample["order"].to_numpy()[first][sample["bound"].to_numpy()[first] == UNDECIDED])
    return np.uint64(UNDECIDED - np.uint64(1)) if len(orders) <= room else orders[room]


def head_schema(work: Work) -> pa.Schema:
    """A file that the plain loop decides on, with its signature, its groups, and how many survivors each has."""
    signature = pa.field("signature", pa.binary(4 * work.signed.permutations))
    lists = [pa.field("keys", pa.list_(pa.uint64())), pa.field("counts", pa.list_(pa.uint8()))]
    return pa.schema([_ID, _ORDER, _STATE[0], signature, *lists])


def head(unit: pa.Table, led: Buckets, work: Work, until: np.uint64) -> tuple[pa.Table, np.ndarray]:
    """The most preferred undecided files of a stretch, or all, with their signatures and groups."""
    stretch = unit["stretch"][0].as_py()
    rows = led.read(stretch)
    if until != UNDECIDED:
        heads = (rows["bound"].to_numpy() == UNDECIDED) & (rows["order"].to_numpy() < until)
        rows = rows.filter(pa.array(heads))
    if not len(rows):
        return head_schema(work).empty_table(), np.zeros(0, np.uint16)
    rows = rows.take(pa.array(ascending(rows["id"].to_numpy())))
    first = openings(rows["id"].to_numpy())
    offsets = pa.array([*first.tolist(), len(rows)], pa.int32())
    ids, orders, bounds = (rows[name].to_numpy()[first] for name in ("id", "order", "bound"))
    files = chosen_files(work.signed, work.stretches.units_of(stretch), ids)
    lists = [pa.ListArray.from_arrays(offsets, rows[name].combine_chunks()) for name in ("key", "count")]
    columns = [pa.array(ids), pa.array(orders), pa.array(bounds), files.column(), *lists]
    return pa.Table.from_arrays(columns, schema=head_schema(work)), np.zeros(len(first), np.uint16)


def known(unit: pa.Table, led: Buckets, decided: Buckets, buckets: int) -> tuple[pa.Table, np.ndarray]:
    """The rows of a stretch by key, with what is known now of its files; those that fell at last have none."""
    stretch = unit["stretch"][0].as_py()
    rows = led.read(stretch)
    rows = rows.take(pa.array(ascending(rows["id"].to_numpy())))
    ids, orders, bounds = (rows[name].to_numpy() for name in ("id", "order", "bound"))
    first, file = openings(ids), numbered(ids)
    if len(first):
        leads = np.logical_and.reduceat(rows["leads"].to_numpy(), first)[file]
        bounds = np.where(leads, orders, bounds)
    decision = decided.read(stretch)
    kept = dict(zip(("id", "bound"), (decision[name].to_numpy() for name in ("id", "bound")), strict=True))
    by_id = np.argsort(kept["id"])
    at = np.searchsorted(kept["id"][by_id], ids)
    at = by_id[np.minimum(at, len(by_id) - 1)] if len(by_id) else np.zeros(0, np.int64)
    if len(at):
        bounds = np.where(kept["id"][at] == ids, kept["bound"][at], bounds)
    was_undecided = rows["bound"].to_numpy() == UNDECIDED
    chosen = np.flatnonzero(~was_undecided | (bounds >= orders))
    keys, counts = rows["key"].to_numpy()[chosen], rows["count"].to_numpy()[chosen]
    columns = [keys, ids[chosen], orders[chosen], bounds[chosen], counts]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=ROWS)
    return table, place(keys, buckets)


def staying(rows: pa.Table) -> pa.Table:
    """The rows of files that stay."""
    return rows.filter(pa.array(rows["bound"].to_numpy() == rows["order"].to_numpy()))


def first(rows: pa.Table, most: int) -> pa.Table:
    """Of the files of a group that stay the first, as many as are still to be compared with its members."""
    keys, orders, counts = (rows[name].to_numpy() for name in ("key", "order", "count"))
    order = np.lexsort((orders, keys))
    rank = np.arange(len(keys)) - openings(keys)[numbered(keys)] if len(keys) else np.zeros(0, np.int64)
    return rows.take(pa.array(order[rank < most - counts[order].astype(np.int64)]))


def meet(piece: pa.Table, groups: Keyed, work: Work) -> tuple[pa.Table, np.ndarray]:
    """The members of groups, and who of those that stay is to be compared with them."""
    rows, staying = groups.read(piece)
    rows = rows.filter(pa.array(rows["bound"].to_numpy() != rows["order"].to_numpy()))
    keys, ids, orders, bounds, counts = (rows[name].to_numpy() for name in ROWS.names)
    found = staying["key"].to_numpy()
    counts = counts + np.searchsorted(found, keys, side="right") - np.searchsorted(found, keys)
    members = meeting_rows(keys, ids, orders, bounds, counts)
    stretches = work.stretches
    hosts = hosts_of(keys, ids, np.minimum(orders, bounds), stretches)
    come, places = invitations(hosts, staying, stretches, stretches)
    return pa.concat_tables([members, come]), np.concatenate([stretches.of(ids), places])


def resembling(met: Iterator[Pairs], work: Work) -> tuple[pa.Table, np.ndarray]:
    """Of the members that resemble visitors each with the most preferred of them."""
    found = [FALLEN.empty_table()]
    for pairs in met:
        alike = pairs.agreeing >= work.least
        found.append(fallen(pairs.members[alike], pairs.visitors[alike], pairs.orders[alike]))
    table = _best(pa.concat_tables(found))
    return table, work.stretches.of(table["id"].to_numpy())


def left(
    unit: pa.Table, meetings: Buckets, found: list[Buckets], work: Work, buckets: int
) -> tuple[pa.Table, np.ndarray]:
    """The rows of a stretch by key, without those of groups that decide nothing more."""
    stretch = unit["stretch"][0].as_py()
    rows = meetings.read(stretch)
    rows = rows.filter(pa.array(~rows["visits"].to_numpy() & (rows["count"].to_numpy() < work.most)))
    fell = pa.concat_tables([table.read(stretch) for table in found])
    names, bounds = fell["id"].to_numpy(), fell["bound"].to_numpy()
    order = np.argsort(names)
    ids = rows["id"].to_numpy()
    at = np.searchsorted(names[order], ids)
    known = rows["bound"].to_numpy()
    if len(order):
        at = order[np.minimum(at, len(order) - 1)]
        known = np.where(names[at] == ids, np.minimum(bounds[at], known), known)
    keys = rows["key"].to_numpy()
    columns = [keys, ids, rows["order"].to_numpy(), known, rows["count"].to_numpy()]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=ROWS)
    return table, place(keys, buckets)


def collect(unit: pa.Table, found: list[Buckets], results: Stretches) -> tuple[pa.Table, np.ndarray]:
    """Who falls in a stretch, by the stretches of results."""
    stretch = unit["stretch"][0].as_py()
    table = pa.concat_tables([table.read(stretch) for table in found])
    table = table.filter(pa.array(table["id"].to_numpy() != table["kept"].to_numpy()))
    return table, results.of(table["id"].to_numpy())


def last(unit: pa.Table, fallen: list[Buckets]) -> tuple[pa.Table, np.ndarray]:
    """Of what was found of a file in some rounds the last, which is the most preferred."""
    stretch = unit["stretch"][0].as_py()
    table = _best(pa.concat_tables([FALLEN.empty_table(), *(table.read(stretch) for table in fallen)]))
    table = table.filter(pa.array(table["id"].to_numpy() != table["kept"].to_numpy())).select(KEPT.names)
    return table, np.full(len(table), stretch, np.uint16)


def _best(fallen: pa.Table) -> pa.Table:
    """For each file the line with the lowest bound, by ascending number."""
    ids = fallen["id"].to_numpy()
    order = np.lexsort((fallen["bound"].to_numpy(), ids))
    return fallen.take(pa.array(order[openings(ids[order])]))


def fallen(ids: np.ndarray, kept: np.ndarray, bounds: np.ndarray) -> pa.Table:
    """Rows of `FALLEN`."""
    return pa.Table.from_arrays([pa.array(ids), pa.array(kept), pa.array(bounds)], schema=FALLEN)


def _bounds(rows: pa.Table) -> np.ndarray:
    """Of the first rows, which have none, all files are undecided."""
    return rows["bound"].to_numpy() if "bound" in rows.column_names else np.full(len(rows), UNDECIDED)
