"""`daybook run`: a notebook without a browser, its outcome as an exit code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import papermill

from daybook import driver, settings
from daybook.errors import exit_code_of
from daybook.run import RUN_ID, new_id
from daybook.terminal import Terminal

WIDTH = "COLUMNS"


def run(
    notebook: Path, parameters: Mapping[str, object], *, root: Path, quiet: bool = False
) -> int:
    """Run a notebook and return the exit code; settings are checked before a kernel starts."""
    env = _environment(notebook, parameters)
    if env:
        settings.load(root, env)
    terminal = Terminal(quiet=quiet)
    run_id = new_id(notebook.stem)
    os.environ |= {RUN_ID: run_id, "DAYBOOK_ROOT": str(root)}
    os.environ.setdefault(WIDTH, str(shutil.get_terminal_size((100, 40)).columns))
    error = driver.execute(notebook, parameters, root=root, terminal=terminal)
    return _outcome(error)


def _environment(notebook: Path, parameters: Mapping[str, object]) -> str | None:
    declared = papermill.inspect_notebook(notebook)
    default = declared.get("env", {}).get("default", "").strip("\"'")
    return str(parameters.get("env", default)) or None


def _outcome(error: BaseException | None) -> int:
    if error is None:
        return 0
    return exit_code_of(getattr(error, "ename", ""))
