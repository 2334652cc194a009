"""Imports of lib/daybook point one way, as docs/architecture.md shows; names are unique."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "lib/daybook"
LAYERS = (
    ("errors",),
    ("private_files", "bounded_yaml", "liveness", "ui", "git"),
    ("signers", "settings", "plan"),
    ("target", "process", "supervisor", "parameters"),
    ("aws", "terraform", "ansible", "images", "probe", "compose"),
    ("hosts",),
    ("environment",),
    ("secrets", "github", "reviews", "delivery", "resources", "settings_sources"),
    ("checks", "preconditions", "infrastructure", "playbooks"),
    ("record",),
    ("run",),
    ("lock",),
    ("approval",),
    ("steps",),
    ("headless",),
    ("cli",),
)
"""One package is one layer's part: it imports its own layer and those above it in this list."""
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """Return a file's name in LAYERS: "steps" for steps/provision.py."""
    return dotted(path).removeprefix("daybook.").partition(".")[0]


def dotted(path: Path) -> str:
    """Return the name that imports a file: "daybook.steps.provision"."""
    parts = ("daybook", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path, *, at_import_time: bool = False) -> set[str]:
    """Return every module that a file names in an import: {"daybook.errors", "boto3"}."""
    tree = ast.parse(path.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    nodes = [n for n in ast.walk(tree) if not (at_import_time and id(n) in inside)]
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return plain | {name for n in nodes if isinstance(n, ast.ImportFrom) for name in names_of(n)}


def names_of(node: ast.ImportFrom) -> set[str]:
    """Return what `from X import a, b` may load: X, X.a and X.b; a class loads nothing more."""
    base = node.module or ""
    return ({base} if base != "daybook" else set()) | {f"{base}.{a.name}" for a in node.names}


def ours(path: Path) -> set[str]:
    """Return the modules of this package that a file imports: {"errors", "steps"}."""
    names = {name.removeprefix("daybook.") for name in imports(path) if name.startswith("daybook.")}
    return {name.partition(".")[0] for name in names} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_layer_or_lower_ones(path):
    if path == PACKAGE / "__init__.py":
        assert not ours(path)
        return
    assert module(path) in LEVEL, f"{path.name} is in no layer yet: add it to LAYERS"
    level = LEVEL[module(path)]
    above = {name for name in ours(path) if LEVEL[name] > level}
    assert not above, f"{path.name} imports {above}, which lie above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_is_relative(path):
    relative = [n for n in ast.walk(ast.parse(path.read_text())) if getattr(n, "level", 0)]
    assert not relative


def test_no_modules_import_each_other_in_a_circle():
    names = {dotted(path): path for path in FILES}
    graph = {
        name: {
            other for other in imports(path) & set(names) if not f"{name}.".startswith(f"{other}.")
        }
        for name, path in names.items()
    }
    TopologicalSorter(graph).prepare()


def test_ui_imports_none_of_the_tools():
    files = sorted((PACKAGE / "ui").glob("*.py"))
    assert files
    assert set().union(*map(ours, files)) <= {"errors", "ui"}


def test_the_supervisor_needs_the_standard_library_alone():
    assert not ours(PACKAGE / "supervisor.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_the_sandbox_and_only_when_asked(path):
    assert module(path) == "cli" or "daybook_sandbox" not in path.read_text()
    assert not {n for n in imports(path, at_import_time=True) if n.startswith("daybook_sandbox")}


def test_no_two_classes_have_the_same_name():
    names = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    assert len(names) > 200
    assert sorted(names) == sorted(set(names))


def test_a_run_loads_its_settings_in_one_place():
    readers = {
        dotted(path)
        for path in FILES
        if re.search(r"\b(settings|Environment)\.load\(", path.read_text())
    }
    below_steps = {name for name in readers if name.split(".")[1] not in ("cli", "settings")}
    assert below_steps == {
        "daybook.headless.execution",  # in the process of `daybook run`, before the kernel starts
        "daybook.steps.base",  # once in the kernel, for the step's Environment
        "daybook.environment",  # Environment.load itself; another environment, cached
        "daybook.lock.recovery",  # another, abandoned run
        "daybook.record.seal",  # another, abandoned run
    }
