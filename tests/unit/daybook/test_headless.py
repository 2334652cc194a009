"""`daybook run`: the exit codes of the ways in which a kernel ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from nbclient.exceptions import DeadKernelError

from daybook import liveness
from daybook.errors import SettingsError
from daybook.headless import driver, execution
from daybook.headless.terminal import Terminal
from daybook.record import seal, summary, verification
from daybook.record.journal import Entries

CHECKOUT = Path(__file__).parents[3]
GONE = {"pid": 2**22 + 1, "started": 0.0}


class CellFailed(Exception):
    """Papermill's error, which has the class of the cell's error by name."""

    def __init__(self, ename: str) -> None:
        super().__init__(ename)
        self.ename = ename


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs provision with a kernel's end, and returns the exit code."""
    shutil.copytree(CHECKOUT / "environments", tmp_path / "environments")
    monkeypatch.setattr(execution.os, "environ", {})

    def call(error: BaseException | None, status: str | None = None, env: str = "staging") -> int:
        def execute(*_args, root, **_options):
            if status:
                folder = root / "runs" / env / execution.os.environ[execution.RUN_ID]
                folder.mkdir(parents=True)
                (folder / "journal.jsonl").touch()
                closed = summary.summarise(Entries(())) | {"files": {}, "previous": None}
                (folder / "record.json").write_text(json.dumps(closed | {"status": status}))
            return error

        monkeypatch.setattr(driver, "execute", execute)
        notebook = CHECKOUT / "notebooks/provision.ipynb"
        return execution.run(notebook, {"env": env}, root=tmp_path).exit_code

    return call


@pytest.mark.parametrize(
    ("ename", "status", "code"),
    [
        ("SettingsError", None, 2),
        ("PreflightFailed", "failed", 3),
        ("ApprovalNeeded", "waiting", 4),
        ("ApprovalRefused", "failed", 4),
        ("CommandFailed", "failed", 5),
        ("ApplyFailed", "failed", 6),
        ("VerifyFailed", "failed", 7),
        ("Locked", "failed", 8),
        ("Interrupted", "interrupted", 130),
        ("KeyboardInterrupt", "interrupted", 130),
        ("ZeroDivisionError", "failed", 5),
    ],
)
def test_an_error_has_its_exit_code(run, ename, status, code):
    assert run(CellFailed(ename), status) == code


def test_success_is_zero(run):
    assert run(None, "succeeded") == 0


@pytest.mark.parametrize("error", [DeadKernelError("Kernel died"), driver.Interruption()])
def test_a_killed_kernel_was_interrupted(run, error, capsys):
    assert run(error, "interrupted") == 130
    said = capsys.readouterr().err
    assert "Next: run this step again" in said


def test_a_signal_before_the_record_exists(run):
    assert run(driver.Interruption()) == 130


def test_a_kernel_that_does_not_start_is_an_error(run):
    assert run(RuntimeError("Kernel didn't respond in 60 seconds")) == 5


@pytest.mark.attack("F5", "a record is closed while a tool of the killed kernel still writes to it")
def test_a_run_is_closed_after_its_last_tool_has_ended(open_run, tmp_path):
    folder = open_run(kernel=GONE).path.parent
    (folder / "attachments").mkdir()
    log = folder / "attachments/terraform.log"
    life = liveness.hold(liveness.file_of(folder))
    script = f"sleep 1; echo saved > {shlex.quote(str(log))}"
    tool = subprocess.Popen(["bash", "-c", script], pass_fds=[life.fd])
    os.close(life.fd)
    assert seal.close_abandoned(tmp_path) == []
    execution._wait_for_tools(folder, Terminal(quiet=True))
    tool.wait()
    [closed] = seal.close_abandoned(tmp_path)
    assert (closed.status, log.read_text()) == ("interrupted", "saved\n")
    assert verification.verify(folder).state == verification.UNSIGNED


def test_settings_are_validated_before_a_kernel_starts(run):
    with pytest.raises(SettingsError, match="Unknown environment 'nowhere'"):
        run(AssertionError("a kernel was started"), env="nowhere")
