"""The account of the repositories: a line for each that was found, whatever became of it."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest


def rows(folder: str, manifest: Manifest, prefix: str) -> list[dict]:
    return [row for table in read_tables(folder, manifest, prefix) for row in table.to_pylist()]


@pytest.fixture
def source(plant: Callable[..., str], program: Callable[..., str]) -> str:
    files = {f"good{number}/m{inner}.py": program(number * 10 + inner) for number in range(12) for inner in range(2)}
    files |= {
        "twin/a.py": program(0),
        "broken/.git/HEAD": "nonsense",
        "broken/x.py": "1",
        "licensed/LICENSE": "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n",
        "licensed/a.py": program(7_001),
        "data/a.unknown": "1",
        "data/b.unknown": "2",
        "data/c.py": "",
    }
    return plant("src", files)


def test_every_repository_has_a_line(source: str, tmp_path: Path) -> None:
    output = str(tmp_path / "corpus")
    manifest = curate(CorpusConfig(heldout_fraction=0.3), [source], output, seed=0)
    lines = {row["found"]: row for row in rows(output, manifest, "repositories")}
    assert lines.keys() == {path.name for path in Path(source).iterdir()}
    assert {row["source"] for row in lines.values()} == {"src"}
    kept, sizes = defaultdict(Counter), Counter()
    for side in ("train", "heldout"):
        for row in rows(output, manifest, side):
            kept[row["repository"]][f"{side}_files"] += 1
            sizes[row["repository"]] += row["source_bytes"]
    empty: Counter[str] = Counter()
    for name, line in lines.items():
        sides = kept.get(name, empty)
        found = [path for path in Path(source, name).rglob("*") if path.is_file() and name != "broken"]
        assert (line["files"], line["bytes"]) == (len(found), sum(path.stat().st_size for path in found))
        assert (line["train_files"], line["heldout_files"]) == (sides["train_files"], sides["heldout_files"])
        assert line["kept_bytes"] == sizes[name]
        assert bool(line["reason"]) == (name not in kept)
    assert {line["heldout_files"] > 0 for line in lines.values()} == {True, False}
    told = {name: (line["reason"], line["detail"]) for name, line in lines.items() if line["reason"]}
    assert told == {
        "broken": ("unreadable_git", "its HEAD holds no commit"),
        "twin": ("exact_duplicate", "1 of 1 files"),
        "licensed": ("non_permissive_license", "2 of 2 files"),
        "data": ("unknown_language", "2 of 3 files"),
    }
    assert manifest.statistics["repositories"] == {
        "found": len(lines),
        "kept": len(kept),
        "without": dict(sorted(Counter(reason for reason, _ in told.values()).items())),
    }


def test_a_repository_outside_of_the_sample_has_a_line(source: str, tmp_path: Path) -> None:
    output = str(tmp_path / "corpus")
    manifest = curate(CorpusConfig(sample=0.5), [source], output, seed=0)
    lines = rows(output, manifest, "repositories")
    assert len(lines) == len(list(Path(source).iterdir()))
    assert 3 < sum(row["reason"] == "not_sampled" for row in lines) < 13
