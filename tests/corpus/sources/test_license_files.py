import pytest

from sc2jax.corpus.sources.license_files import is_license_file, licensed_folder, promises_license


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "license.txt",
        "LICENCE-MIT",
        "COPYING.LESSER",
        "gpl-3.0.txt",
        "README",
        "ABOUT.md",
        "my_licence",
        "CC0",
    ],
)
def test_license_names(name: str) -> None:
    assert is_license_file(name)


@pytest.mark.parametrize("name", ["licensed", "copyrighted.py", "main.c", "preamble", "limits.h", "mitigate.py"])
def test_other_names(name: str) -> None:
    assert not is_license_file(name)


@pytest.mark.parametrize(
    "path",
    [
        "LICENSE",
        "a/LICENCE.md",
        "license.rst",
        "COPYING.html",
        "LICENSE.pdf",
        "LICENSE.gz",
        "COPYING.LESSER",
        "LICENSE-MIT",
        "MIT-LICENSE",
        "third_party_license.txt",
        "gpl-3.0.txt",
        "LGPLv2.1",
        "UNLICENSE",
        "COPYRIGHT",
        "LICENSES",
        "a/LICENSES/CC-BY-4.0.txt",
    ],
)
def test_names_that_promise(path: str) -> None:
    assert promises_license(path)
    assert "LICENSES/" in path or is_license_file(path.rpartition("/")[2])


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "NOTICE.txt",
        "about.md",
        "license.py",
        "licenses.json",
        "mit.png",
        "install-apache.md",
        "MIT.css",
        "x.c",
    ],
)
def test_names_that_do_not_promise(path: str) -> None:
    assert not promises_license(path)


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("LICENSE", ""),
        ("a/b/LICENSE", "a/b"),
        ("LICENSES/any", ""),
        ("a/LICENSES/any", "a"),
        ("licenses/any", None),
        ("any", None),
    ],
)
def test_folders_that_are_licensed(path: str, folder: str | None) -> None:
    assert licensed_folder(path) == folder
