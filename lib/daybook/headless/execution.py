"""`daybook run`: execute a notebook without a browser and return an exit code."""

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
"""How long the tools of a killed kernel may take to end: Terraform saves its state first."""
POLL_S = 0.2
WIDTH = "COLUMNS"
"""The width of the kernel's tables."""


@dataclass(frozen=True)
class Outcome:
    """A run's exit code, and the folder of its record."""

    exit_code: int
    folder: Path


def run(
    notebook: Path, parameters: Mapping[str, object], *, root: Path, quiet: bool = False
) -> Outcome:
    """Run a notebook; its settings are validated before a kernel starts."""
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
        error = _print_error(error, folder, terminal)
        _wait_for_tools(folder, terminal)
    _close_abandoned(root, env, terminal)
    return Outcome(_exit_code(error, _status(folder)), folder)


def _environment(notebook: Path, parameters: Mapping[str, object]) -> str:
    default = papermill.inspect_notebook(notebook).get("env", {}).get("default", "")
    return str(parameters.get("env", default.strip("\"'")))


def _print_error(error: BaseException, folder: Path, terminal: Terminal) -> BaseException:
    """Print the error that ended a notebook, unless the cell has printed it; return the error."""
    name = getattr(error, "ename", "")
    if is_known(name) or name == KeyboardInterrupt.__name__:
        return error
    has_record = (folder / journal.NAME).exists()
    changed = CHANGES_IN_RECORD if has_record else NOTHING_CHANGED
    if isinstance(error, driver.Interruption) or not isinstance(error, Exception):
        reason = str(error) or (error.__doc__ or type(error).__name__).partition("\n")[0]
        printed = Interrupted(reason, changed=changed, next=AGAIN)
    elif name:
        printed = Unexpected(
            f"Unexpected error in a cell: {name}.",
            expected="a result, or an error with a known cause",
            observed="the line above",
            changed=changed,
            next=f"{AGAIN}; if it fails again, report it with the traceback in "
            f"runs/{folder.parent.name}/{folder.name}/{journal.NAME}",
        )
    else:
        printed = explained(error, folder=folder, changed=changed, again=AGAIN)
        printed.changed = printed.changed or changed
    terminal.problem(str(printed))
    return printed


def _wait_for_tools(folder: Path, terminal: Terminal) -> None:
    """Wait for the tools of a killed kernel; its run ends with the last of them."""
    life = liveness.file_of(folder)
    if liveness.is_alive(life):
        terminal.note("The kernel has died. Waiting for a tool that is still running…")
    deadline = time.monotonic() + TOOLS_S
    while liveness.is_alive(life) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _close_abandoned(root: Path, env: str, terminal: Terminal) -> None:
    """Close the records of abandoned runs; after an error, the next run tries again."""
    try:
        closed = seal.close_abandoned(root, environment=env)
    except Exception as err:  # It must not hide the result of this run.
        terminal.problem(f"A record in runs/{env} is not closed yet: {explained(err).message}")
        return
    for record in closed:
        if record.status == seal.BROKEN:
            name = f"runs/{env}/{record.folder.name}"
            terminal.problem(f"The record {name} is not closed yet: {record.unsigned}")


def _status(folder: Path) -> str:
    """Return the run's status from its record, "" if the record cannot be read."""
    try:
        return (seal.load(folder) or {}).get("status", "")
    except (OSError, VerifyFailed):
        return ""


def _exit_code(error: BaseException | None, status: str) -> int:
    """Return the exit code of the notebook's error; a killed kernel's is known by its record."""
    if isinstance(error, Interrupted) or status == "interrupted":
        return Interrupted.exit_code
    if isinstance(error, DaybookError):
        return error.exit_code
    return exit_code_of(getattr(error, "ename", "")) if error else 0
