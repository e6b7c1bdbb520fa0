"""A corpus is made again of what has changed, and is that of a run from scratch, however its tables are cut."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc2jax.corpus.config import CorpusConfig, EngineConfig
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import files
from sc2jax.records.manifest import Manifest

CONFIG = CorpusConfig(unit_bytes=6000, heldout_fraction=0.3)


def parts(manifest: Manifest) -> list[tuple[str, str]]:
    return [(output.path, output.sha256) for output in manifest.outputs]


@pytest.fixture
def sources(plant: Callable[..., str], program: Callable[..., str], edited: Callable[..., str]) -> list[str]:
    """Two folders of many repositories, with copies and near-duplicates across them."""
    roots = []
    for side in "xy":
        tree = {f"pkg{number:02}/{side}.py": program(number, 20 + number) for number in range(20)}
        tree |= {f"pkg{number:02}/n{side}.py": edited(program(number + 50), ord(side), 2) for number in range(0, 20, 4)}
        tree |= {f"{side}{number:02}/own.py": program(ord(side) * 100 + number) for number in range(12)}
        roots.append(plant(f"{side}/src", tree))
    return roots


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the files that are judged, by repository."""
    seen: Counter[str] = Counter()
    decide = files.decide_files

    def counted(rows: Any, *more: Any, **named: Any) -> Any:
        seen.update(rows["repository"].to_pylist())
        return decide(rows, *more, **named)

    monkeypatch.setattr(files, "decide_files", counted)
    return seen


def test_a_source_that_is_added_changed_or_taken_away_is_all_that_is_read(
    sources: list[str], tmp_path: Path, judged: Counter[str], program: Callable[..., str]
) -> None:
    output = str(tmp_path / "corpus")

    def made(roots: list[str]) -> Counter[str]:
        """What is judged; what comes out is that of a run from scratch."""
        judged.clear()
        again = curate(CONFIG, roots, output, 0)
        found = judged.copy()
        whole = curate(CONFIG, roots, str(tmp_path / "whole"), 0)
        shutil.rmtree(tmp_path / "whole")
        assert parts(again) == parts(whole)
        assert again.statistics == whole.statistics
        return found

    first = made(sources[:1])
    assert {name[0] for name in first} == {"p", "x"}
    added = made(sources)
    assert added.total() < 64 + 25, "the packages that have other names now, and the new ones"
    assert not {name for name in added if name.startswith("x0")} - {"x/src/pkg00"}
    Path(sources[1], "y05/own.py").write_text(program(4_000))
    changed = made(sources)
    assert "y05" in changed
    assert changed.total() < 20, "those of a unit"
    Path(sources[0], "x03/more.py").write_text(program(4_001))
    grown = made(sources)
    assert "x03" in grown
    assert grown.total() < 40, "those of a batch at most"
    taken = made(sources[:1])
    assert not {name for name in taken if name[0] == "y"}
    assert made(sources[:1]).total() == 0


def test_what_could_not_be_read_is_read_again_where_that_is_asked_for(
    sources: list[str], tmp_path: Path, judged: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(CONFIG, sources, str(tmp_path / "whole"), 0)
    output, read = str(tmp_path / "corpus"), files.read_listed

    def failing(locations: Any, swhids: Any, limit: int) -> Any:
        for location, content in zip(locations, read(locations, swhids, limit), strict=True):
            broken = b"/x07/" in location
            yield files.SourceError("damaged_object", "x07/own.py") if broken else content

    with monkeypatch.context() as patch:
        patch.setattr(files, "read_listed", failing)
        lacking = curate(CONFIG, sources, output, 0)
    assert lacking.statistics["left_out"] == {"damaged_object": {"count": 1, "named": ["x07/own.py"]}}
    judged.clear()
    assert parts(curate(CONFIG, sources, output, 0)) == parts(lacking), "the listing is the same"
    assert not judged
    mended = curate(dataclasses.replace(CONFIG, retry_failed=True), sources, output, 0)
    assert "x07" in judged
    assert judged.total() < 20
    assert parts(mended) == parts(whole)
    assert mended.statistics["left_out"] == {}


def test_nothing_depends_on_how_much_is_held_at_a_time(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(CONFIG, sources, str(tmp_path / "whole"), 0)
    monkeypatch.setattr(EngineConfig, "partition_bytes", 700)
    cut = curate(CONFIG, sources, str(tmp_path / "cut"), 0)
    assert parts(cut) == parts(whole)
    assert {line["stage"]: line["dropped"] for line in cut.statistics["funnel"]}["exact_dedup"]
    assert {line["stage"]: line["dropped"] for line in cut.statistics["funnel"]}["near_dedup"]
