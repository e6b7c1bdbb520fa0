"""The default rule of near-deduplication: survivors chosen greedily by preference, in rounds on partitions.

A file falls if a survivor that is preferred to it shares a band with it and their estimated similarity reaches the
threshold; it is kept by the most preferred of those. One process would go through the files in their order
(`plain.py`). Here, in every round, the undecided file that leads all of its groups (what has one key in a band) stays;
so do those that the plain loop keeps of as many of the most preferred undecided ones as fit in memory, which settles
groups of a great many files at once. All that stay are compared with the members of their groups, of which those that
resemble them fall. The result is that of the plain loop, whatever the partitions. It is the greedy maximal independent
set in rounds of Blelloch, Fineman and Shun (2012), "Greedy Sequential Maximal Independent Set and Matching are Parallel
on Average", on a graph whose edges are only looked at from survivors.

A file that fell is still compared with undecided files that are preferred to the survivor it fell to, since the most
preferred is named.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.bands import band_hashes, optimal_bands
from sc2jax.corpus.dedup.keyed import (
    Fold,
    Held,
    Keyed,
    ascending,
    key_buckets,
    keyed,
    numbered,
    openings,
    place,
)
from sc2jax.corpus.dedup.meeting import MEETING, Pairs, Side, hosts_of, invitations, judged, meeting_rows
from sc2jax.corpus.dedup.plain import UNDECIDED, Grouped, decide
from sc2jax.corpus.dedup.signatures import scramble
from sc2jax.corpus.dedup.signed import (
    KEPT,
    PARTITION_BYTES,
    Signed,
    Stretches,
    chosen_files,
    each_unit,
    matrix,
    no_results,
)
from sc2jax.corpus.dedup.similar import least_agreeing
from sc2jax.corpus.shuffle import Buckets, dealt

MOST_SURVIVORS = 64
"""Of a group, the survivors that are compared with its other members: those of a band that a great many unlike files
share (a licence, a generated head) would else be compared each with each. Files that are alike agree in several bands,
and all 64 would have to be unlike them in that one."""

_SAMPLED = 1 << 18
"""Of the rows of groups, about how many are looked at to see how many files are undecided, and which are preferred."""

_KEY = pa.field("key", pa.uint64())
_ID, _ORDER = pa.field("id", pa.int64()), pa.field("order", pa.uint64())
_STATE = [pa.field("bound", pa.uint64()), pa.field("count", pa.uint8())]
_RAW = pa.schema([_KEY, _ID, _ORDER])
_ROWS = pa.schema([*_RAW, *_STATE])
"""A file in a group: `bound` is the order of the best survivor known to resemble it, its own if it stays, `UNDECIDED`
if neither; `count` says how many survivors of the group have been compared with its members."""
_LED = pa.schema([*_ROWS, pa.field("leads", pa.bool_())])
_FALLEN = pa.schema([*KEPT, pa.field("bound", pa.uint64())])
"""A file, the one that is kept in its place, and the order of that."""


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all steps know: the files, the bands, and how tables are cut."""

    side: Side
    bands: int
    rows: int
    least: int
    most: int
    partition_bytes: int

    @property
    def signed(self) -> Signed:
        return self.side.signed

    @property
    def stretches(self) -> Stretches:
        return self.side.stretches

    @property
    def capacity(self) -> int:
        """How many files the plain loop takes at a time."""
        return max(1, self.partition_bytes // (4 * self.signed.permutations + 9 * self.bands + 40))


@contextlib.contextmanager
def greedy(
    folder: str,
    signed: Signed,
    threshold: float,
    partition_bytes: int = PARTITION_BYTES,
    most_survivors: int = MOST_SURVIVORS,
) -> Iterator[Buckets]:
    """The files that fall, and for each the survivor that is kept in its place.

    Args:
        folder: of the stage; tables lie in there until they are of no more use.
        signed: the files; those of one language are compared.
        threshold: similarity from which two count as the same. Bands follow from it.
        partition_bytes: what a partition of a table may take in memory.
        most_survivors: of a group, that are compared with its other members.

    Yields:
        Rows of `KEPT` by `Stretches.of_results`; each file at most once.
    """
    if not len(signed.units()):
        yield no_results(folder)
        return
    bands, rows = optimal_bands(threshold, signed.permutations)
    least = least_agreeing(threshold, signed.permutations)
    work = _Work(Side.of(signed, partition_bytes), bands, rows, least, most_survivors, partition_bytes)
    with contextlib.ExitStack() as stack:
        fallen = stack.enter_context(_Rounds(folder, work)).run()
        last = functools.partial(_last, fallen=fallen)
        size = len(Stretches.of_results(signed))
        yield stack.enter_context(dealt(folder, pa.table({"stretch": np.arange(size)}), last, KEPT, size))


class _Rounds:
    """The rounds, and the tables that they hold on disk; left as a context, none lies there any more."""

    def __init__(self, folder: str, work: _Work):
        self._folder, self._work = folder, work
        self._results = Stretches.of_results(work.signed)
        self._held = Held()
        self._fallen: list[Buckets] = []

    def __enter__(self) -> "_Rounds":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def run(self) -> list[Buckets]:
        """Who falls, of `_FALLEN` by the stretches of results; of more than one line the lowest bound counts."""
        work, folder = self._work, self._folder
        if work.signed.starts[-1] <= work.capacity:
            decide_all = functools.partial(_decide_everything, work=work, results=self._results)
            self._keep(dealt(folder, _ONE, decide_all, _FALLEN, len(self._results)))
            return self._fallen
        buckets = key_buckets(_RAW, int(work.signed.starts[-1]) * work.bands, work.partition_bytes)
        deal = functools.partial(_band_rows, work=work, buckets=buckets)
        rows = self._put("rows", dealt(folder, work.stretches.table(), deal, _RAW, buckets, "near-duplicates"))
        while rows.rows:
            one_in = max(1, rows.rows // _SAMPLED)
            led = self._lead(rows, one_in)
            self._held.drop("rows")
            if not led.rows:
                break
            until = _until(led.read(len(work.stretches)), one_in, work.capacity)
            if until == UNDECIDED:
                self._finish(led)
                break
            rows = self._spread(self._settle(led, until))
        return self._fallen

    def _lead(self, rows: Buckets, one_in: int) -> Buckets:
        """The rows of groups that are not decided, and which lead theirs; a sample of them in a bucket of its own."""
        with keyed(self._folder, rows, _LEADERS, self._work.partition_bytes, alone=False) as groups:
            lead = functools.partial(_lead, groups=groups, work=self._work, one_in=one_in)
            return self._put("led", dealt(self._folder, groups.pieces, lead, _LED, len(self._work.stretches) + 1))

    def _finish(self, led: Buckets) -> None:
        """Decides on all that is left in memory."""
        head = self._head(led, UNDECIDED)
        decided = functools.partial(_decide, head=head, work=self._work, stretches=self._results)
        self._keep(dealt(self._folder, _ONE, decided, _FALLEN, len(self._results)))

    def _head(self, led: Buckets, until: np.uint64) -> Buckets:
        head = functools.partial(_head, led=led, work=self._work, until=until)
        return self._put("head", dealt(self._folder, self._work.stretches.table(), head, _head_schema(self._work), 1))

    def _settle(self, led: Buckets, until: np.uint64) -> Buckets:
        """The rows, those of files that stay as such: leaders of all their groups, and whom the plain loop keeps."""
        work, stretches = self._work, self._work.stretches
        head = self._head(led, until)
        decided = functools.partial(_decide, head=head, work=work, stretches=stretches)
        decided = self._put("decided", dealt(self._folder, _ONE, decided, _FALLEN, len(stretches)))
        self._held.drop("head")
        buckets = key_buckets(_ROWS, led.rows, work.partition_bytes)
        known = functools.partial(_known, led=led, decided=decided, buckets=buckets)
        known = self._put("known", dealt(self._folder, stretches.table(), known, _ROWS, buckets))
        self._held.drop("led")
        self._collect([decided])
        self._held.drop("decided")
        return known

    def _spread(self, known: Buckets) -> Buckets:
        """Compares what stays with the others of its groups, and gives the rows of these."""
        work, size = self._work, len(self._work.stretches)
        first = Fold(_staying, functools.partial(_first, most=work.most))
        with keyed(self._folder, known, first, work.partition_bytes) as groups:
            meet = functools.partial(_meet, groups=groups, work=work)
            meetings = self._put("meetings", dealt(self._folder, groups.pieces, meet, MEETING, 2 * size))
        self._held.drop("known")
        judge = functools.partial(_resembling, work=work)
        sides = work.side, work.side
        with judged(self._folder, meetings, *sides, judge, _FALLEN, size, work.partition_bytes) as found:
            buckets = key_buckets(_ROWS, int(meetings.counts[:, :size].sum()), work.partition_bytes)
            left = functools.partial(_left, meetings=meetings, found=found, work=work, buckets=buckets)
            rows = self._put("rows", dealt(self._folder, work.stretches.table(), left, _ROWS, buckets))
            self._held.drop("meetings")
            self._collect(found)
        return rows

    def _collect(self, found: list[Buckets]) -> None:
        collect = functools.partial(_collect, found=found, results=self._results)
        self._keep(dealt(self._folder, self._work.stretches.table(), collect, _FALLEN, len(self._results)))

    def _keep(self, context: contextlib.AbstractContextManager[Buckets]) -> None:
        self._fallen.append(self._put(f"fallen {len(self._fallen)}", context))

    def _put(self, name: str, context: contextlib.AbstractContextManager[Buckets]) -> Buckets:
        return self._held.put(name, context)


_ONE = pa.table({"stretch": [0]})
"""Work that cannot be divided."""


def _band_rows(unit: pa.Table, work: _Work, buckets: int) -> tuple[pa.Table, np.ndarray]:
    """A row for each band of each file of a stretch."""
    tables, places = [_RAW.empty_table()], [np.zeros(0, np.uint16)]
    for files in each_unit(work.signed, work.stretches.units_of(unit["stretch"][0].as_py())):
        keys = band_hashes(files.signatures, work.bands, work.rows, files.languages).reshape(-1)
        columns = [keys, np.tile(files.ids, work.bands), np.tile(files.orders, work.bands)]
        tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=_RAW))
        places.append(place(keys, buckets))
    return pa.concat_tables(tables), np.concatenate(places)


def _decide_everything(unit: pa.Table, work: _Work, results: Stretches) -> tuple[pa.Table, np.ndarray]:
    """The plain loop over all files."""
    del unit
    found = list(each_unit(work.signed, range(len(work.signed.starts) - 1)))
    if not found:
        return _FALLEN.empty_table(), np.zeros(0, np.uint16)
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


def _decide(unit: pa.Table, head: Buckets, work: _Work, stretches: Stretches) -> tuple[pa.Table, np.ndarray]:
    """The plain loop over the files of the head."""
    del unit
    table = head.read(0)
    ids, orders, bounds = (table[name].to_numpy() for name in ("id", "order", "bound"))
    groups = table["keys"].combine_chunks()
    keys, counts = (column.combine_chunks().flatten().to_numpy() for column in (table["keys"], table["counts"]))
    lengths = np.diff(groups.offsets.to_numpy())
    files = Grouped(ids, orders, bounds, matrix(table["signature"]), lengths, keys, counts)
    return _decision(files, work, stretches)


def _decision(files: Grouped, work: _Work, stretches: Stretches) -> tuple[pa.Table, np.ndarray]:
    """What the plain loop decides; a file that stays is kept in its own place."""
    kept = decide(files, work.least, work.most)
    rows = np.flatnonzero(kept >= 0)
    kept = kept[rows]
    return _fallen(files.ids[rows], files.ids[kept], files.orders[kept]), stretches.of(files.ids[rows])


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


_LEADERS = Fold(_lift, _merge)
"""Of each group the order of its best undecided file, their number, and the highest bound of those that fell."""


def _lead(piece: pa.Table, groups: Keyed, work: _Work, one_in: int) -> tuple[pa.Table, np.ndarray]:
    """The rows of groups in which a file waits for another, by stretch, and a sample of the files."""
    rows, summary = groups.read(piece)
    if not len(rows):
        return _LED.empty_table(), np.zeros(0, np.uint16)
    group = numbered(rows["key"].to_numpy())
    lead, undecided, farthest = (summary[name].to_numpy() for name in ("lead", "undecided", "farthest"))
    bounds, orders, ids = _bounds(rows), rows["order"].to_numpy(), rows["id"].to_numpy()
    waits = (undecided > 1) | (farthest > lead)
    chosen = np.flatnonzero(waits[group] & (bounds > lead[group]))
    leads = (orders == lead[group]) & (bounds == UNDECIDED)
    counts = rows["count"].to_numpy() if "count" in rows.column_names else np.zeros(len(rows), np.uint8)
    columns = [column[chosen] for column in (rows["key"].to_numpy(), ids, orders, bounds, counts, leads)]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=_LED)
    sampled = np.flatnonzero(scramble(ids[chosen].view(np.uint64)) % np.uint64(one_in) == 0)
    places = [work.stretches.of(ids[chosen]), np.full(len(sampled), len(work.stretches), np.uint16)]
    return pa.concat_tables([table, table.take(pa.array(sampled))]), np.concatenate(places)


def _until(sample: pa.Table, one_in: int, capacity: int) -> np.uint64:
    """Up to which order undecided files are few enough for the plain loop; `UNDECIDED` if all files are."""
    _, first = np.unique(sample["id"].to_numpy(), return_index=True)
    room = capacity if one_in == 1 else int(0.8 * capacity / one_in)  # of a sample some more may come than is expected
    if len(first) <= room:
        return UNDECIDED
    orders = np.sort(sample["order"].to_numpy()[first][sample["bound"].to_numpy()[first] == UNDECIDED])
    return np.uint64(UNDECIDED - np.uint64(1)) if len(orders) <= room else orders[room]


def _head_schema(work: _Work) -> pa.Schema:
    signature = pa.field("signature", pa.binary(4 * work.signed.permutations))
    lists = [pa.field("keys", pa.list_(pa.uint64())), pa.field("counts", pa.list_(pa.uint8()))]
    return pa.schema([_ID, _ORDER, _STATE[0], signature, *lists])


def _head(unit: pa.Table, led: Buckets, work: _Work, until: np.uint64) -> tuple[pa.Table, np.ndarray]:
    """The most preferred undecided files of a stretch, or all, with their signatures and groups."""
    stretch = unit["stretch"][0].as_py()
    rows = led.read(stretch)
    if until != UNDECIDED:
        heads = (rows["bound"].to_numpy() == UNDECIDED) & (rows["order"].to_numpy() < until)
        rows = rows.filter(pa.array(heads))
    if not len(rows):
        return _head_schema(work).empty_table(), np.zeros(0, np.uint16)
    rows = rows.take(pa.array(ascending(rows["id"].to_numpy())))
    first = openings(rows["id"].to_numpy())
    offsets = pa.array([*first.tolist(), len(rows)], pa.int32())
    ids, orders, bounds = (rows[name].to_numpy()[first] for name in ("id", "order", "bound"))
    files = chosen_files(work.signed, work.stretches.units_of(stretch), ids)
    lists = [pa.ListArray.from_arrays(offsets, rows[name].combine_chunks()) for name in ("key", "count")]
    columns = [pa.array(ids), pa.array(orders), pa.array(bounds), files.column(), *lists]
    return pa.Table.from_arrays(columns, schema=_head_schema(work)), np.zeros(len(first), np.uint16)


def _known(unit: pa.Table, led: Buckets, decided: Buckets, buckets: int) -> tuple[pa.Table, np.ndarray]:
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
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=_ROWS)
    return table, place(keys, buckets)


def _staying(rows: pa.Table) -> pa.Table:
    """The rows of files that stay."""
    return rows.filter(pa.array(rows["bound"].to_numpy() == rows["order"].to_numpy()))


def _first(rows: pa.Table, most: int) -> pa.Table:
    """Of the files of a group that stay the first, as many as are still to be compared with its members."""
    keys, orders, counts = (rows[name].to_numpy() for name in ("key", "order", "count"))
    order = np.lexsort((orders, keys))
    rank = np.arange(len(keys)) - openings(keys)[numbered(keys)] if len(keys) else np.zeros(0, np.int64)
    return rows.take(pa.array(order[rank < most - counts[order].astype(np.int64)]))


def _meet(piece: pa.Table, groups: Keyed, work: _Work) -> tuple[pa.Table, np.ndarray]:
    """The members of groups, and who of those that stay is to be compared with them."""
    rows, staying = groups.read(piece)
    rows = rows.filter(pa.array(rows["bound"].to_numpy() != rows["order"].to_numpy()))
    keys, ids, orders, bounds, counts = (rows[name].to_numpy() for name in _ROWS.names)
    found = staying["key"].to_numpy()
    counts = counts + np.searchsorted(found, keys, side="right") - np.searchsorted(found, keys)
    members = meeting_rows(keys, ids, orders, bounds, counts)
    stretches = work.stretches
    hosts = hosts_of(keys, ids, np.minimum(orders, bounds), stretches)
    come, places = invitations(hosts, staying, stretches, stretches)
    return pa.concat_tables([members, come]), np.concatenate([stretches.of(ids), places])


def _resembling(met: Iterator[Pairs], work: _Work) -> tuple[pa.Table, np.ndarray]:
    """Of the members that resemble visitors each with the most preferred of them."""
    found = [_FALLEN.empty_table()]
    for pairs in met:
        alike = pairs.agreeing >= work.least
        found.append(_fallen(pairs.members[alike], pairs.visitors[alike], pairs.orders[alike]))
    table = _best(pa.concat_tables(found))
    return table, work.stretches.of(table["id"].to_numpy())


def _left(
    unit: pa.Table, meetings: Buckets, found: list[Buckets], work: _Work, buckets: int
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
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=_ROWS)
    return table, place(keys, buckets)


def _collect(unit: pa.Table, found: list[Buckets], results: Stretches) -> tuple[pa.Table, np.ndarray]:
    """Who falls in a stretch, by the stretches of results."""
    stretch = unit["stretch"][0].as_py()
    table = pa.concat_tables([table.read(stretch) for table in found])
    table = table.filter(pa.array(table["id"].to_numpy() != table["kept"].to_numpy()))
    return table, results.of(table["id"].to_numpy())


def _last(unit: pa.Table, fallen: list[Buckets]) -> tuple[pa.Table, np.ndarray]:
    """Of what was found of a file in some rounds the last, which is the most preferred."""
    stretch = unit["stretch"][0].as_py()
    table = _best(pa.concat_tables([_FALLEN.empty_table(), *(table.read(stretch) for table in fallen)]))
    table = table.filter(pa.array(table["id"].to_numpy() != table["kept"].to_numpy())).select(KEPT.names)
    return table, np.full(len(table), stretch, np.uint16)


def _best(fallen: pa.Table) -> pa.Table:
    """For each file the line with the lowest bound, by ascending number."""
    ids = fallen["id"].to_numpy()
    order = np.lexsort((fallen["bound"].to_numpy(), ids))
    return fallen.take(pa.array(order[openings(ids[order])]))


def _fallen(ids: np.ndarray, kept: np.ndarray, bounds: np.ndarray) -> pa.Table:
    return pa.Table.from_arrays([pa.array(ids), pa.array(kept), pa.array(bounds)], schema=_FALLEN)


def _bounds(rows: pa.Table) -> np.ndarray:
    """Of the first rows, which have none, all files are undecided."""
    return rows["bound"].to_numpy() if "bound" in rows.column_names else np.full(len(rows), UNDECIDED)
