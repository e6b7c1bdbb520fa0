"""What `curate` takes of memory, all processes together, and of time, by stage, for sources that are hard on it.

    python perf/curate_memory.py [--kind=call] [--repositories=200] [--files=1000] [--near_threshold=0.7]

Makes the source in a temporary folder. Of the kinds `call`, `middle` and `mixed` the repositories are of files of about
55 bytes, which a number alone tells apart: at the end of the line, in its middle, and in its middle in files of five
languages. Of the kind `large` all files lie in one repository, and each has 8,000 bytes of lines drawn by chance. Of
the kind `archives` the repositories are tar files, and their files have 300 to 3,000 bytes of such lines; a tenth are
copies of others, and a tenth begin with the same forty lines. CPU seconds are those of all processes.
"""

import argparse
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

STAGES = ("listing", "licenses", "files", "signatures", "places", "exact", "near", "split")
LINES = {
    "call": "value = self.table.lookup(key, default, size, {n})\n",
    "middle": "value = self.table.lookup(key, {n}, default, size)\n",
    "mixed": "value = self.table.lookup(key, {n}, default, size)\n",
}
SUFFIXES = {"mixed": ("py", "rb", "lua", "jl", "go")}

CURATE = """
import sys
from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import curate
if __name__ == "__main__":
    config = CorpusConfig(near_threshold=float(sys.argv[3]), memory_bytes=int(sys.argv[4]))
    curate(config, [sys.argv[1]], sys.argv[2], 0)
"""


def main() -> None:
    """Prints one line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=[*LINES, "large", "archives"], default="call")
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--memory_bytes", type=int, default=4 << 30, help="corpus.memory_bytes")
    parser.add_argument("--folder", default=None, help="where the temporary folder is made")
    parser.add_argument("--near_threshold", type=float, default=0.7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        source, output = Path(folder, "source"), Path(folder, "corpus")
        write = write_archives if chosen.kind == "archives" else write_source
        write(source, chosen.kind, chosen.repositories, chosen.files)
        measure(source, output, chosen.near_threshold, chosen.memory_bytes)


def lines_by_chance(draw: random.Random) -> list[str]:
    """Lines that look like code."""
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(5000)]
    return [f"    {' '.join(draw.choices(words, k=2))} = {'.'.join(draw.choices(words, k=6))}\n" for _ in range(50_000)]


def write_archives(source: Path, kind: str, repositories: int, files: int) -> None:
    """Repositories as tar files."""
    del kind
    draw = random.Random(0)
    pool = lines_by_chance(draw)
    head, earlier = "".join(pool[:40]), ["".join(draw.choices(pool, k=20)) for _ in range(1000)]
    source.mkdir(parents=True)
    for number in range(repositories):
        with tarfile.open(source / f"repository-{number:06d}.tar", "w") as archive:
            for place in range(files):
                kind_of_text = draw.random()
                text = "".join(draw.choices(pool, k=draw.randrange(5, 46)))[: draw.randrange(300, 3001)]
                if kind_of_text < 0.1:
                    text = draw.choice(earlier)
                elif kind_of_text < 0.2:
                    text = head + text[:600]
                content = f"{text}\n".encode()
                member = tarfile.TarInfo(f"src/f{place}.py")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_source(source: Path, kind: str, repositories: int, files: int) -> None:
    """The files of a kind."""
    draw = random.Random(0)
    pool = lines_by_chance(draw)
    suffixes = SUFFIXES.get(kind, ("py",))
    for number in range(repositories * files):
        folder = source / f"repository-{0 if kind == 'large' else number // files:04d}"
        if number % files == 0:
            (folder / f"{number // files}").mkdir(parents=True)
        text = "".join(draw.choices(pool, k=130)) if kind == "large" else LINES[kind].format(n=1_000_000 + number)
        (folder / f"{number // files}/f{number}.{suffixes[number % len(suffixes)]}").write_text(text)


def measure(source: Path, output: Path, near_threshold: float, memory_bytes: int) -> None:
    """Curates the source and prints what was seen twenty times a second."""
    process = subprocess.Popen([sys.executable, "-c", CURATE, source, output, str(near_threshold), str(memory_bytes)])
    peaks, seconds, busy = {}, {}, {}
    last, last_busy = time.perf_counter(), 0.0
    while process.poll() is None:
        time.sleep(0.05)
        unfinished = [stage for stage in STAGES if not (output / "stages" / stage / "manifest.json").exists()]
        stage = unfinished[0] if unfinished else "corpus"
        (memory, used), now = taken(process.pid), time.perf_counter()
        seconds[stage] = seconds.get(stage, 0) + now - last
        busy[stage] = busy.get(stage, 0) + max(used - last_busy, 0)
        peaks[stage] = max(peaks.get(stage, 0), memory)
        last, last_busy = now, max(used, last_busy)
    for stage, peak in peaks.items():
        print(f"{stage}: {seconds[stage]:.1f} s, {busy[stage]:.1f} CPU s, {peak:.0f} MB")
    print(f"in all: {sum(seconds.values()):.1f} s, {last_busy:.1f} CPU s, {max(peaks.values()):.0f} MB")
    print(f"exit status {process.returncode}")


def taken(pid: int) -> tuple[float, float]:
    """Resident memory of a process and all below it, in MB, and their CPU seconds."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    except OSError:
        return 0, 0
    below = [taken(int(child)) for child in children]
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return memory + sum(one for one, _ in below), sum(map(int, times)) / 100 + sum(one for _, one in below)


if __name__ == "__main__":
    main()
