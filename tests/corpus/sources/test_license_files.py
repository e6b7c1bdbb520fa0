import pytest

from sc2jax.corpus.sources.license_files import is_license_file


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
