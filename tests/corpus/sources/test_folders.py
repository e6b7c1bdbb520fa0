import os
import socket
from collections.abc import Callable
from pathlib import Path

from source_listings import LIMIT, licensed, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder


def test_packages_of_a_plain_folder(plant: Callable[..., str]) -> None:
    root = plant(
        "src",
        {
            "pkg/b.py": "b",
            "pkg/sub/a.py": "a",
            "pkg/__pycache__/b.pyc": "no",
            ".hg/store": "no",
            "module.py": "m",
            "pkg/.hidden": "h",
        },
    )
    Path(root, "pkg/link.py").symlink_to(f"{root}/module.py")
    Path(root, "loop").symlink_to("/")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(os.path.relpath(f"{root}/pkg/s"))
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert names(listing) == [("module.py", "module.py"), ("pkg", ".hidden"), ("pkg", "b.py"), ("pkg", "sub/a.py")]
    assert listing.files["source_bytes"].to_pylist() == [1] * 4
    assert set(listing.files["revision"].to_pylist()) == {""}


def test_only_and_without(plant: Callable[..., str]) -> None:
    root = plant("src", {"a/x": "1", "b/x": "2", "c/x": "3"})
    assert names(list_sources([SourceFolder(root, only=("a", "c"))], LIMIT)) == [("a", "x"), ("c", "x")]
    assert names(list_sources([SourceFolder(root, without=("a",))], LIMIT)) == [("b", "x"), ("c", "x")]


def test_license_files_of_distributions(plant: Callable[..., str]) -> None:
    root = plant(
        "site-packages",
        {
            "pkg/a.py": "1",
            "pkg/vendor/LICENSE": "2",
            "six.py": "3",
            "other/b.py": "4",
            "LICENSE": "of whom?",
            "pkg-1.0.dist-info/RECORD": "pkg/a.py,,\nsix.py,,\n../../bin/tool,,\npkg-1.0.dist-info/RECORD,,\n",
            "pkg-1.0.dist-info/licenses/LICENSE.txt": "5",
            "other-2.egg-info/top_level.txt": "other\n",
            "other-2.egg-info/COPYING": "6",
        },
    )
    listing = list_sources([SourceFolder(root)], LIMIT)
    assert {repository for repository, _ in names(listing)} == {"pkg", "six.py", "other", "LICENSE"}
    assert licensed(listing) == {
        ("pkg", "vendor", "LICENSE"),
        ("pkg", "", "LICENSE.txt"),
        ("six.py", "", "LICENSE.txt"),
        ("other", "", "COPYING"),
        ("LICENSE", "", "LICENSE"),
    }


def test_loose_licenses_cover_all_packages(plant: Callable[..., str]) -> None:
    root = plant("lib", {"a/x.py": "1", "b.py": "2", "LICENSE.txt": "3"})
    found = licensed(list_sources([SourceFolder(root)], LIMIT))
    assert found == {(name, "", "LICENSE.txt") for name in ("a", "b.py", "LICENSE.txt")}


def test_loose_licenses_beside_the_metadata_of_a_source_distribution(plant: Callable[..., str]) -> None:
    """What has a licence from its distribution keeps it; all else is under the loose one."""
    tree = {"gpl/x.py": "1", "tests/y.py": "2", "own/z.py": "3", "LICENSE": "4", "gpl.egg-info/top_level.txt": "gpl\n"}
    tree |= {"own.dist-info/RECORD": "own/z.py,,\n", "own.dist-info/COPYING": "5"}
    found = licensed(list_sources([SourceFolder(plant("sdist", tree))], LIMIT))
    assert found == {(name, "", "LICENSE") for name in ("gpl", "tests", "LICENSE")} | {("own", "", "COPYING")}


def test_a_loose_license_that_a_distribution_installed_is_its_own(plant: Callable[..., str]) -> None:
    tree = {"a/x.py": "1", "b/y.py": "2", "LICENSE": "3", "a.dist-info/RECORD": "a/x.py,,\nLICENSE,,\n"}
    found = licensed(list_sources([SourceFolder(plant("site-packages", tree))], LIMIT))
    assert found == {("a", "", "LICENSE"), ("LICENSE", "", "LICENSE")}


def test_loose_licenses_that_are_not_there_are_unknown(plant: Callable[..., str]) -> None:
    root = plant("lib", {"a/x.py": "1", "LICENSES/MIT.txt": "2", "c-1.dist-info/RECORD": "c/z.py,,\n", "c/z.py": "3"})
    Path(root, "LICENSE").symlink_to("LICENSES/MIT.txt")
    Path(root, "COPYING").symlink_to("/etc/hostname")
    Path(root, "c-1.dist-info/LICENSE").symlink_to("../nowhere")
    found = licensed(list_sources([SourceFolder(root)], LIMIT))
    assert {row for row in found if row[0] != "LICENSES"} == {("a", "", "MIT.txt"), ("a", "", ""), ("c", "", "")}


def test_links_that_promise_no_license_are_links(plant: Callable[..., str]) -> None:
    root = plant("lib", {"a/x.py": "1"})
    for name in ("a/y.py", "a/license.py", "a/README"):
        Path(root, name).symlink_to("x.py")
    assert licensed(list_sources([SourceFolder(root)], LIMIT)) == set()
