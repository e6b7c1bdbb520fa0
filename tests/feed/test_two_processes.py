import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from feed_corpora import Open

PROGRAM = Path(__file__).with_name("two_processes.py")
ROOT = Path(__file__).parent.parent.parent


def run(folder: Path) -> list[dict[str, np.ndarray]]:
    """Runs both processes to their end; what the devices of each hold."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(number), port, str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    return [dict(np.load(folder / f"{number}.npz")) for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("meshes", [("data", "tensor"), ("tensor", "data")])
def test_two_processes_hold_the_batches_of_one(
    open_feed: Open, corpus: str, tokenizer_path: str, tmp_path: Path, meshes: tuple[str, str]
) -> None:
    """Also where the devices that share rows are of different processes, and going on from one way to the other."""
    whole = open_feed(batch_size=8)
    for mesh in meshes:
        task = {"corpus": corpus, "tokenizer": tokenizer_path, "batches": 3, "mesh": mesh}
        (tmp_path / "task.json").write_text(json.dumps(task))
        found = run(tmp_path)
        expected = [next(whole)["tokens"] for _ in range(3)]
        assert [len(held.pop("rows")) for held in found] == ([4, 4] if mesh == "data" else [8, 8])
        shards = [(name, rows) for held in found for name, rows in held.items()]
        assert len(shards) == 3 * 4
        for name, rows in shards:
            step, _, first = map(int, name.split("/"))
            np.testing.assert_array_equal(rows, expected[step][first : first + len(rows)])
        np.testing.assert_array_equal(np.load(tmp_path / "state.npy"), whole.state())
