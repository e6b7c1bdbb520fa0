"""What README tells people to type is what the program takes."""

import re
import shlex
from pathlib import Path

import pytest

from sc2jax import cli
from sc2jax.config import to_settings
from sc2jax.verbs import FLAGS, VERBS, sentence

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README.md": README, **{f"docs/{path.name}": path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}}


def commands(page: str, program: str) -> list[list[str]]:
    """The arguments of each command line of a page, in blocks and in its sentences."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    fenced = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = [
        " ".join(words.split()) for words in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    ]
    lines = [line for line in (*fenced, *inline) if line.startswith(f"{program} ") and "VERB" not in line]
    return [shlex.split(line, comments=True)[1:] for line in lines]


TYPED = [(page, arguments) for page, text in PAGES.items() for arguments in commands(text, "sc2jax")]


def test_there_are_some():
    assert len(commands(README, "sc2jax")) >= 10
    assert len(commands(README, "make")) >= 3


@pytest.mark.parametrize(("page", "arguments"), TYPED, ids=[" ".join(arguments)[:60] for _, arguments in TYPED])
def test_each_command_is_one_that_the_program_takes(page, arguments, tmp_path, capsys):
    verb, *rest = arguments
    if verb.startswith("--"):
        assert cli.run(arguments) == 0
        return
    assert verb in VERBS, page
    saved = tmp_path / "config.json"
    saved.write_text("{}")
    rest = [f"--config={saved}" if argument.endswith("/config.json") else argument for argument in rest]
    if verb in cli.TAKES_FOLDER:
        rest = cli._with_folder(rest)
    rest = cli._with_keys(rest, FLAGS.get(verb, {}))
    if "--help" in rest:
        assert cli.run([verb, *rest]) == 0
        return
    _, config, workdir = cli.parse(verb, rest)
    assert to_settings(config)
    assert workdir


def test_a_model_with_other_settings_is_given_a_corpus_and_a_tokenizer():
    """In a working folder of its own there are none."""
    for verb, *rest in commands(README, "sc2jax"):
        workdirs = [argument for argument in rest if argument.startswith("--workdir=")]
        if verb in ("train", "show") and workdirs and not any(argument.endswith(".json") for argument in rest):
            assert any(argument.startswith("--config.paths.corpus=") for argument in rest), rest
            assert any(argument.startswith("--config.paths.tokenizer=") for argument in rest), rest


def test_the_ablation_trains(trained_by_quickstart, tmp_path, monkeypatch, capsys):
    (arguments,) = [line for line in commands(README, "sc2jax") if "--config.model.num_kv_heads=1" in line]
    monkeypatch.chdir(trained_by_quickstart)
    tiny = {"context_length": 32, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "window": 16}
    short = {"steps": 2, "batch_size": 8, "warmup_tokens": 8 * 32}
    more = [f"--config.model.{key}={value}" for key, value in tiny.items()]
    more += [f"--config.training.{key}={value}" for key, value in short.items()]
    assert cli.run([*arguments, *more]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert Path("runs/multi_query/train/manifest.json").exists()


@pytest.fixture
def trained_by_quickstart(tmp_path) -> Path:
    """A folder with the corpus and the tokenizer of a quickstart."""
    for package in range(8):
        (tmp_path / f"source/package_{package}").mkdir(parents=True)
        text = "\n".join(f"def value_{package}_{line}(x):\n    return x * {line}\n" for line in range(24))
        (tmp_path / f"source/package_{package}/module.py").write_text(text)
    for verb in ("curate", "tokenizer"):
        small = ["--config.tokenizer.vocab_size=340", f"--config.paths.source={tmp_path}/source"]
        assert cli.run([verb, f"--workdir={tmp_path}/runs/quickstart", *small]) == 0
    return tmp_path


def test_the_targets_of_make_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target, *variables in commands(README, "make"):
        assert target in targets
        assert all(re.match(r"[A-Z]+=", variable) for variable in variables)


def test_the_table_lists_every_verb_in_its_own_words():
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE)[-len(VERBS) :] == [
        (verb, sentence(verb)) for verb in VERBS
    ]


def test_quickstart_ends_with_how_to_call_the_program():
    """As README does."""
    recipe = re.findall(
        r"^quickstart: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    last = recipe[0].splitlines()[-1].replace("$(BIN)", ".venv/bin")
    for words in (".venv/bin/sc2jax", ". .venv/bin/activate"):
        assert words in last
        assert f"`{words}`" in README
