import json
from pathlib import Path

import numpy as np
import pytest
from feed_corpora import Open
from processes import run_two

from sc2jax.feed.sources import FeedInputs

PROGRAM = Path(__file__).with_name("two_processes.py")


def run(folder: Path) -> list[dict[str, np.ndarray]]:
    """Runs both processes to their end; what the devices of each hold."""
    run_two(PROGRAM, folder)
    return [dict(np.load(folder / f"{number}.npz")) for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("meshes", [("data", "tensor"), ("tensor", "data")])
def test_two_processes_hold_and_log_the_batches_of_one(
    open_feed: Open, inputs: FeedInputs, tokenizer_path: str, tmp_path: Path, meshes: tuple[str, str]
) -> None:
    """Also where the devices that share rows are of different processes, and going on from one way to the other."""
    whole = open_feed(batch_size=8)
    for step, mesh in zip((0, 3), meshes, strict=True):
        task = {"tokens": inputs.tokens, "tokenizer": tokenizer_path, "step": step, "batches": 3, "mesh": mesh}
        (tmp_path / "task.json").write_text(json.dumps(task))
        found = run(tmp_path)
        expected, lost = [], np.zeros(1, np.int64)
        for _ in range(3):
            expected.append(next(whole)["tokens"])
            lost = lost + whole.counts()
        assert [len(held.pop("rows")) for held in found] == ([4, 4] if mesh == "data" else [8, 8])
        shards = [(name, rows) for held in found for name, rows in held.items()]
        assert len(shards) == 3 * 4
        for name, rows in shards:
            at, _, first = map(int, name.split("/"))
            np.testing.assert_array_equal(rows, expected[at][first : first + len(rows)])
        statistics = whole.statistics(step + 3, lost.sum(axis=0).tolist(), {})
        assert statistics["cut_tokens"] > 0
        assert [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)] == [statistics] * 2
