"""Every notebook keeps to one grammar: seven tagged cells, five where nothing is changed."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.translators import PythonTranslator

from daybook import steps
from daybook.steps.base import ReadOnlyStep, Step

ROOT = Path(__file__).parents[3]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("runbooks/*.ipynb")])
TAGS = ["parameters", "preflight", "plan", "approve", "apply", "verify", "record"]
LOOKING = [tag for tag in TAGS if tag not in ("approve", "apply")]
"""The cells of a runbook that changes nothing: its step is a ReadOnlyStep."""
MODELS = {"bootstrap", "provision", "configure", "first-deploy", "teardown"}
FORBIDDEN = (
    (ast.FunctionDef, "def"),
    (ast.AsyncFunctionDef, "def"),
    (ast.Lambda, "lambda"),
    (ast.ClassDef, "class"),
    (ast.For | ast.While | ast.comprehension, "a loop"),
    (ast.If | ast.IfExp | ast.Match, "if"),
    (ast.Try | ast.TryStar, "try"),
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook) -> dict[str, nbformat.NotebookNode]:
    """Return the code cells by tag, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {" ".join(cell.metadata.get("tags", [])): cell for cell in cells}


def test_the_models_of_an_applications_life_are_there():
    assert {path.stem for path in NOTEBOOKS if path.parent.name == "notebooks"} >= MODELS


def test_is_a_valid_notebook_with_stable_ids_and_no_outputs(path, notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", i) for i in ids), f"ids are words: {ids}"
    for cell in code(notebook).values():
        assert (cell.outputs, cell.execution_count) == ([], None)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


def test_code_cells_have_one_tag_each_in_the_order_of_the_grammar(path, notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tags = LOOKING if is_read_only(path.stem) else TAGS
    assert [cell.metadata.get("tags") for cell in cells] == [[tag] for tag in tags]


def step_of(name: str) -> type[Step]:
    """Return the class of a notebook's step, by the step's name and not by the notebook."""
    classes = (getattr(steps, each) for each in steps.__all__)
    return next(each for each in classes if each.name == name)


def is_read_only(name: str) -> bool:
    return issubclass(step_of(name), ReadOnlyStep)


def test_starts_with_a_title_a_promise_and_a_table(notebook):
    title = notebook.cells[0]
    assert title.cell_type == "markdown"
    lines = [line for line in title.source.splitlines() if line.strip()]
    assert re.match(r"# [A-Z][a-z]+ \w+", lines[0]), "an H1 verb phrase"
    assert [line for line in lines if line.startswith("> ")] == [lines[1]], "one quoted line"
    header = lines[2].lower()
    assert all(word in header for word in ("minutes", "changes", "cost", "undo")), header
    assert len([line for line in lines if line.startswith("|")]) == 3


def test_a_few_sentences_stand_before_each_code_cell(notebook):
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            tag = cell.metadata.tags[0]
            assert before.cell_type == "markdown", f"no words before {tag}"
            assert before is not notebook.cells[0] or tag == "parameters"
            prose = re.sub(r"(?m)^#.*$", "", before.source)
            assert 20 <= len(prose.split()) <= 100, f"{len(prose.split())} words before {tag}"


def test_a_code_cell_is_thin(notebook):
    for tag, cell in code(notebook).items():
        assert "!" not in [line.lstrip()[:1] for line in cell.source.splitlines()], tag
        assert "%" not in [line.lstrip()[:1] for line in cell.source.splitlines()], tag
        if tag == "parameters":
            continue
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert 1 <= len(lines) <= 5, f"{tag} has {len(lines)} lines"


def test_a_code_cell_has_no_logic_of_its_own(notebook):
    for tag, cell in code(notebook).items():
        nodes = list(ast.walk(ast.parse(cell.source)))
        found = {word for kind, word in FORBIDDEN for node in nodes if isinstance(node, kind)}
        assert not found, f"{tag} has {found}"
        assert not {"sys.exit(", "input(", "get_ipython("} & set(
            re.findall(r"[\w.]+\(", cell.source)
        )


def test_a_code_cell_makes_one_call_whose_result_shows_itself(notebook):
    for tag, cell in code(notebook).items():
        tree = ast.parse(cell.source)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        if tag == "parameters":
            assert not calls
            continue
        assert isinstance(tree.body[-1], ast.Expr), f"the last line of {tag} shows nothing"
        made = [call for call in calls if not is_the_step(call)]
        assert len(made) == 1, f"{tag} calls {[ast.unparse(call) for call in made]}"


def is_the_step(call: ast.Call) -> bool:
    """Tell whether a call only makes the step that the cells share: Provision(env=env, …)."""
    return ast.unparse(call.func).split(".")[-1][0].isupper()


def test_parameters_are_assignments_that_papermill_can_explain(path, notebook):
    cell = code(notebook)["parameters"]
    assert all(isinstance(node, ast.Assign | ast.AnnAssign) for node in ast.parse(cell.source).body)
    names = [
        ast.unparse(n.target) for n in ast.parse(cell.source).body if isinstance(n, ast.AnnAssign)
    ]
    found = {p.name: p for p in PythonTranslator.inspect(cell)}
    assert list(found) == names, "every parameter has its type: env: str = 'staging'  # …"
    assert all(p.help for p in found.values()), "every parameter says what it is, on its line"
    assert {"env"} <= set(found) or path.stem == "bootstrap"
    load_notebook_node(str(path))


def test_its_parameters_are_those_of_its_step(path, notebook):
    declared = {each.name for each in PythonTranslator.inspect(code(notebook)["parameters"])}
    assert declared == {"env", *(field.name for field in fields(step_of(path.stem).Parameters))}


def test_preflight_makes_the_step_from_its_parameters(path, notebook):
    step, given = step_of(path.stem), code(notebook)["preflight"].source
    calls = [node for node in ast.walk(ast.parse(given)) if isinstance(node, ast.Call)]
    [call] = [each for each in calls if is_the_step(each)]
    assert ast.unparse(call.func) == step.__name__
    assert [ast.unparse(each) for each in call.args] == ["env"]
    named = {each.arg for each in call.keywords} - {None}
    assert named <= {field.name for field in fields(step.Parameters)}


def test_no_cell_may_fail_and_go_on(notebook):
    for cell in notebook.cells:
        assert "raises-exception" not in cell.metadata.get("tags", [])


def test_is_stored_as_jupyter_stores_it(path):
    text = path.read_text()
    assert text == nbformat.writes(nbformat.read(path, as_version=4)) + "\n"
