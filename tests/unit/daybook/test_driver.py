"""The driver with real kernels: its output, its result, two of them at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from daybook.headless import driver
from daybook.headless.terminal import Terminal

DRIVE = """
import sys
from pathlib import Path
from daybook.headless import driver
from daybook.headless.terminal import Terminal
folder = Path(sys.argv[1])
error = driver.execute(folder / "it.ipynb", {}, root=folder, terminal=Terminal())
sys.exit(repr(error) if error else 0)
"""


@pytest.fixture
def notebook(tmp_path):
    """Return a function that writes a notebook of some cells."""

    def write(*sources: str):
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [new_code_cell(source, metadata={"tags": ["plan"]}) for source in sources]
        path = tmp_path / "it.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
        return path

    return write


def test_two_concurrent_runs_have_separate_kernels(notebook, tmp_path):
    notebook("print('one')", "print('two')")
    command = [sys.executable, "-c", DRIVE, tmp_path]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, cwd=tmp_path, **options) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert all("one" in text and "two" in text for text in said)
    assert [path.name for path in tmp_path.iterdir()] == ["it.ipynb"]


def test_a_dead_kernel_is_an_error_and_ends_the_notebook(notebook, tmp_path, capsys):
    path = notebook("import os; os.kill(os.getpid(), 9)", "print('after')")
    error = driver.execute(path, {}, root=tmp_path, terminal=Terminal())
    assert error is not None
    assert not hasattr(error, "ename")
    assert "after" not in capsys.readouterr().out


def test_an_error_has_the_name_of_its_class_and_is_printed(notebook, tmp_path, capsys):
    path = notebook("raise LookupError('where is it')", "print('after')")
    error = driver.execute(path, {}, root=tmp_path, terminal=Terminal())
    assert error.ename == "LookupError"
    said = capsys.readouterr()
    assert "where is it" in said.err
    assert "after" not in said.out
    assert "Traceback" not in said.err


def test_an_error_after_a_signal_is_an_interruption(notebook, tmp_path):
    notebook(
        "print('waits', flush=True)\n"
        "try:\n    import time; time.sleep(60)\n"
        "except KeyboardInterrupt:\n    raise ImportError('half a module') from None",
        "print('after')",
    )
    command = [sys.executable, "-c", DRIVE, tmp_path]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **options) as process:
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
    assert "waits" in "".join(first)
    assert "Interruption()" in said
    assert "after" not in said


LOSE_WHAT_FOLLOWS = """
async def lose(*_args):
    raise KeyboardInterrupt

get_ipython().kernel.shell_handlers["execute_request"] = lose
print("from here on nothing is answered")
"""


def test_a_signal_while_a_kernel_receives_a_cell_ends_the_run(notebook, tmp_path):
    notebook(LOSE_WHAT_FOLLOWS, "print('lost')")
    patched = DRIVE.replace("folder =", "driver.IDLE_S = 1.0\nfolder =", 1)
    command = [sys.executable, "-c", patched, tmp_path]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **options) as process:
        said = next(line for line in process.stdout if "nothing is answered" in line)
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=60)[0]
    assert said.strip().endswith("Interruption()")
