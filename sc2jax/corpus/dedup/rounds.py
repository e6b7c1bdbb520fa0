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
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup import round_steps as steps
from sc2jax.corpus.dedup.bands import optimal_bands
from sc2jax.corpus.dedup.keyed import Fold, Held, key_buckets, keyed
from sc2jax.corpus.dedup.meeting import MEETING, Side, judged
from sc2jax.corpus.dedup.plain import UNDECIDED
from sc2jax.corpus.dedup.round_steps import FALLEN, LEADERS, LED, ONE, RAW, ROWS, Work
from sc2jax.corpus.dedup.signed import KEPT, PARTITION_BYTES, Signed, Stretches, no_results
from sc2jax.corpus.dedup.similar import least_agreeing
from sc2jax.corpus.shuffle import Buckets, dealt

MOST_SURVIVORS = 64
"""Of a group, the survivors that are compared with its other members: those of a band that a great many unlike files
share (a licence, a generated head) would else be compared each with each. Files that are alike agree in several bands,
and all 64 would have to be unlike them in that one."""

_SAMPLED = 1 << 18
"""Of the rows of groups, about how many are looked at to see how many files are undecided, and which are preferred."""


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
    work = Work(Side.of(signed, partition_bytes), bands, rows, least, most_survivors, partition_bytes)
    with contextlib.ExitStack() as stack:
        fallen = stack.enter_context(_Rounds(folder, work)).run()
        last = functools.partial(steps.last, fallen=fallen)
        size = len(Stretches.of_results(signed))
        yield stack.enter_context(dealt(folder, pa.table({"stretch": np.arange(size)}), last, KEPT, size))


class _Rounds:
    """The rounds, and the tables that they hold on disk; left as a context, none lies there any more."""

    def __init__(self, folder: str, work: Work):
        self._folder, self._work = folder, work
        self._results = Stretches.of_results(work.signed)
        self._held = Held()
        self._fallen: list[Buckets] = []

    def __enter__(self) -> "_Rounds":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def run(self) -> list[Buckets]:
        """Who falls, of `FALLEN` by the stretches of results; of more than one line the lowest bound counts."""
        work, folder = self._work, self._folder
        if work.signed.starts[-1] <= work.capacity:
            decide_all = functools.partial(steps.decide_everything, work=work, results=self._results)
            self._keep(dealt(folder, ONE, decide_all, FALLEN, len(self._results)))
            return self._fallen
        buckets = key_buckets(RAW, int(work.signed.starts[-1]) * work.bands, work.partition_bytes)
        deal = functools.partial(steps.band_rows, work=work, buckets=buckets)
        rows = self._put("rows", dealt(folder, work.stretches.table(), deal, RAW, buckets, "near-duplicates"))
        while rows.rows:
            one_in = max(1, rows.rows // _SAMPLED)
            led = self._lead(rows, one_in)
            self._held.drop("rows")
            if not led.rows:
                break
            until = steps.until(led.read(len(work.stretches)), one_in, work.capacity)
            if until == UNDECIDED:
                self._finish(led)
                break
            rows = self._spread(self._settle(led, until))
        return self._fallen

    def _lead(self, rows: Buckets, one_in: int) -> Buckets:
        """The rows of groups that are not decided, and which lead theirs; a sample of them in a bucket of its own."""
        with keyed(self._folder, rows, LEADERS, self._work.partition_bytes, alone=False) as groups:
            lead = functools.partial(steps.lead, groups=groups, work=self._work, one_in=one_in)
            return self._put("led", dealt(self._folder, groups.pieces, lead, LED, len(self._work.stretches) + 1))

    def _finish(self, led: Buckets) -> None:
        """Decides on all that is left in memory."""
        head = self._head(led, UNDECIDED)
        decided = functools.partial(steps.decide_head, head=head, work=self._work, stretches=self._results)
        self._keep(dealt(self._folder, ONE, decided, FALLEN, len(self._results)))

    def _head(self, led: Buckets, until: np.uint64) -> Buckets:
        head = functools.partial(steps.head, led=led, work=self._work, until=until)
        return self._put(
            "head", dealt(self._folder, self._work.stretches.table(), head, steps.head_schema(self._work), 1)
        )

    def _settle(self, led: Buckets, until: np.uint64) -> Buckets:
        """The rows, those of files that stay as such: leaders of all their groups, and whom the plain loop keeps."""
        work, stretches = self._work, self._work.stretches
        head = self._head(led, until)
        decided = functools.partial(steps.decide_head, head=head, work=work, stretches=stretches)
        decided = self._put("decided", dealt(self._folder, ONE, decided, FALLEN, len(stretches)))
        self._held.drop("head")
        buckets = key_buckets(ROWS, led.rows, work.partition_bytes)
        known = functools.partial(steps.known, led=led, decided=decided, buckets=buckets)
        known = self._put("known", dealt(self._folder, stretches.table(), known, ROWS, buckets))
        self._held.drop("led")
        self._collect([decided])
        self._held.drop("decided")
        return known

    def _spread(self, known: Buckets) -> Buckets:
        """Compares what stays with the others of its groups, and gives the rows of these."""
        work, size = self._work, len(self._work.stretches)
        first = Fold(steps.staying, functools.partial(steps.first, most=work.most))
        with keyed(self._folder, known, first, work.partition_bytes) as groups:
            meet = functools.partial(steps.meet, groups=groups, work=work)
            meetings = self._put("meetings", dealt(self._folder, groups.pieces, meet, MEETING, 2 * size))
        self._held.drop("known")
        judge = functools.partial(steps.resembling, work=work)
        sides = work.side, work.side
        with judged(self._folder, meetings, *sides, judge, FALLEN, size, work.partition_bytes) as found:
            buckets = key_buckets(ROWS, int(meetings.counts[:, :size].sum()), work.partition_bytes)
            left = functools.partial(steps.left, meetings=meetings, found=found, work=work, buckets=buckets)
            rows = self._put("rows", dealt(self._folder, work.stretches.table(), left, ROWS, buckets))
            self._held.drop("meetings")
            self._collect(found)
        return rows

    def _collect(self, found: list[Buckets]) -> None:
        collect = functools.partial(steps.collect, found=found, results=self._results)
        self._keep(dealt(self._folder, self._work.stretches.table(), collect, FALLEN, len(self._results)))

    def _keep(self, context: contextlib.AbstractContextManager[Buckets]) -> None:
        self._fallen.append(self._put(f"fallen {len(self._fallen)}", context))

    def _put(self, name: str, context: contextlib.AbstractContextManager[Buckets]) -> Buckets:
        return self._held.put(name, context)
