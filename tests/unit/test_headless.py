"""`daybook run`: what a kernel's end becomes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from nbclient.exceptions import DeadKernelError

from daybook import driver, headless
from daybook.errors import SettingsError

CHECKOUT = Path(__file__).parents[2]


class CellFailed(Exception):
    """What papermill raises, which knows the class of the cell's error by its name."""

    def __init__(self, ename: str) -> None:
        super().__init__(ename)
        self.ename = ename


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what runs provision with a kernel that ends like this, and gives the exit code."""
    shutil.copytree(CHECKOUT / "environments", tmp_path / "environments")
    monkeypatch.setattr(headless.os, "environ", {})

    def call(error: BaseException | None, status: str | None = None, env: str = "staging") -> int:
        def execute(*_args, root, **_options):
            if status:
                folder = root / "runs" / env / headless.os.environ[headless.RUN_ID]
                folder.mkdir(parents=True)
                (folder / "journal.jsonl").touch()
                (folder / "record.json").write_text(json.dumps({"status": status}))
            return error

        monkeypatch.setattr(driver, "execute", execute)
        notebook = CHECKOUT / "notebooks/provision.ipynb"
        return headless.run(notebook, {"env": env}, root=tmp_path).exit_code

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


@pytest.mark.parametrize("error", [DeadKernelError("Kernel died"), driver.Stopped()])
def test_a_kernel_that_could_not_say_it_was_interrupted(run, error, capsys):
    assert run(error, "interrupted") == 130
    said = capsys.readouterr().err
    assert "Next: run this step again" in said


def test_a_signal_before_there_is_a_record(run):
    assert run(driver.Stopped()) == 130


def test_a_kernel_that_never_came_is_an_error(run):
    assert run(RuntimeError("Kernel didn't respond in 60 seconds")) == 5


def test_settings_are_checked_before_a_kernel_starts(run):
    with pytest.raises(SettingsError, match="Unknown environment 'nowhere'"):
        run(AssertionError("a kernel was started"), env="nowhere")
