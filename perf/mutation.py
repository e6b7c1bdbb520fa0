"""How many small wrong changes the tests notice: a mutation run.

    python perf/mutation.py --folder=/tmp/mutation

Draws mutants (`mutants.py`) of the rooms by a seed, as many of each kind and of each room. Each is put into a private
copy of the tree, and tests run until the first one fails: the module's own test file, then the files that import it,
directly or through other modules, the nearest first, of these its room's, and of these the quickest, for about
`--budget` seconds of tests, and the story of the whole path last. Slow tests are left out. Tests that hang are stopped,
and have noticed.

Results are appended to `results.jsonl` in the folder, so that a run that was stopped goes on where it was (use another
folder for another tree). The last lines printed are the score and, as a table, the mutants that no test noticed. To
look at the tests of one file while writing them: `--rooms=text/hunks.py --count=50 --budget=0`.

The copies are of the working tree as it is when the run begins, one for each core. How long a test file takes without a
mutant is measured when it is first needed; so start the run on a quiet machine.
"""

import argparse
import ast
import dataclasses
import functools
import json
import math
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from mutants import KINDS, Mutant, draw, find_mutants

ROOT = Path(__file__).parent.parent
ROOMS = "corpus,records,text,feed,training,checkpoint,evaluation,config,storage,settings,runs"
# It runs every stage, so it notices much and says little about where.
LAST = "tests/test_story.py"
# How much longer than alone a test file may take before it hangs: times as long, and so many seconds.
SLOWER, STARTING = 3, 60


def main() -> None:
    """Prints a line for each mutant, then the score and what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the results and the copies are kept")
    parser.add_argument("--count", type=int, default=200, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--rooms", default=ROOMS, help="folders and files below sc2jax/ to draw from")
    parser.add_argument("--budget", type=float, default=150, help="seconds of tests behind a module's own test file")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    drawn = draw(mutants_of(arguments.rooms.split(",")), arguments.count, arguments.seed)
    copies = [make_copy(folder, number) for number in range(os.cpu_count() or 1)]
    found = {result["mutant"]: result for result in read_lines(folder / "results.jsonl")}
    todo = [mutant for mutant in drawn if identity(mutant) not in found]
    work = functools.partial(run_mutant, clean=CleanTimes(folder / "clean.json"), budget=arguments.budget)
    for number, result in enumerate(in_copies(copies, work, todo), start=1):
        found[result["mutant"]] = result
        with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{number}/{len(todo)} {result['mutant']}: {result['noticed'] or 'SURVIVED'}", flush=True)
    print(report([found[identity(mutant)] for mutant in drawn]))


def mutants_of(rooms: Sequence[str]) -> Iterator[Mutant]:
    """The mutants of some rooms, each a folder or a file; those that do not exist are left out."""
    for room in rooms:
        place = ROOT / "sc2jax" / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            if path.exists():
                yield from find_mutants(str(path.relative_to(ROOT)), path.read_bytes())


def identity(mutant: Mutant) -> str:
    """A mutant in one line."""
    before, after = (" ".join(text.split()) for text in (mutant.before, mutant.after))
    return f"{mutant.file}:{mutant.line} byte {mutant.start} {mutant.kind}: {before} -> {after or '(nothing)'}"


def make_copy(folder: Path, number: int) -> Path:
    """A copy of the working tree; the cache of JAX's compiled programs is shared by all."""
    copy = folder / f"copy-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    listing = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (folder / "compiled").mkdir(exist_ok=True)
    (copy / ".pytest_cache").symlink_to(folder / "compiled")  # tests/conftest.py keeps the programs in there
    return copy


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def in_copies(copies: Sequence[Path], work: Any, items: Iterable[Any]) -> Iterator[Any]:
    """`work(copy, item)` for each item, one at a time in each copy, on a core of its own; in the order they end."""
    free: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
    for place in enumerate(copies):
        free.put(place)

    def run(item: Any) -> Any:
        core, copy = free.get()
        try:
            os.sched_setaffinity(0, {core})  # of this thread, and of the tests that it starts
            return work(copy, item)
        finally:
            free.put((core, copy))

    with ThreadPoolExecutor(len(copies)) as executor:
        yield from (done.result() for done in as_completed([executor.submit(run, item) for item in items]))


class CleanTimes:
    """The seconds that test files take without a mutant, measured when first asked for and kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def of(self, copy: Path, test: str) -> float:
        """The seconds of a test file, run in a copy that holds no mutant; infinite if a test fails all the same."""
        if test not in self._seconds:
            failed, taken = run_tests(copy, [test], limit=1800)
            if failed:
                print(f"left out, as it fails without a mutant: {failed}", flush=True)
            self._seconds[test] = math.inf if failed else round(taken, 1)
            self._path.write_text(json.dumps(self._seconds, indent=1), encoding="utf-8")
        return self._seconds[test]


def run_mutant(copy: Path, mutant: Mutant, clean: CleanTimes, budget: float) -> dict[str, Any]:
    """Runs tests on a mutant until one notices: first the module's own, then the others that fit into the budget."""
    source = (copy / mutant.file).read_bytes()
    failed, seconds = "", 0.0
    seconds_of = functools.partial(clean.of, copy)
    for choose in (own_tests, other_tests):
        tests = [] if failed else choose(mutant.file, budget, seconds_of)
        if not tests:
            continue
        limit = SLOWER * sum(map(seconds_of, tests)) + STARTING
        try:
            (copy / mutant.file).write_bytes(mutant.apply(source))
            failed, taken = run_tests(copy, tests, limit)
        finally:
            (copy / mutant.file).write_bytes(source)
        seconds += taken
    line = source.decode().splitlines()[mutant.line - 1].strip()
    described = {"mutant": identity(mutant), **dataclasses.asdict(mutant), "text": line}
    return {**described, "noticed": failed, "seconds": round(seconds, 1)}


def run_tests(copy: Path, tests: Sequence[str], limit: float) -> tuple[str, float]:
    """Runs test files until a test fails: which one did, "" if none, and the seconds that it took."""
    # Without files of bytecode nothing can be run of the mutant before, which may be of the same size and second.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", *tests]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"hangs: {' '.join(tests)}", time.monotonic() - started
    nothing_failed = process.returncode in (0, 5)  # 5: every test of the file is a slow one
    match = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    failed = "" if nothing_failed else match[1] if match else f"ends with exit code {process.returncode}"
    return failed, time.monotonic() - started


def own_tests(file: str, budget: float, seconds_of: Callable[[str], float]) -> list[str]:
    """The test files named for a module, whatever they take."""
    del budget
    return [test for test in tests_of(file) if is_own(test, file) and seconds_of(test) < math.inf]


def is_own(test: str, file: str) -> bool:
    """Whether a test file is named for a module, in the folder of tests that is named for its room."""
    return Path(test).name == f"test_{Path(file).stem}.py" and in_room(test, file)


def in_room(test: str, file: str) -> bool:
    """Whether a test file lies in the folder that is named for a module's room."""
    return Path(test).parts[1:-1][:1] == Path(file).parts[1:-1][:1]


def other_tests(file: str, budget: float, seconds_of: Callable[[str], float]) -> list[str]:
    """The other test files that import a module, in their order, as far as the budget goes."""
    distances = tests_of(file)
    last = [LAST] if budget and LAST in distances and seconds_of(LAST) < math.inf else []
    chosen: list[str] = []
    for distance in sorted(set(distances.values())):
        if budget <= 0:
            break
        level = [test for test in distances if distances[test] == distance and test != LAST and not is_own(test, file)]
        for test in sorted(level, key=lambda test: (not in_room(test, file), seconds_of(test))):
            if seconds_of(test) <= budget:
                budget -= seconds_of(test)
                chosen.append(test)
    return chosen + last


@functools.cache
def tests_of(file: str) -> dict[str, int]:
    """The test files that import a file, and through how many modules."""
    tests = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py"))
    return {test: distances[file] for test in tests if file in (distances := imported_by(test))}


@functools.cache
def imported_by(test: str) -> dict[str, int]:
    """The modules that a test file imports, by itself (0), through another module (1) and so on."""
    own = {test, *(str(folder / "conftest.py") for folder in Path(test).parents)}
    while helpers := {file for part in own for file in imports_of(part) if file.startswith("tests/")} - own:
        own |= helpers  # what a helper imports is imported by the test itself
    reached: dict[str, int] = {}
    level, distance = own, 0
    while level := {module for file in level for module in imports_of(file)} - reached.keys() - own:
        reached |= dict.fromkeys(level, distance)
        distance += 1
    return reached


@functools.cache
def imports_of(file: str) -> frozenset[str]:
    """The files of the project that a file imports anywhere in it."""
    if not (ROOT / file).exists():
        return frozenset()
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    paths = {
        path for name in names for path in (Path(f"{name.replace('.', '/')}.py"), Path(*name.split("."), "__init__.py"))
    }
    places = {place for path in paths for place in (path, Path(file).parent / path, Path("tests") / path)}
    return frozenset(str(place) for place in places if (ROOT / place).is_file())


def report(results: Sequence[dict[str, Any]]) -> str:
    """The score, by kind, and a table of the mutants that no test noticed."""
    survived = [result for result in results if not result["noticed"]]
    drawn, unnoticed = (Counter(result["kind"] for result in some) for some in (results, survived))
    lines = [f"\nnoticed: {len(results) - len(survived)} of {len(results)}"]
    lines += [f"  {kind}: {drawn[kind] - unnoticed[kind]} of {drawn[kind]}" for kind in KINDS]
    lines += ["", "| where | line | change |", "|---|---|---|"]
    for result in survived:
        change = " → ".join(f"`{' '.join(result[side].split()) or ' '}`" for side in ("before", "after"))
        lines.append(f"| {result['file']}:{result['line']} | `{result['text']}` | {change} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
