"""The house as the README draws it: which room may import which, no circles, and files that a reader can hold."""

import ast
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent

BOTTOM = {
    "storage",
    "stores",
    "json_files",
    "locks",
    "transfers",
    "display",
    "progress",
    "pages",
    "plots",
    "assets",
    "settings",
    "errors",
}
COMPOSITION = {"cli", "verbs", "runs", "config", "config_help", "config_values"}
ARROWS = {
    "ablation": set(),
    "evaluation": {"inference", "text", "records", "benchmarks"},
    "corpus": {"text", "records", "benchmarks"},
    "feed": {"text", "records"},
    "training": {"model", "feed", "parallel", "checkpoint"},
    "inference": {"model", "text", "parallel", "checkpoint"},
    "interop": {"model", "text", "checkpoint"},
    "plan": {"training", "model", "kernels", "parallel"},
    "notebook": {"parallel"},
    "model": {"kernels", "parallel"},
    "text": set(),
    "records": set(),
    "benchmarks": set(),
    "kernels": set(),
    "parallel": set(),
    "checkpoint": set(),
    "storage": {"stores", "errors"},
    "stores": {"errors"},
    "json_files": {"storage", "errors"},
    "locks": {"json_files", "storage", "stores", "errors"},
    "transfers": {"storage", "stores"},
    "display": set(),
    "progress": set(),
    "pages": {"display"},
    "plots": {"display"},
    "settings": {"errors"},
    "assets": set(),
    "process": set(),
    "errors": set(),
}
"""What each room may import, beside the files at the bottom."""


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Each module of the package with those that it imports directly."""
    graph = grimp.build_graph("sc2jax", cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_arrow_that_the_house_does_not_draw(imports):
    found = {(room(module), room(other)) for module, others in imports.items() for other in others}
    found = {(one, other) for one, other in found if one and other and one != other and one not in COMPOSITION}
    drawn = {(one, other) for one, others in ARROWS.items() for other in (others if one in BOTTOM else others | BOTTOM)}
    assert found <= drawn
    assert {one for one, _ in found} <= ARROWS.keys()


def test_no_module_imports_itself_by_way_of_others(imports):
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in sorted(imports.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(imports):
        visit(module, ())


def test_files_of_the_composition_fit_in_250_lines_and_others_in_450():
    package = ROOT / "sc2jax"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= (250 if name in COMPOSITION or "recipes" in path.parts else 450), path


def test_nearly_all_functions_fit_on_a_screen():
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for path in (ROOT / "sc2jax").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    )
    assert lengths[len(lengths) // 2] <= 10
    assert sum(length > 60 for length in lengths) / len(lengths) < 0.01


def test_test_files_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))
