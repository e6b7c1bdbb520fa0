"""The environment of the command line: found, made by uv, and called; what fails ends in one message."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sc2jax
from sc2jax.errors import UserError
from sc2jax.notebook import environment
from sc2jax.notebook.runtime import GIB, Runtime

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without an environment, on a machine that has none either."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/pyproject.toml").touch()
    monkeypatch.setattr(environment, "_CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    return tmp_path / "checkout"


def made(folder: Path, script: str = "") -> Path:
    """An environment whose Python is a script of a shell."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/sc2jax").touch()
    (folder / "bin/python").write_text(f"#!/bin/sh\n{script}")
    (folder / "bin/python").chmod(0o755)
    return folder


def runtime(monkeypatch: pytest.MonkeyPatch, extra: str = "", free: float = 8 * GIB) -> None:
    found = Runtime("cpu", "CPU", 1, int(free), int(free), extra, "float32")
    monkeypatch.setattr(environment, "find_runtime", lambda: found)


@pytest.mark.parametrize(("extra", "project"), [("", "CHECKOUT"), ("cuda12", "CHECKOUT[cuda12]")])
def test_uv_makes_an_environment_of_the_lock_beside_the_package(checkout, monkeypatch, extra, project) -> None:
    runtime(monkeypatch, extra)
    calls = []
    monkeypatch.setattr(environment, "_ran", calls.append)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: _Disk())
    assert sc2jax.install() == checkout / ".venv"
    make, install = calls
    assert make == ["/usr/bin/uv", "venv", "--quiet", "--clear", f"{checkout}/.venv"]
    assert install[:3] == ["/usr/bin/uv", "pip", "install"]
    assert install[-2:] == ["--editable", project.replace("CHECKOUT", str(checkout))]
    assert install[install.index("--python") + 1] == f"{checkout}/.venv/bin/python"
    assert install[install.index("--constraints") + 1] == f"{checkout}/requirements.lock"


class _Disk:
    free = 100 * GIB


def test_where_uv_is_not_it_is_installed(checkout, monkeypatch) -> None:
    runtime(monkeypatch)
    calls = []
    monkeypatch.setattr(environment, "_ran", calls.append)
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    sc2jax.install()
    assert calls[0] == [sys.executable, "-m", "pip", "install", "--quiet", "uv"]
    assert calls[1][:4] == [sys.executable, "-m", "uv", "venv"]


def test_nothing_is_installed_where_an_environment_is(checkout, tmp_path, monkeypatch) -> None:
    runtime(monkeypatch)
    monkeypatch.setattr(environment, "_ran", lambda arguments: pytest.fail(f"ran {arguments}"))
    assert made(tmp_path / "python") == sc2jax.install()
    assert made(checkout / ".venv") == sc2jax.install(), "that beside the package comes first"
    monkeypatch.setenv(environment.VARIABLE, str(made(tmp_path / "named")))
    assert sc2jax.install() == tmp_path / "named"


def test_too_little_memory_or_disk_is_said_before_anything_is_installed(checkout, monkeypatch) -> None:
    monkeypatch.setattr(environment, "_ran", lambda arguments: pytest.fail(f"ran {arguments}"))
    runtime(monkeypatch, free=2 * GIB)
    with pytest.raises(UserError, match=r"takes 2\.5 GiB of memory, and this runtime has 2\.0 GiB free"):
        sc2jax.install()
    runtime(monkeypatch, "cuda12")
    monkeypatch.setattr(_Disk, "free", 11 * GIB)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: _Disk())
    with pytest.raises(UserError, match=r"takes 12\.0 GiB of disk space, and this runtime has 11\.0 GiB free"):
        sc2jax.install()


def test_an_install_that_fails_says_what_failed(checkout) -> None:
    environment._ran(["/bin/sh", "-c", "test -f pyproject.toml"])  # by whose bounds uv chooses a Python
    with pytest.raises(UserError, match="failed with status 3: no such package"):
        environment._ran(["/bin/sh", "-c", "echo no such package >&2; exit 3"])


def test_a_package_outside_of_a_checkout_cannot_be_installed_from(checkout, monkeypatch) -> None:
    runtime(monkeypatch)
    (checkout / "pyproject.toml").unlink()
    with pytest.raises(UserError, match=r"is no checkout .*; clone the project"):
        sc2jax.install()


def test_without_an_environment_a_command_says_how_to_make_one(checkout, monkeypatch, tmp_path) -> None:
    with pytest.raises(UserError, match=r"make it with sc2jax\.install\(\)"):
        sc2jax.command("train")
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"SC2JAX_ENVIRONMENT names .* has no bin/sc2jax"):
        sc2jax.command("train")
    (made(tmp_path / "other") / "bin/python").unlink()
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "other"))
    with pytest.raises(UserError, match="or no bin/python"):
        sc2jax.command("train")


def test_what_a_command_prints_is_shown_as_it_comes_and_returned(checkout, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://the_notebook")
    script = """echo "$@"; echo "<$MPLBACKEND>" >&2; printf '\\033[31mred\\n'"""
    made(checkout / ".venv", script)
    said = sc2jax.command("train", "--config.completion.prompt=two words\nand lines")
    assert said == "-m sc2jax.cli train --config.completion.prompt=two words\nand lines\n<>\n\x1b[31mred\n"
    assert capsys.readouterr().out == said.replace("\x1b", "\u241b")
    assert environment.asked("show") == "-m sc2jax.cli show\n\x1b[31mred\n", "the errors are left out"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("call", [sc2jax.command, environment.asked])
def test_a_command_that_fails_raises_its_message_alone(checkout, capsys, call) -> None:
    made(checkout / ".venv", "echo working; echo 'sc2jax train: the disk is full; make room' >&2; exit 2")
    with pytest.raises(UserError) as raised:
        call("train")
    assert str(raised.value) == "the disk is full; make room"
    assert "the disk is full" not in capsys.readouterr().out


@pytest.mark.parametrize("call", [sc2jax.command, environment.asked])
def test_a_defect_shows_the_end_of_what_was_said(checkout, call) -> None:
    made(checkout / ".venv", "echo ValueError: of ours >&2; exit 1")
    with pytest.raises(UserError, match=r"`sc2jax train` failed with status 1: ValueError: of ours"):
        call("train")


@pytest.mark.parametrize("call", [sc2jax.command, environment.asked])
def test_a_command_that_is_killed_may_have_lacked_memory(checkout, call) -> None:
    made(checkout / ".venv", "kill -9 $$")
    with pytest.raises(UserError, match=r"`sc2jax train` was ended by signal 9, as happens where memory runs out"):
        call("train")


@pytest.mark.parametrize("ended_by", ["the stop button", "what cannot be shown"])
def test_what_ends_the_wait_for_a_command_ends_the_command(checkout, tmp_path, monkeypatch, ended_by) -> None:
    made(
        checkout / ".venv",
        f"trap 'echo ended > {tmp_path}/ended; exit 143' TERM; echo begun; while :; do sleep 0.05; done",
    )

    def ends(text: str, end: str) -> None:
        if ended_by == "what cannot be shown":
            raise BrokenPipeError
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(environment, "print_text", ends)
    with pytest.raises((KeyboardInterrupt, BrokenPipeError)):
        sc2jax.command("train")
    assert (tmp_path / "ended").exists()


ALONE = """
    import importlib.abc, sys, sysconfig

    class Refusing(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            first = name.partition(".")[0]
            if first not in sys.stdlib_module_names | ALLOWED and not first.startswith("_sysconfigdata"):
                raise ImportError(f"{name} is not in the notebook's Python")

    ALLOWED = {"sc2jax", "numpy", "matplotlib", "mpl_toolkits"} | WHAT_MATPLOTLIB_NEEDS
    sys.meta_path.insert(0, Refusing())
    import sc2jax
    for name in sc2jax.__all__:
        getattr(sc2jax, name)
    run = sc2jax.Run(FOLDER)
    for figure in (run.plot_loss(), run.plot_scores(), run.plot_languages(), run.plot_funnel()):
        figure.savefig("/dev/null", format="png")
    print(sc2jax.find_runtime())
"""
MATPLOTLIB_NEEDS = {
    "PIL",
    "contourpy",
    "cycler",
    "dateutil",
    "fontTools",
    "kiwisolver",
    "packaging",
    "pyparsing",
    "six",
}


def test_numpy_and_matplotlib_are_enough_for_a_notebook(whole_run: Path) -> None:
    script = textwrap.dedent(ALONE).replace("WHAT_MATPLOTLIB_NEEDS", repr(MATPLOTLIB_NEEDS))
    done = subprocess.run(
        [sys.executable, "-c", script.replace("FOLDER", repr(str(whole_run)))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "GiB free on the host" in done.stdout


def test_the_public_names_are_those_of_the_room() -> None:
    from sc2jax import notebook

    assert sorted(sc2jax.__all__) == sorted(notebook.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sc2jax.nonsense  # type: ignore[attr-defined]


def test_a_notebook_shows_the_message_alone() -> None:
    """IPython asks an exception for what it shows in place of a traceback."""
    render = getattr(UserError("choose \x1b[31manother"), "_render_traceback_")  # noqa: B009
    assert render() == ["sc2jax: choose \N{SYMBOL FOR ESCAPE}[31manother"]
