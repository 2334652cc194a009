"""`daybook run`: a notebook without a browser, its outcome as an exit code."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import papermill

from daybook import liveness, settings
from daybook.errors import (
    CHANGES_IN_RECORD,
    NOTHING_CHANGED,
    DaybookError,
    Interrupted,
    PreflightFailed,
    Unexpected,
    VerifyFailed,
    exit_code_of,
    explained,
    is_known,
)
from daybook.headless import driver
from daybook.headless.terminal import Terminal
from daybook.record import journal, seal
from daybook.run import RUN_ID, new_id

AGAIN = "run this step again"
TOOLS_S = 200.0
"""How long the tools of a killed kernel may take to end: an apply saves its state first."""
POLL_S = 0.2
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
    folder = root / "runs" / env / run_id
    try:
        error = driver.execute(notebook, parameters, root=root, terminal=terminal)
    except OSError as err:
        error = explained(err, cls=PreflightFailed, folder=root)
    if error:
        error = _told(error, folder, terminal)
        _await_tools(folder, terminal)
    _settle(root, env, terminal)
    return Outcome(_exit_code(error, _status(folder)), folder)


def _environment(notebook: Path, parameters: Mapping[str, object]) -> str:
    default = papermill.inspect_notebook(notebook).get("env", {}).get("default", "")
    return str(parameters.get("env", default.strip("\"'")))


def _told(error: BaseException, folder: Path, terminal: Terminal) -> BaseException:
    """Print what ended a notebook, unless the cell has printed all of it; return the error."""
    name = getattr(error, "ename", "")
    if is_known(name) or name == KeyboardInterrupt.__name__:
        return error
    has_record = (folder / journal.NAME).exists()
    changed = CHANGES_IN_RECORD if has_record else NOTHING_CHANGED
    if isinstance(error, driver.Interruption) or not isinstance(error, Exception):
        reason = str(error) or (error.__doc__ or type(error).__name__).partition("\n")[0]
        told = Interrupted(reason, changed=changed, next=AGAIN)
    elif name:
        told = Unexpected(
            f"Unexpected error in a cell: {name}.",
            expected="a result, or an error with a known cause",
            observed="the line above",
            changed=changed,
            next=f"{AGAIN}; if it fails again, report it with the traceback in "
            f"runs/{folder.parent.name}/{folder.name}/{journal.NAME}",
        )
    else:
        told = explained(error, folder=folder, changed=changed, again=AGAIN)
        told.changed = told.changed or changed
    terminal.problem(str(told))
    return told


def _await_tools(folder: Path, terminal: Terminal) -> None:
    """Wait for the tools of a kernel that was killed; until then its run is not over."""
    life = liveness.file_of(folder)
    if liveness.is_alive(life):
        terminal.note("The kernel is gone. A tool that it started ends its work first…")
    deadline = time.monotonic() + TOOLS_S
    while liveness.is_alive(life) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _settle(root: Path, env: str, terminal: Terminal) -> None:
    """Close what runs have left open; a record that cannot be closed now waits for the next run."""
    try:
        closed = seal.close_abandoned(root, environment=env)
    except Exception as err:  # How this run ended is known, and is what counts.
        terminal.problem(f"A record in runs/{env} is not closed yet: {explained(err).message}")
        return
    for one in closed:
        if one.status == seal.BROKEN:
            name = f"runs/{env}/{one.folder.name}"
            terminal.problem(f"The record {name} is not closed yet: {one.unsigned}")


def _status(folder: Path) -> str:
    """Return how the run ended by its record; "" where that cannot be read."""
    try:
        return (seal.load(folder) or {}).get("status", "")
    except (OSError, VerifyFailed):
        return ""


def _exit_code(error: BaseException | None, status: str) -> int:
    """Return the code of what ended the notebook; a record tells of a kernel that could not."""
    if isinstance(error, Interrupted) or status == "interrupted":
        return Interrupted.exit_code
    if isinstance(error, DaybookError):
        return error.exit_code
    return exit_code_of(getattr(error, "ename", "")) if error else 0
