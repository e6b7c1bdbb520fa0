"""Near-duplicates across a split, on partitions: which files of one side resemble a file of the other too much.

Unlike within one side, candidates come from narrow bands that practically no pair escapes, whatever languages the two
are in, and are then verified by the similarity that the signatures estimate: of pairs of a similarity of 0.7, 50 bands
of 5 miss 1 in 10,000 (`config.share_found`), at 0.61 1 in 82.

The keys of the bands of the smaller side become a Bloom filter (Bloom 1970) of a bounded size; of the larger side only
rows that pass it are dealt by key. A key under which the sides would form more than `MOST_PAIRS` pairs is common, and
its pairs are not formed, so that the work is linear however many files are alike. A file that loses is found by the
rest of its bands; where more than a fifth of them are common, it falls unverified: what is dropped in vain is little
beside what would slip through. With a fifth of 50 bands common, of pairs at 0.7 the other 40 miss 6 in 10,000, at 0.61
29 in 1,000.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import CROSS_ROWS
from sc2jax.corpus.dedup.bands import band_hashes
from sc2jax.corpus.dedup.keyed import Fold, Held, Keyed, ascending, key_buckets, keyed, numbered, openings, place
from sc2jax.corpus.dedup.meeting import MEETING, Hosts, Pairs, Side, invitations, judged, meeting_rows
from sc2jax.corpus.dedup.plain import UNDECIDED
from sc2jax.corpus.dedup.signed import KEPT, PARTITION_BYTES, Signed, Stretches, each_unit, no_results
from sc2jax.corpus.dedup.similar import least_agreeing
from sc2jax.corpus.shuffle import Buckets, dealt

MOST_PAIRS = 1 << 22
"""Pairs of files that are formed under one key; where there were more, none is."""

MOST_COMMON = 0.2
"""Share of a file's keys that may be common: with more, it is dropped unverified."""

UNVERIFIED = -1
"""Named in place of a file of the other side where so many keys are common that nobody looked."""

_BITS_PER_KEY = 10
_MOST_BITS = 1 << 29

_ROWS = pa.schema([pa.field("key", pa.uint64()), pa.field("id", pa.int64()), pa.field("many", pa.bool_())])
_SPOTS = pa.schema([pa.field("spot", pa.int64())])
_FILTER = pa.schema([pa.field("number", pa.int64()), pa.field("bits", pa.large_binary())])
_FOUND = pa.schema([*KEPT, pa.field("agreeing", pa.int64())])
_NOWHERE = np.iinfo(np.int64).max
"""Where a file of the larger side lies, as far as the smaller one's stretches go."""


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all steps know: the smaller side, which is met, and the larger, which visits it; how they are compared."""

    few: Side
    many: Side
    few_loses: bool
    bands: int
    least: int
    most_pairs: int
    bits: int
    results: Stretches


@contextlib.contextmanager
def across(
    folder: str,
    losing: Signed,
    staying: Signed,
    threshold: float,
    partition_bytes: int = PARTITION_BYTES,
    most_pairs: int = MOST_PAIRS,
) -> Iterator[Buckets]:
    """The files of one side that resemble one of the other: held-out ones that are like training files, or the reverse.

    Args:
        folder: of the stage; tables lie in there until they are of no more use.
        losing: the side whose files fall.
        staying: the other, with signatures of the same length.
        threshold: estimated similarity from which two files are near-duplicates.
        partition_bytes: what a partition of a table may take in memory.
        most_pairs: that are formed under one key.

    Yields:
        Rows of `KEPT` by `Stretches.of_results` of the losing side: `kept` is the number of the file of the other side
        that is most similar, of equals the lowest; `UNVERIFIED` where too much is common to look.
    """
    if not len(losing.units()):
        yield no_results(folder)
        return
    results = Stretches.of_results(losing)
    units = pa.table({"stretch": np.arange(len(results) if len(staying.units()) else 0)})
    with contextlib.ExitStack() as stack, Held() as held:
        found: list[Buckets] = []
        meetings = None
        if len(units):
            work = _work(losing, staying, threshold, partition_bytes, most_pairs, results)
            meetings = _meetings(folder, held, work, partition_bytes)
            judge = functools.partial(_most_similar, work=work)
            sides = work.few, work.many
            found = stack.enter_context(judged(folder, meetings, *sides, judge, _FOUND, len(results), partition_bytes))
            last = functools.partial(_last, found=found, meetings=meetings, work=work)
        else:
            last = _nothing
        yield stack.enter_context(dealt(folder, units, last, KEPT, len(results)))


def _work(
    losing: Signed, staying: Signed, threshold: float, partition_bytes: int, most_pairs: int, results: Stretches
) -> _Work:
    sides = [Side.of(signed, partition_bytes) for signed in (losing, staying)]
    few_loses = bool(losing.starts[-1] <= staying.starts[-1])
    few, many = sides if few_loses else sides[::-1]
    bands = losing.permutations // CROSS_ROWS
    wanted = int(few.signed.starts[-1]) * bands * _BITS_PER_KEY
    bits = 1 << max(10, min(_MOST_BITS, 8 * partition_bytes, wanted).bit_length())
    least = least_agreeing(threshold, losing.permutations)
    return _Work(few, many, few_loses, bands, least, most_pairs, min(bits, _MOST_BITS), results)


def _meetings(folder: str, held: Held, work: _Work, partition_bytes: int) -> Buckets:
    """Who meets whom, of `MEETING`, by stretch of the smaller side and of the larger; then losers' common keys."""
    few, many = work.few, work.many
    sieve = _sieve(folder, held, work, partition_bytes)
    rows = int(few.signed.starts[-1] + many.signed.starts[-1] // 10) * work.bands
    buckets = key_buckets(_ROWS, rows, partition_bytes)
    units = pa.table(
        {
            "many": [False] * len(few.stretches) + [True] * len(many.stretches),
            "stretch": [*range(len(few.stretches)), *range(len(many.stretches))],
        }
    )
    deal = functools.partial(_band_rows, work=work, sieve=sieve, buckets=buckets)
    table = held.put("rows", dealt(folder, units, deal, _ROWS, buckets, "duplicates across the split"))
    held.drop("sieve")
    size = len(few.stretches) + len(many.stretches) + len(work.results)
    with keyed(
        folder, table, Fold(functools.partial(_lift, work=work), _merge), partition_bytes, alone=False
    ) as groups:
        meet = functools.partial(_meet, groups=groups, work=work)
        meetings = held.put("meetings", dealt(folder, groups.pieces, meet, MEETING, size))
    held.drop("rows")
    return meetings


def _sieve(folder: str, held: Held, work: _Work, partition_bytes: int) -> Buckets:
    """The Bloom filter of the smaller side's keys, in the one bucket of a table."""
    segments = max(1, 2 * int(work.few.signed.starts[-1]) * work.bands * 8 // partition_bytes)
    segments = min(1 << segments.bit_length(), work.bits // 1024)
    mark = functools.partial(_spots, work=work, segments=segments)
    spots = held.put("spots", dealt(folder, work.few.stretches.table(), mark, _SPOTS, segments))
    pack = functools.partial(_bits, spots=spots, bits=work.bits // segments)
    sieve = held.put("sieve", dealt(folder, spots.units(), pack, _FILTER, 1))
    held.drop("spots")
    return sieve


def _spots(unit: pa.Table, work: _Work, segments: int) -> tuple[pa.Table, np.ndarray]:
    """The bits of the filter that the keys of a stretch set."""
    found = [np.zeros(0, np.int64)]
    for files in each_unit(work.few.signed, work.few.stretches.units_of(unit["stretch"][0].as_py())):
        keys = band_hashes(files.signatures, work.bands, CROSS_ROWS).reshape(-1)
        found += _two_spots(keys, work.bits)
    spots = np.concatenate(found)
    return pa.table({"spot": spots}), (spots // (work.bits // segments)).astype(np.uint16)


def _bits(unit: pa.Table, spots: Buckets, bits: int) -> tuple[pa.Table, np.ndarray]:
    segment = unit["bucket"][0].as_py()
    marked = np.zeros(bits, bool)
    for piece in spots.pieces(segment):
        marked[piece["spot"].to_numpy() - segment * bits] = True
    packed = np.packbits(marked, bitorder="little").tobytes()
    table = pa.table({"number": [segment], "bits": pa.array([packed], pa.large_binary())})
    return table, np.zeros(1, np.uint16)


def _two_spots(keys: np.ndarray, bits: int) -> list[np.ndarray]:
    mask = np.uint64(bits - 1)
    return [(keys & mask).astype(np.int64), ((keys >> np.uint64(35)) & mask).astype(np.int64)]


def _passing(keys: np.ndarray, packed: np.ndarray, bits: int) -> np.ndarray:
    """The places of keys that the filter lets through: those of the smaller side, and few others."""
    passing = np.arange(len(keys))
    for spots in _two_spots(keys, bits):
        spot = spots[passing]
        passing = passing[(packed[spot >> 3] >> (spot & 7).astype(np.uint8)) & 1 == 1]
    return passing


@functools.lru_cache(maxsize=1)
def _packed(folder: str, names: tuple[str, ...]) -> np.ndarray:
    """The bytes of a filter, held once in a process for all of its threads."""
    tables = Buckets(folder, _FILTER, names, np.ones((len(names), 1), np.int64)).read(0)
    order = np.argsort(tables["number"].to_numpy())
    return np.frombuffer(b"".join(tables["bits"].take(pa.array(order)).to_pylist()), np.uint8)


def _band_rows(unit: pa.Table, work: _Work, sieve: Buckets, buckets: int) -> tuple[pa.Table, np.ndarray]:
    """A row for each band of each file of a stretch; of the larger side, where the smaller has that key."""
    many, stretch = unit["many"][0].as_py(), unit["stretch"][0].as_py()
    side = work.many if many else work.few
    tables, places = [_ROWS.empty_table()], [np.zeros(0, np.uint16)]
    for files in each_unit(side.signed, side.stretches.units_of(stretch)):
        keys = band_hashes(files.signatures, work.bands, CROSS_ROWS).reshape(-1)
        rows = np.arange(len(keys))
        if many:
            rows = _passing(keys, _packed(sieve.folder, sieve.names), work.bits)
        columns = [keys[rows], files.ids[rows % len(files)], np.full(len(rows), many)]
        tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=_ROWS))
        places.append(place(keys[rows], buckets))
    return pa.concat_tables(tables), np.concatenate(places)


def _lift(rows: pa.Table, work: _Work) -> pa.Table:
    """Where each row lies, and of which side it is."""
    many, ids = rows["many"].to_numpy(), rows["id"].to_numpy()
    stretches = np.full(len(ids), _NOWHERE)
    stretches[~many] = work.few.stretches.of(ids[~many])
    return pa.table(
        {"key": rows["key"], "stretch": stretches, "few": (~many).astype(np.int64), "many": many.astype(np.int64)}
    )


def _merge(summaries: pa.Table) -> pa.Table:
    """How many files of each side are in each group, by stretch."""
    keys, stretches = summaries["key"].to_numpy(), summaries["stretch"].to_numpy()
    order = np.lexsort((stretches, keys))
    keys, stretches = keys[order], stretches[order]
    first = np.flatnonzero(np.concatenate([[True], (keys[1:] != keys[:-1]) | (stretches[1:] != stretches[:-1])]))
    if not len(keys):
        return summaries
    sums = {name: np.add.reduceat(summaries[name].to_numpy()[order], first) for name in ("few", "many")}
    return pa.table({"key": keys[first], "stretch": stretches[first], **sums})


def _meet(piece: pa.Table, groups: Keyed, work: _Work) -> tuple[pa.Table, np.ndarray]:
    """The members of groups, their visitors, and losers whose key is common."""
    rows, summary = groups.read(piece)
    keys, stretches = summary["key"].to_numpy(), summary["stretch"].to_numpy()
    distinct, group = keys[openings(keys)], numbered(keys)
    few, many = (np.bincount(group, summary[name].to_numpy(), len(distinct)) for name in ("few", "many"))
    formed = (few * many > 0) & (few * many <= work.most_pairs)
    common = few * many > work.most_pairs
    of_row = np.searchsorted(distinct, rows["key"].to_numpy())
    visits, ids = rows["many"].to_numpy(), rows["id"].to_numpy()
    meeting = formed[of_row]
    members, visitors = np.flatnonzero(meeting & ~visits), np.flatnonzero(meeting & visits)
    hosting = np.flatnonzero(formed[group] & (stretches != _NOWHERE))
    hosts = Hosts(keys[hosting], stretches[hosting], np.full(len(hosting), UNDECIDED))
    guests = rows.take(pa.array(visitors)).append_column("order", pa.array(np.zeros(len(visitors), np.uint64)))
    come, places = invitations(hosts, guests, work.few.stretches, work.many.stretches)
    members = rows.take(pa.array(members))
    here = meeting_rows(members["key"].to_numpy(), members["id"].to_numpy(), np.full(len(members), UNDECIDED))
    losers = np.flatnonzero(common[of_row] & (visits != work.few_loses))
    lost = meeting_rows(rows["key"].to_numpy()[losers], ids[losers], np.zeros(len(losers), np.uint64))
    last = len(work.few.stretches) + len(work.many.stretches) + work.results.of(ids[losers]).astype(np.int64)
    tables = pa.concat_tables([here, come, lost])
    return tables, np.concatenate([work.few.stretches.of(members["id"].to_numpy()), places, last.astype(np.uint16)])


def _most_similar(met: Iterator[Pairs], work: _Work) -> tuple[pa.Table, np.ndarray]:
    """Of the losers that resemble others, each with the one that it resembles most."""
    found = [_FOUND.empty_table()]
    for pairs in met:
        alike = pairs.agreeing >= work.least
        sides = [pairs.members[alike], pairs.visitors[alike]]
        losers, others = sides if work.few_loses else sides[::-1]
        columns = [pa.array(column) for column in (losers, others, pairs.agreeing[alike])]
        found.append(pa.Table.from_arrays(columns, schema=_FOUND))
    table = _best(pa.concat_tables(found))
    return table, work.results.of(table["id"].to_numpy())


def _best(found: pa.Table) -> pa.Table:
    """For each loser the most similar, of equals the lowest."""
    ids, kept, agreeing = (found[name].to_numpy() for name in _FOUND.names)
    order = np.lexsort((kept, -agreeing, ids))
    return found.take(pa.array(order[openings(ids[order])]))


def _last(unit: pa.Table, found: list[Buckets], meetings: Buckets, work: _Work) -> tuple[pa.Table, np.ndarray]:
    """What a stretch of results holds: losers that resemble another, and those with too many common keys."""
    stretch = unit["stretch"][0].as_py()
    table = _best(pa.concat_tables([_FOUND.empty_table(), *(some.read(stretch) for some in found)])).select(KEPT.names)
    lost = meetings.read(len(work.few.stretches) + len(work.many.stretches) + stretch)["id"].to_numpy()
    ids, counts = np.unique(lost, return_counts=True)
    ids = np.setdiff1d(ids[counts > MOST_COMMON * work.bands], table["id"].to_numpy())
    unseen = pa.Table.from_arrays([pa.array(ids), pa.array(np.full(len(ids), UNVERIFIED))], schema=KEPT)
    table = pa.concat_tables([table, unseen])
    table = table.take(pa.array(ascending(table["id"].to_numpy())))
    return table, np.full(len(table), stretch, np.uint16)


def _nothing(unit: pa.Table) -> tuple[pa.Table, np.ndarray]:
    del unit
    return KEPT.empty_table(), np.zeros(0, np.uint16)
