"""Stages of the recipe: each is done again when a setting that it reads has changed, and only then."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes import source_code
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import exact, files, licenses, near, signatures, split
from sc2jax.records.manifest import Manifest, read_manifest
from sc2jax.settings import declared

STAGES: dict[str, Callable[..., Any]] = {
    "licenses": licenses.write_licenses,
    "files": files.write_files,
    "exact": exact.write_exact,
    "signatures": signatures.write_signatures,
    "near": near.write_near,
    "split": split.write_split,
}
OTHER_VALUES: dict[str, Any] = {
    "keep_license_types": ("permissive", "no_license", "non_permissive"),
    "near_permutations": 200,
    "near_rule": "transitive",
    "heldout_fraction": 0.5,
}
"""Where a slightly smaller value says nothing or takes long."""


def settings_of(stage: str) -> set[str]:
    """The fields of the parts of the config that a stage's function is typed with."""
    kinds = [parameter.annotation for parameter in inspect.signature(STAGES[stage]).parameters.values()]
    return {field.name for kind in kinds if dataclasses.is_dataclass(kind) for field in dataclasses.fields(kind)} & {
        name for name, _ in declared(CorpusConfig)
    }


@pytest.fixture
def source(plant: Callable[..., str], program: Callable[..., str]) -> str:
    """Two free programs and one under a licence that is not permissive."""
    return plant(
        "source", {"a/x.py": program(0, 9), "b/x.py": program(1, 9), "c/x.py": program(2, 9), "c/COPYING": "x"}
    )


@pytest.fixture
def manifests(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Manifest]]:
    """Curates the source, every time into the same folder, and reads the manifests of the stages."""
    monkeypatch.setattr(licenses, "detect", lambda content, *_: frozenset({"GPL-3.0-only"} if content == b"x" else ()))
    output = str(tmp_path / "corpus")

    def run(seed: int = 0, **changed: Any) -> dict[str, Manifest]:
        whole = curate(dataclasses.replace(CorpusConfig(), **changed), [source], output, seed)
        return {name: read_manifest(f"{output}/stages/{name}") for name in STAGES} | {"curate": whole}

    return run


def own_settings(manifest: Manifest) -> Any:
    """What a stage's key holds beside the digests of its inputs."""
    return manifest.stage, manifest.version, manifest.config


def test_every_setting_is_in_the_key_of_the_stages_that_read_it(
    manifests: Callable[..., dict[str, Manifest]],
) -> None:
    before = manifests()
    deciding = [name for name, field in declared(CorpusConfig) if field.decides]
    assert len(deciding) > 15
    read_by_none = set(deciding) - set().union(*map(settings_of, STAGES))
    assert read_by_none == {"row_group_bytes", "max_document_bytes"}, "of the corpus itself"
    for name in deciding:
        default = getattr(CorpusConfig(), name)
        smaller = default - 1 if isinstance(default, int) else default * 0.9 if isinstance(default, float) else default
        after = manifests(**{name: OTHER_VALUES.get(name, smaller)})
        changed = {stage for stage in after if own_settings(after[stage]) != own_settings(before[stage])}
        assert changed == {stage for stage in STAGES if name in settings_of(stage)} | {"curate"}, name
        assert {stage for stage in after if after[stage].key != before[stage].key} >= changed


def test_the_seed_is_in_the_key_of_the_signatures(manifests: Callable[..., dict[str, Manifest]]) -> None:
    before, after = manifests(), manifests(seed=1)
    changed = {stage for stage in after if own_settings(after[stage]) != own_settings(before[stage])}
    assert changed == {"signatures", "curate"}


def test_the_tables_are_in_the_key_of_the_stages_that_read_them(
    manifests: Callable[..., dict[str, Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifests()
    monkeypatch.setattr(source_code, "_tables_digest", lambda: "of other tables")
    after = manifests()
    assert {stage for stage in after if after[stage].key != before[stage].key} == {"licenses", "files", "curate"}


def test_how_many_packages_of_the_machine_fit_decides_nothing_here(
    manifests: Callable[..., dict[str, Manifest]],
) -> None:
    before, after = manifests(), manifests(max_distribution_bytes=1)
    assert {stage: manifest.key for stage, manifest in before.items()} == {
        stage: manifest.key for stage, manifest in after.items()
    }


def test_a_changed_policy_changes_what_comes_out_of_the_same_folder(
    manifests: Callable[..., dict[str, Manifest]],
) -> None:
    strict = manifests()["curate"].statistics
    assert strict["licenses"] == {"no_license": 2}
    assert strict["funnel"][2]["dropped"] == {"non_permissive_license": 2}
    every = manifests(keep_license_types=("permissive", "no_license", "non_permissive"))["curate"].statistics
    assert every["licenses"] == {"no_license": 2, "GPL-3.0-only": 1}
    assert manifests()["curate"].statistics == strict
