"""On a cluster of Ray the same bytes come out, also where one of its machines is lost in the middle."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ON_CLUSTER = """
import sys, threading
import ray
from ray.cluster_utils import Cluster

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes import source_code

if __name__ == "__main__":
    memory = 200 << 20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
    workers = [cluster.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
    ray.init(address=cluster.address)
    write_exact = source_code.write_exact

    def lose_one(*given, **named):
        cluster.remove_node(workers.pop(), allow_graceful=False)
        return write_exact(*given, **named)

    if sys.argv[3] == "lose":
        source_code.write_exact = lose_one
    config = CorpusConfig(engine="ray", unit_bytes=20_000)
    print("digest", source_code.curate(config, [sys.argv[1]], sys.argv[2], 0).digest)
    print("workers", len(workers))
"""

ON_THIS_MACHINE = """
import sys
from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import curate
print("digest", curate(CorpusConfig(unit_bytes=20_000), [sys.argv[1]], sys.argv[2], 0).digest)
"""


def said(program: str, *arguments: str) -> dict[str, str]:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("digest ", "workers ")))


def test_a_cluster_and_one_that_loses_a_worker_give_the_same_bytes(
    plant: Callable[..., str], program: Callable[..., str], edited: Callable[..., str], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    tree = {f"pkg{number:02}/{part}.py": program(number * 7 + part, 60) for number in range(12) for part in range(5)}
    tree |= {f"pkg{number:02}/copy.py": edited(program(number * 7), 0, number % 3) for number in range(12)}
    source = plant("source", tree)
    whole = said(ON_THIS_MACHINE, source, str(tmp_path / "whole"))
    assert said(ON_CLUSTER, source, str(tmp_path / "cluster"), "keep") == whole | {"workers": "2"}
    assert said(ON_CLUSTER, source, str(tmp_path / "smaller"), "lose") == whole | {"workers": "1"}
