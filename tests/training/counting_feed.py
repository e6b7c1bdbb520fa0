"""A feed whose rows follow from their place alone."""

import numpy as np


class CountingFeed:
    """Batch n holds the same rows whoever asks; its position is the step."""

    wait_seconds = 0.0

    def __init__(self, rows: list[int], batch_size: int, length: int, vocab_size: int) -> None:
        self.rows, self.batch_size, self.length, self.vocab_size = rows, batch_size, length, vocab_size
        self.count = 0
        self.stop_after = 10**9

    def __iter__(self):
        return self

    def __next__(self):
        if self.count == self.stop_after:
            raise KeyboardInterrupt
        whole = np.random.default_rng(self.count).integers(0, self.vocab_size, (self.batch_size, self.length + 1))
        self.count += 1
        rows = whole[self.rows].astype(np.int32)
        segments = np.ones((len(rows), self.length), np.int32)
        segments[:, self.length // 2 :] = 2
        weights = np.ones((len(rows), self.length), np.float32)
        weights[:, -1] = 0.0
        return {
            "tokens": rows[:, :-1],
            "targets": rows[:, 1:],
            "segment_ids": segments,
            "positions": np.tile(np.arange(self.length, dtype=np.int32), (len(rows), 1)),
            "weights": weights,
        }

    def counts(self):
        """Each row counts its number in the whole batch."""
        counts = np.zeros((self.batch_size, 1), np.int64)
        counts[self.rows, 0] = self.rows
        return counts

    def statistics(self, step, counts, before):
        return {"batches": step, "counts": list(counts), "ever": before.get("ever", 0) + sum(counts)}

    def seek(self, step):
        self.count = step
