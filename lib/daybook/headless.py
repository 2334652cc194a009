"""`daybook run`: a notebook without a browser, its outcome as an exit code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill

from daybook import driver, settings
from daybook.errors import Interrupted, exit_code_of
from daybook.record import record
from daybook.run import RUN_ID, new_id
from daybook.terminal import Terminal

WIDTH = "COLUMNS"
"""How wide the kernel's tables may be."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and the folder of its record."""

    exit_code: int
    folder: Path


def run(
    notebook: Path, parameters: Mapping[str, object], *, root: Path, quiet: bool = False
) -> Outcome:
    """Run a notebook; its settings are checked before a kernel starts."""
    env = _environment(notebook, parameters)
    settings.load(root, env)
    terminal = Terminal(quiet=quiet)
    run_id = new_id(notebook.stem)
    os.environ |= {RUN_ID: run_id, "DAYBOOK_ROOT": str(root)}
    os.environ.setdefault(WIDTH, str(shutil.get_terminal_size((100, 40)).columns))
    error = driver.execute(notebook, parameters, root=root, terminal=terminal)
    folder = root / "runs" / env / run_id
    if error and not hasattr(error, "ename"):
        terminal.problem(_without_a_word(error))
    record.settle(root, environment=env)
    return Outcome(_exit_code(error, record.load(folder)), folder)


def _environment(notebook: Path, parameters: Mapping[str, object]) -> str:
    default = papermill.inspect_notebook(notebook).get("env", {}).get("default", "")
    return str(parameters.get("env", default.strip("\"'")))


def _without_a_word(error: BaseException) -> str:
    """Say what ended a notebook that no cell's error ended."""
    reason = str(error) or (error.__doc__ or type(error).__name__).partition("\n")[0]
    return f"{reason}\n  What had been done by then is in the record.\n  Next: run this step again"


def _exit_code(error: BaseException | None, record: Mapping[str, Any] | None) -> int:
    """Return the code of what ended the notebook; a record tells of a kernel that could not."""
    is_stopped = isinstance(error, driver.Stopped)
    if is_stopped or (record and record["status"] == "interrupted"):
        return Interrupted.exit_code
    return exit_code_of(getattr(error, "ename", "")) if error else 0
