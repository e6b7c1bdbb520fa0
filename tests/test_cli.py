"""The command line as a user meets it: help, hints, exit statuses, and what it must not import."""

import subprocess
import sys

import pytest

from sc2jax import __version__, cli
from sc2jax.cli import main
from sc2jax.errors import Note, UserError
from sc2jax.training.metrics import METRICS, read_metrics
from sc2jax.verbs import FLAGS, VERBS, sentence


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    out, err = capsys.readouterr()
    return exit_info.value.code, out, err


def test_help_says_of_every_verb_what_it_does(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for verb in VERBS:
        assert f"  {verb} " in out
        assert sentence(verb) in out


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, __version__ + "\n")


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["--search"], ["--config.plan.search=true"]),
        (["--measured", "a b.json"], ["--config.plan.measured=a b.json"]),
        (
            ["--measured=a.json", "--search", "--config.seed=1"],
            ["--config.plan.measured=a.json", "--config.plan.search=true", "--config.seed=1"],
        ),
        (["--config", "search", "--workdir=--search"], ["--config", "search", "--workdir=--search"]),
    ],
)
def test_flags_of_a_verb_stand_for_keys(arguments, keys):
    assert cli._with_keys(arguments, FLAGS["plan"]) == keys
    assert cli._with_keys(arguments, {}) == arguments


@pytest.mark.parametrize("arguments", [["--measured"], ["--measured="], ["--measured", ""], ["--measured", "--search"]])
def test_a_flag_that_names_a_file_needs_one(arguments):
    with pytest.raises(UserError, match=r"^--measured needs a value; write --measured=VALUE"):
        cli._with_keys(arguments, FLAGS["plan"])


def test_a_flag_of_another_verb_is_unknown(capsys):
    status, _, err = run(capsys, "train", "--search")
    assert status == 2
    assert "unknown argument '--search'" in err


@pytest.mark.parametrize("help_flag", ["--help", "-h"])
def test_a_verb_lists_its_config(capsys, help_flag):
    status, out, _ = run(capsys, "train", help_flag, "--config.training.steps=41")
    assert status == 0
    assert (
        "training.steps: 41  (steps; at least 0 and at most 1,000,000,000)\n    How far to run; 0: to the horizon."
        in out
    )
    assert sentence("train") in out


def test_nothing_is_an_error(capsys):
    status, out, _ = run(capsys)
    assert status == 2
    assert "usage" in out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--config=nowhere"], "there is no config 'nowhere'"),
        (["train", "--config.training.stepz=1"], "did you mean training.steps"),
        (["train", "--config.training.batch_size=0"], "training.batch_size is 0"),
        (["train", "--workdir=foo://bar"], "foo://bar cannot be opened"),
        (
            ["train", "--workdir", "--config.training.steps=7"],
            "'--config.training.steps=7' follows; write --workdir=VALUE",
        ),
        (["train", "--config", "--workdir=x"], "'--workdir=x' follows; write --config=VALUE"),
        (["train", "--workdir=a", "--workdir", "b"], "--workdir is given 2 times: 'a', 'b'; give it once"),
        (["train", "somewhere"], "unknown argument 'somewhere'"),
        (["train", "\x1b[2J\u202e"], "unknown argument '\\x1b[2J\\u202e'"),
        (["train", "--config.training.batch_size=0", "--workdir=\x1b[2J"], "training.batch_size is 0"),
        (["tokenizer", "--workdir=/nowhere/\x1b[2J\u202e"], "/nowhere/\u241b[2J<U+202E>/corpus holds no manifest.json"),
        (["curate", "--workdir=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        (["curate", "--workdir=simplecache::memory://x"], "'::' chains file systems"),
        (["curate", "--config.paths.corpus=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        (["tokenizer", "--config.paths.tokenizer=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        (["tokenize", "--config.paths.tokenize=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        (["train", "--config.paths.train=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        (["show", "--config.show.html=memory://x"], "memory://x cannot be opened: memory keeps no files"),
        *(
            (["curate", f"--workdir={kind}://x"], f"{kind} keeps no files")
            for kind in ("data", "zip", "dir", "reference")
        ),
        (["curate", "--config.paths.source=,,"], "names no folder"),
        (["show", "--config.show.row=99"], "show.row is 99"),
    ],
)
def test_what_a_user_can_cause_is_one_message_and_status_2(capsys, arguments, hint):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert hint in err
    assert len(err.splitlines()) == 1
    assert err.removesuffix("\n").isprintable()
    assert not out


def test_a_stage_without_its_input_says_which_one_to_run(capsys, tmp_path):
    for verb, missing in (("tokenizer", "corpus"), ("train", "corpus"), ("evaluate", "corpus"), ("report", "corpus")):
        status, _, err = run(capsys, verb, f"--workdir={tmp_path}")
        assert status == 2
        assert f"{tmp_path}/{missing} holds no manifest.json: `sc2jax curate` was not run" in err
        assert "--config.paths.corpus=DIR" in err


def test_debug_adds_the_traceback(capsys, tmp_path):
    status, _, err = run(capsys, "tokenizer", f"--workdir={tmp_path}", "--debug")
    assert status == 2
    assert "Traceback" in err


def test_a_damaged_log_is_named(tmp_path):
    row = '{"step": 1, "tokens": 1, "loss": 1, "gradient_norm": 1, "learning_rate": 1, "skipped_steps": 0, "feed": {}}'
    (tmp_path / METRICS).write_text(row + "\ngarbage\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is damaged"):
        read_metrics(str(tmp_path))


def test_a_message_ends_with_our_notes_and_leaves_out_those_of_libraries(monkeypatch, capsys):
    def verb(*_: object) -> None:
        error = UserError("it is wrong")
        error.add_note("frames were removed")
        error.add_note(Note("the checkpoint of step 4 is good"))
        raise error

    monkeypatch.setattr(cli, "load", lambda _: verb)
    with pytest.raises(SystemExit) as info:
        cli.main(["check"])
    assert info.value.code == 2
    assert capsys.readouterr().err == "sc2jax check: it is wrong; the checkpoint of step 4 is good\n"


HEAVY = ("jax", "flax", "tensorflow", "seqio", "daft", "pyarrow", "sentencepiece")


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("main(['--help'])", HEAVY),
        ("main(['train', '--help'])", HEAVY),
        ("main(['curate', '--config.paths.source=/nowhere/at/all'])", ("jax", "flax", "tensorflow", "seqio")),
        ("main(['tokenizer', '--workdir=nowhere'])", ("jax", "flax", "tensorflow", "seqio", "daft")),
        ("main(['complete', '--workdir=nowhere'])", ("tensorflow", "seqio", "daft")),
    ],
)
def test_heavy_libraries_are_imported_only_where_they_are_needed(tmp_path, code, forbidden):
    program = (
        f"import sys\nfrom sc2jax.cli import main\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_that_are_given_again_are_added():
    given = ["--config.paths.source=a,b", "--config.paths.source=c"]
    types = [f"--config.corpus.keep_license_types={kind}" for kind in ("permissive", "non_permissive")]
    _, config, _ = cli.parse("curate", [*given, *types, "--config.seed=1", "--config.seed=2"])
    assert config.paths.source == "a,b,c"
    assert config.corpus.keep_license_types == ("permissive", "non_permissive")
    assert config.seed == 2
