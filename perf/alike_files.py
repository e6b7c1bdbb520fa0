"""What `curate` takes for many small files that are much alike: peak memory of all its processes, and seconds, by stage.

    python perf/alike_files.py [--repositories=200] [--files=1000] [--kind=call] [--near_threshold=0.7]

Makes a source of repositories of files of about 60 bytes in a temporary folder. Of the kind `call` a number at the end
tells a file from all others, of `middle` one in its middle, of `mixed` the files are in five languages, and of `copies` a
number that the five-token grams do not see, so that thousands of signatures are equal.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STAGES = ("licenses", "files", "exact", "signatures", "near", "split")
KINDS = {
    "call": "value = self.table.lookup(key, default, size, {n})\n",
    "middle": "value = self.table.lookup(key, {n}, default, size)\n",
    "mixed": "value = self.table.lookup(key, {n}, default, size)\n",
    "copies": "value = self.table.lookup(key, default, size){spaces}\n",
}
SUFFIXES = {"mixed": ("py", "rb", "lua", "jl", "go")}


def main() -> None:
    """Prints one line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kind", choices=sorted(KINDS), default="call")
    parser.add_argument("--near_threshold", type=float, default=0.7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "source"), Path(folder, "corpus")
        for number in range(chosen.repositories):
            _write(source / f"repository-{number:04d}", number * chosen.files, chosen.files, chosen.kind)
        _measure(source, output, chosen.near_threshold)


def _write(folder: Path, first: int, count: int, kind: str) -> None:
    folder.mkdir(parents=True)
    suffixes = SUFFIXES.get(kind, ("py",))
    for number in range(first, first + count):
        text = KINDS[kind].format(n=1_000_000 + number, spaces="")
        (folder / f"f{number}.{suffixes[number % len(suffixes)]}").write_text(text)


def _measure(source: Path, output: Path, near_threshold: float) -> None:
    code = (
        "import sys\n"
        "from sc2jax.corpus.config import CorpusConfig\n"
        "from sc2jax.corpus.recipes.source_code import curate\n"
        "if __name__ == '__main__':\n"
        "    curate(CorpusConfig(near_threshold=float(sys.argv[3])), [sys.argv[1]], sys.argv[2], 0)\n"
    )
    script = output.parent / "curate_it.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script, source, output, str(near_threshold)])
    peaks: dict[str, float] = {}
    seconds: dict[str, float] = {}
    done = threading.Event()

    def sample() -> None:
        last = time.perf_counter()
        while not done.wait(0.05):
            finished = [(output / "stages" / stage / "manifest.json").exists() for stage in STAGES]
            stage = STAGES[finished.index(False)] if not all(finished) else "corpus"
            now = time.perf_counter()
            seconds[stage] = seconds.get(stage, 0) + now - last
            last = now
            peaks[stage] = max(peaks.get(stage, 0), _memory(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    process.wait()
    done.set()
    sampler.join()
    for stage, peak in peaks.items():
        print(f"{stage}: {seconds[stage]:.1f} s, {peak:.0f} MB")
    print(f"in all: {sum(seconds.values()):.1f} s, {max(peaks.values()):.0f} MB, exit status {process.returncode}")


def _memory(pid: int) -> float:
    """Resident memory of a process and all below it, in MB."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")), "0")
    return int(resident) / 1000 + sum(_memory(int(child)) for child in children)


if __name__ == "__main__":
    main()
