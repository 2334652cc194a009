"""JupyterLab saves notebooks/ without outputs, while the open page still shows them."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture
def model(lab):
    """Return a small template notebook in the project copy."""
    path = lab.root / "notebooks/zz-browser.ipynb"
    path.parent.mkdir(exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell("print(6 * 7)"), new_code_cell("1 / 0"), new_code_cell("print('late')")]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    yield path
    path.unlink()


def test_a_saved_template_has_no_outputs(lab, model, open_notebook, screenshot):
    notebook = open_notebook("notebooks/zz-browser.ipynb")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("42")
    notebook.save()
    cells = nbformat.read(model, as_version=4).cells
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * 3
    expect(notebook.output(0)).to_contain_text("42")
    screenshot(notebook, "saved")


def test_run_all_stops_at_the_first_failure(model, open_notebook):
    notebook = open_notebook("notebooks/zz-browser.ipynb")
    notebook.run_all()
    notebook.wait(1)
    expect(notebook.output(1)).to_contain_text("ZeroDivisionError")
    expect(notebook.prompt(2)).to_have_text("[ ]:")
