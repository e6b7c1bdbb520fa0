from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.config import LicenseConfig, PartsConfig, SourceConfig
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import list_sources
from sc2jax.corpus.stages import licenses
from sc2jax.corpus.stages.licenses import MAX_LICENSE_BYTES, covering, detect, license_type, normalized
from sc2jax.records.manifest import Manifest


def test_detects_a_license_and_nothing_else(samples: str) -> None:
    mit = (Path(samples) / "abacus/LICENSE").read_text()
    assert detect(mit, 0.9) == "MIT"
    assert detect("a readme that grants permission to come in", 0.9) == ""
    assert detect("no legal word at all", 0.0) == ""


def test_apache_without_its_appendix_is_not_pixars(monkeypatch: pytest.MonkeyPatch) -> None:
    """askalono names Pixar's licence for both; only Pixar's own says that it is modified."""
    found = type("License", (), {"name": "Pixar", "score": 0.98})()
    monkeypatch.setattr("askalono.identify", lambda _: found)
    assert detect("Apache License Version 2.0 ... warranties", 0.9) == "Apache-2.0"
    assert detect("Modified Apache 2.0 License ... warranties", 0.9) == "Pixar"


def test_a_low_score_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("askalono.identify", lambda _: type("License", (), {"name": "MIT", "score": 0.89})())
    assert detect("warranties", 0.9) == ""
    assert detect("warranties", 0.89) == "MIT"


def test_texts_longer_than_any_license_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("askalono.identify", lambda _: type("License", (), {"name": "MIT", "score": 1.0})())
    assert detect("warranty" + "x" * (MAX_LICENSE_BYTES - 8), 0.9) == "MIT"
    assert detect("warranty" + "x" * (MAX_LICENSE_BYTES - 7), 0.9) == ""


def test_texts_are_one_but_for_copyright_lines() -> None:
    first = "MIT License\n\nCopyright (c) 2020 Ada\n\nPermission is granted, free of charge"
    assert normalized(first) == normalized("mit license\n(c) 1999 Grace\nPermission is\ngranted -- free of charge.")
    assert normalized(first) != normalized(first.replace("free of charge", "for a fee"))


def test_licenses_accumulate_from_all_folders_above() -> None:
    by_folder = {"": {"MIT"}, "vendor": {"Apache-2.0"}, "vendor/zlib": {"Zlib"}}
    assert covering("main.c", by_folder) == ("MIT",)
    assert covering("vendor/zlib/inflate.c", by_folder) == ("Apache-2.0", "MIT", "Zlib")
    assert covering("vendored/x.c", by_folder) == ("MIT",)
    assert covering("x.c", {"sub": {"MIT"}}) == ()


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ((), "no_license"),
        (("MIT",), "permissive"),
        (("Apache-2.0", "BSD-3-Clause"), "permissive"),
        (("GPL-3.0-only",), "non_permissive"),
        (("GPL-3.0-only", "MIT"), "non_permissive"),
        (("MPL-2.0",), "non_permissive"),
    ],
)
def test_license_type(found: tuple[str, ...], kind: str) -> None:
    assert license_type(found) == kind


@given(st.text(alphabet="ab/", max_size=12), st.dictionaries(st.text(alphabet="ab/", max_size=4), st.just({"MIT"})))
def test_covering_equals_prefixes(path: str, by_folder: dict[str, set[str]]) -> None:
    expected = any(folder == "" or path.startswith(f"{folder}/") for folder in by_folder)
    assert bool(covering(path, by_folder)) == expected


def test_a_license_counts_for_its_folder_and_equal_texts_are_looked_at_once(
    plant: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(licenses, "detect", lambda text, _: seen.append(text) or text.split()[0])
    tree = {
        "LICENSE": "MIT text\n(c) Ada",
        "sub/LICENSE": "MIT text\n(c) Grace",
        "sub/COPYING": "Zlib text",
        "x.c": "1",
    }
    root = plant("source", {f"project/{name}": text for name, text in tree.items()})
    listing = list_sources([SourceFolder(root)], 1000)
    outputs, _ = licenses.write_licenses(str(tmp_path / "out"), listing, LicenseConfig(), SourceConfig(), PartsConfig())
    stage = Committed(str(tmp_path / "out"), Manifest("licenses", {}, {}, tuple(outputs), {}))
    assert licenses.licenses_by_folder(stage) == {"project": {"": {"MIT"}, "sub": {"MIT", "Zlib"}}}
    assert sorted(text.split()[0] for text in seen) == ["MIT", "Zlib"]
