"""A verb is a file: its docstring is its help, and help imports nothing that it works with."""

import importlib
from pathlib import Path

import pytest

import sc2jax.verbs
from sc2jax.verbs import VERBS, docstring, load, sentence

FOLDER = Path(sc2jax.verbs.__file__).parent
README = Path(__file__).parent.parent.parent / "README.md"


def test_every_file_is_a_verb_and_every_verb_a_file():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files == set(VERBS)
    assert len(VERBS) == len(files)


@pytest.mark.parametrize("verb", VERBS)
def test_the_docstring_is_the_help(verb):
    module = importlib.import_module(f"sc2jax.verbs.{verb}")
    assert module.__doc__ is not None
    assert docstring(verb) == module.__doc__.rstrip()
    assert sentence(verb) == module.__doc__.splitlines()[0]
    assert sentence(verb).endswith(".")
    assert load(verb) is module.run


def test_the_readme_says_of_a_verb_what_the_verb_says():
    readme = README.read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"| `{verb}` | {sentence(verb)} |" in readme
