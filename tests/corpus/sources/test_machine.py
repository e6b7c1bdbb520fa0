import sysconfig
from collections.abc import Callable

from sc2jax.corpus.sources.machine import choose_packages, machine_sources, package_sizes

SIZES = {f"package{number}": 10 + number for number in range(50)} | {"huge": 10_000, "data_only": 0}


def test_choice_is_seeded_whole_and_within_the_limit() -> None:
    chosen = choose_packages(SIZES, 500, 0)
    total = sum(SIZES[name] for name in chosen)
    assert chosen == choose_packages(dict(reversed(SIZES.items())), 500, 0)
    assert chosen != choose_packages(SIZES, 500, 1)
    assert not {"huge", "data_only"} & set(chosen)
    assert total <= 500 < total + min(size for name, size in SIZES.items() if size and name not in chosen)


def test_sizes_count_files_with_a_language(plant: Callable[..., str]) -> None:
    root = plant(
        "site-packages",
        {
            "pkg/a.py": "x" * 7,
            "pkg/native.so": "y" * 100,
            "pkg/__pycache__/a.pyc": "z" * 100,
            "single.py": "w" * 3,
            "pkg-1.0.dist-info/RECORD": "pkg/a.py,,\n",
        },
    )
    assert package_sizes(root) == {"pkg": 7, "single.py": 3}


def test_the_machine_has_its_standard_library() -> None:
    first, *others = machine_sources(0, seed=0)
    assert first.root == sysconfig.get_path("stdlib")
    assert "site-packages" in first.without
    assert not others
