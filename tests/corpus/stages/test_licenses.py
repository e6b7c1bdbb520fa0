import codecs
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_listings import listed

from sc2jax.corpus.config import LicenseConfig, SourceConfig
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.license_files import MAX_LICENSE_BYTES
from sc2jax.corpus.stages import licenses
from sc2jax.corpus.stages.licenses import UNKNOWN, UNREADABLE, covering, detect, license_type
from sc2jax.corpus.tables import Tables
from sc2jax.corpus.units import Units
from sc2jax.records.manifest import Manifest

GPL_NOTICE = (
    "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General Public "
    "License as published by the Free Software Foundation; either version 3 of the License, or (at your option) any "
    "later version."
)


def found(content: bytes, promised: bool = True) -> set[str]:
    return set(detect(content, promised, 0.9))


def test_a_promise_is_kept_or_unknown(samples: str) -> None:
    mit = (Path(samples) / "abacus/LICENSE").read_bytes()
    assert found(mit) == {"MIT"}
    assert found(mit + b"\nFor private use only.\n") == {"MIT", UNKNOWN}
    assert found(b"All rights reserved.") == {UNKNOWN}
    assert found(b"") == {UNKNOWN}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_encodings(samples: str, encoding: str) -> None:
    text = (Path(samples) / "abacus/LICENSE").read_text() + "\n© Zoë Müller\n"
    content = text.encode(encoding)
    assert found(content) == ({"MIT"} if encoding != "utf-16-be" else {UNREADABLE}), "no mark, but NULs"
    assert found(codecs.BOM_UTF16_BE + text.encode("utf-16-be")) == {"MIT"}


def test_what_is_no_text_is_unreadable() -> None:
    for content in (b"a\0b", codecs.BOM_UTF16_LE + b"a", b"\x1f\x8b\x08\0", "ö".encode("latin-1")):
        assert found(content) == {UNREADABLE}
        assert found(content, promised=False) == set()


def test_a_readme_counts_for_what_it_takes_away(samples: str) -> None:
    mit = (Path(samples) / "abacus/LICENSE").read_text()
    assert found(mit.encode(), promised=False) == {"MIT"}
    usage = "Call it with a name. It must not be empty.\n\n"
    assert found(f"{usage}{mit}".encode(), promised=False) == set(), "it does not say that of the whole"
    assert found(f"{usage}{GPL_NOTICE}".encode(), promised=False) == {"GPL-3.0-or-later"}
    assert found(usage.encode(), promised=False) == set()


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
        ((UNKNOWN,), "non_permissive"),
        (("MIT", UNREADABLE), "non_permissive"),
    ],
)
def test_license_type(found: tuple[str, ...], kind: str) -> None:
    assert license_type(found) == kind


@given(st.text(alphabet="ab/", max_size=12), st.dictionaries(st.text(alphabet="ab/", max_size=4), st.just({"MIT"})))
def test_covering_equals_prefixes(path: str, by_folder: dict[str, set[str]]) -> None:
    expected = any(folder == "" or path.startswith(f"{folder}/") for folder in by_folder)
    assert bool(covering(path, by_folder)) == expected


def licenses_found(root: str, folder: Path) -> dict[str, dict[str, set[str]]]:
    with listed([SourceFolder(root)], 1000) as listing:
        given = (listing, Tables(""), LicenseConfig(), SourceConfig())
        outputs, _ = licenses.write_licenses(str(folder), f"{folder}/notes", None, *given)
        found = Units.of(Committed(str(folder), Manifest("licenses", {}, {}, tuple(outputs), {})))
        return {
            listing.table(unit, "repositories")["repository"][number].as_py(): dict(folders)
            for unit in range(len(listing))
            for number, folders in licenses.licenses_by_folder(found, unit).items()
        }


def test_a_license_counts_for_its_folder_and_equal_files_are_looked_at_once(
    plant: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, bool]] = []

    def first_word(content: bytes, promised: bool, _: float) -> frozenset[str]:
        seen.append((content, promised))
        return frozenset((content.decode().split()[0],))

    monkeypatch.setattr(licenses, "detect", first_word)
    monkeypatch.setattr(licenses, "_TOLD", {})
    tree = {"LICENSE": "MIT", "sub/LICENSE": "MIT", "sub/COPYING": "Zlib", "sub/README": "MIT", "x.c": "1"}
    root = plant("source", {f"project/{name}": text for name, text in tree.items()})
    assert licenses_found(root, tmp_path / "out") == {"project": {"": {"MIT"}, "sub": {"MIT", "Zlib"}}}
    assert sorted(seen) == [(b"MIT", False), (b"MIT", True), (b"Zlib", True)]


def test_a_link_that_promises_a_license_is_read_or_unknown(plant: Callable[..., str], tmp_path: Path) -> None:
    tree = {"in/LICENSES/GPL.txt": GPL_NOTICE, "in/sub/x.c": "1", "out/x.c": "2", "pipe/x.c": "3", "none/x.c": "4"}
    root = plant("source", tree)
    Path(root, "in/sub/LICENSE").symlink_to("../LICENSES/GPL.txt")
    (tmp_path / "MIT").write_text("MIT")
    Path(root, "out/LICENSE").symlink_to(tmp_path / "MIT")
    os.mkfifo(Path(root, "pipe/COPYING"))
    Path(root, "none/limits.h").symlink_to("x.c")
    assert licenses_found(root, tmp_path / "out") == {
        "in": {"": {"GPL-3.0-or-later"}, "sub": {"GPL-3.0-or-later"}},
        "out": {"": {UNREADABLE}},
        "pipe": {"": {UNREADABLE}},
    }


def test_a_long_license_is_unknown_whatever_size_files_may_have(plant: Callable[..., str], tmp_path: Path) -> None:
    limit = MAX_LICENSE_BYTES
    notice = f"{GPL_NOTICE}\n".encode()
    tree = {"longer/LICENSE": b"x" * (limit + 1), "longer/x.c": b"1", "chatty/README": b"x" * (limit + 1)}
    root = plant("source", {**tree, "long/LICENSE": notice.ljust(limit, b"\n")})
    assert licenses_found(root, tmp_path / "out") == {
        "longer": {"": {UNREADABLE}},
        "long": {"": {"GPL-3.0-or-later"}},
    }
