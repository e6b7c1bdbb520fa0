"""What is known of a repository stands beside each of its files, from the source to the corpus."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from dulwich import porcelain
from dulwich.objects import Commit
from source_listings import list_sources

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.sources import folders
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.walk import FoundRepository, Origin
from sc2jax.records.manifest import Manifest
from sc2jax.records.schemas import ORIGIN

CONFIG = CorpusConfig(heldout_fraction=0.4)
WHO = b"Ada <ada@example.org>"


@pytest.fixture
def source(plant: Callable[..., str], program: Callable[[int], str]) -> Path:
    """A repository of git beside a plain folder, an archived one and one whose HEAD is broken."""
    files = {
        f"{name}/{part}.py": program(number * 2 + part)
        for number, name in enumerate(("git", "plain", "seen"))
        for part in (0, 1)
    }
    root = Path(plant("src", files | {"broken/.git/HEAD": "nonsense", "broken/a.py": "1"}))
    git = porcelain.init(str(root / "git"))
    porcelain.add(git, [str(root / "git/0.py")])  # a single file, for it has an origin too
    porcelain.commit(
        git, b"first", author=WHO, committer=WHO, author_timestamp=1_700_000_000, commit_timestamp=1_700_000_001
    )
    porcelain.remote_add(git, "origin", "https://example.org/ada/git")
    return root


ARCHIVED = Origin(snapshot="swh:1:snp:2", visit_date="2024-01-02T03:04:05Z", stars=0, forks=7, gha_license="MIT")


@pytest.fixture
def archived(monkeypatch: pytest.MonkeyPatch) -> Callable[[Origin], None]:
    """Lets the folder `seen` come from a given origin, as one of an archive would."""

    def come_from(origin: Origin) -> None:
        def found(*arguments: Any, **names: Any) -> FoundRepository:
            repository = FoundRepository(*arguments, **names)
            return dataclasses.replace(repository, origin=origin) if repository.name == "seen" else repository

        monkeypatch.setattr(folders, "FoundRepository", found)

    return come_from


def of_each(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is known of each repository, the same in all of its rows."""
    known: dict[str, dict[str, Any]] = {}
    for row in rows:
        origin = {name: row[name] for name in ORIGIN.names if row[name] is not None}
        assert known.setdefault(row["repository"], origin) == origin
    return known


def test_from_the_source_to_the_corpus(
    source: Path,
    tmp_path: Path,
    rows_of: Callable[[str, Manifest, str], list[dict]],
    archived: Callable[[Origin], None],
) -> None:
    archived(ARCHIVED)
    output = str(tmp_path / "corpus")
    manifest = curate(CONFIG, [str(source)], output, 0)
    files = [row for side in ("train", "heldout") for row in rows_of(output, manifest, side)]
    repository = porcelain.Repo(str(source / "git"))
    commit = cast("Commit", repository[b"HEAD"])
    expected = {
        "git": {
            "revision": f"swh:1:rev:{commit.id.decode()}",
            "url": "https://example.org/ada/git",
            "branch": "refs/heads/master",
            "directory": f"swh:1:dir:{commit.tree.decode()}",
            "revision_date": "2023-11-14T22:13:20Z",
            "committer_date": "2023-11-14T22:13:21Z",
        },
        "plain": {},
        "seen": {name: value for name, value in dataclasses.asdict(ARCHIVED).items() if value not in ("", None)},
    }
    assert expected["seen"]["stars"] == 0
    assert of_each(files) == expected
    assert len(files) == 5
    assert of_each(rows_of(output, manifest, "repositories")) == expected | {"broken": {}}
    assert {(row["is_vendor"], row["is_generated"]) for row in files} == {(False, False)}


def test_another_origin_is_another_corpus(source: Path, tmp_path: Path, archived: Callable[[Origin], None]) -> None:
    def digest() -> str:
        return list_sources([SourceFolder(str(source))], 1 << 20).digest

    archived(ARCHIVED)
    before = digest()
    assert digest() == before
    curate(CONFIG, [str(source)], str(tmp_path / "corpus"), 0)
    archived(dataclasses.replace(ARCHIVED, stars=1))
    assert digest() != before
    changed = curate(CONFIG, [str(source)], str(tmp_path / "corpus"), 0)
    assert changed.digest == curate(CONFIG, [str(source)], str(tmp_path / "fresh"), 0).digest
