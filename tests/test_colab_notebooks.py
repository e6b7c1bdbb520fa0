"""The notebooks: as they are kept, and run from top to bottom at toy scale in the project's own environment."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sc2jax.verbs import VERBS

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ADDRESS = PROJECT["urls"]["repository"]


def cells(notebook: Path, kind: str = "") -> list[dict]:
    found = json.loads(notebook.read_text("utf-8"))["cells"]
    return [cell for cell in found if kind in ("", cell["cell_type"])]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(notebook: Path) -> list[str]:
    """Each cell's Python, without the notebook's own commands."""
    return [re.sub(r"^%.*\n", "", source(cell), flags=re.MULTILINE) for cell in cells(notebook, "code")]


def test_there_are_three() -> None:
    assert [notebook.name[:2] for notebook in NOTEBOOKS] == ["1_", "2_", "3_"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_short_and_kept_without_its_outputs(notebook: Path) -> None:
    assert len(cells(notebook)) < 20
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    for text in code(notebook):
        ast.parse(text)
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells(notebook)) == 1


def test_all_install_in_the_same_way_from_the_projects_address() -> None:
    (install,) = {code(notebook)[0] for notebook in NOTEBOOKS}
    assert f'project = "{ADDRESS}"' in install


def test_badges_open_them_at_the_projects_address() -> None:
    badges = re.findall(
        r"\]\((https://colab\.research\.google\.com/github/[^)]*)\)", (ROOT / "README.md").read_text("utf-8")
    )
    place = ADDRESS.removeprefix("https://github.com/")
    wanted = [f"https://colab.research.google.com/github/{place}/blob/main/colab/{file.name}" for file in NOTEBOOKS]
    assert badges == wanted
    for notebook, badge in zip(NOTEBOOKS, wanted, strict=True):
        assert f"]({badge})" in source(cells(notebook)[0])


def test_the_projects_address_stands_nowhere_else() -> None:
    """But where a badge or the first cell of a notebook opens it, which the tests above compare."""
    allowed = {ROOT / "README.md", ROOT / "pyproject.toml", *NOTEBOOKS}
    looked_at = [
        path
        for folder in ("sc2jax", "configs", "colab", "docs", "perf", "data")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".ipynb", ".jinja")
    ]
    place = ADDRESS.removeprefix("https://")
    assert [path for path in looked_at if path not in allowed and place in path.read_text("utf-8")] == []


def test_what_colab_has_lies_outside_of_our_bounds() -> None:
    """Otherwise the environment of its own would be for nothing."""
    text = (ROOT / "colab/README.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|$", text, re.MULTILINE))
    bounds = {wanted.name: wanted.specifier for wanted in map(Requirement, PROJECT["dependencies"])}
    assert listed.keys() == {"jax", "flax", "tensorflow", "pyarrow"}
    for name, version in listed.items():
        assert not bounds[name].contains(version), name


def test_what_the_page_shows_is_there() -> None:
    import sc2jax

    text = (ROOT / "colab/README.md").read_text("utf-8")
    for name in re.findall(r"sc2jax\.(\w+)\(", text):
        assert name in sc2jax.__all__
    (sample,) = re.findall(r"run = sc2jax\.Run\(.*\n.*", text)
    methods = re.findall(r"(?<![.\w])(\w+)\(\)", sample)
    assert "plot_funnel" in methods and "complete" in methods
    for name in (*methods, *re.findall(r"\brun\.(\w+)\(", text)):
        assert callable(getattr(sc2jax.Run, name))


TINY = {
    "tokenizer.vocab_size": 340,
    "model.context_length": 64,
    "model.embed_dim": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.window": 16,
    "training.steps": 4,
    "training.batch_size": 8,
    "training.warmup_tokens": 8 * 64,
    "training.log_every": 1,
    "evaluation.max_bytes": 600,
    "evaluation.infill_samples": 2,
    "evaluation.infill_tokens": 4,
    "evaluation.prefix_characters": 30,
    "evaluation.suffix_characters": 15,
    "completion.max_new_tokens": 4,
    "corpus.heldout_fraction": 0.3,
}
MEASURED = {key: value for key, value in TINY.items() if key.startswith(("evaluation", "completion", "corpus"))}


def settings(values: Mapping[str, object]) -> str:
    return repr([f"--config.{key}={value}" for key, value in values.items()])


@pytest.fixture(scope="module")
def own_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own_source")
    for package in range(8):
        (root / f"package_{package}").mkdir()
        lines = [f"def value_{package}_{line}(x):\n    return x * {line}\n" for line in range(24)]
        (root / f"package_{package}" / "module.py").write_text("\n".join(lines))
    return root


Execute = Callable[[str, str], Path]


@pytest.fixture
def execute(tmp_path: Path) -> Execute:
    """Runs a copy of a notebook with other parameters, in a folder of its own; returns the folder."""

    def execute(name: str, parameters: str) -> Path:
        content = json.loads((ROOT / "colab" / f"{name}.ipynb").read_text("utf-8"))
        (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", ())]
        cell["source"] = [*cell["source"], "\n", parameters]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "notebook.ipynb").write_text(json.dumps(content))
        (folder / "sc2jax").symlink_to(ROOT)  # the clone that the first cell would make
        environment = os.environ | {
            "SC2JAX_ENVIRONMENT": sys.prefix,
            "PYTHONPATH": str(ROOT),  # in the environment this may be another checkout's
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
        }
        options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "--nbmake", "--nbmake-timeout=900"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), str(folder / "notebook.ipynb")],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        return folder

    return execute


needs_nbmake = pytest.mark.skipif(
    importlib.util.find_spec("nbmake") is None, reason="needs nbmake, which the extra `dev` brings"
)


@pytest.mark.slow
@needs_nbmake
def test_from_source_to_completion_runs_and_what_it_left_is_used_as_released_weights_are(
    execute: Execute, own_source: Path
) -> None:
    here = settings({"paths.source": own_source} | TINY)
    run = execute("1_from_source_to_completion", f"SETTINGS += {here}") / "runs/from_source"
    assert (run / "report/index.html").exists()
    export = ["convert", f"--config={run}/train/config.json", f"--workdir={run}"]
    command = [sys.executable, "-m", "sc2jax.cli", *export, f"--config.convert.to_huggingface={run}/released"]
    subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}, cwd=ROOT)

    parameters = f"MODEL, SOURCE, STEPS, LENGTH = {str(run / 'released')!r}, {str(own_source)!r}, 4, 64\n"
    folder = execute("3_use_starcoder2", f"{parameters}SETTINGS += {settings(MEASURED)}")
    assert (folder / "runs/starcoder2/exported/model.safetensors").exists()


@pytest.mark.slow
@needs_nbmake
@pytest.mark.skipif("ablate" not in VERBS, reason="needs the verb `ablate`")
def test_ablations_run(execute: Execute, own_source: Path, tmp_path: Path) -> None:
    base = tmp_path / "tiny.py"
    small = {"paths.source": str(own_source)} | TINY | {"model.num_heads": 4}
    base.write_text(
        "from sc2jax.config import default_config\n"
        "from sc2jax.config_values import override\n\n\n"
        "def get_config():\n"
        "    config = default_config()\n"
        f"    for key, value in {small!r}.items():\n"
        "        override(config, key, str(value))\n"
        "    return config\n"
    )
    folder = execute("2_ablations", f"BASE, STEPS, SEEDS = {str(base)!r}, 4, '0'\nSETTINGS = []")
    labels = {path.parent.name for path in (folder / "runs/ablations").glob("*/runs/*-seed0/evaluate")}
    assert len(labels) >= 10
