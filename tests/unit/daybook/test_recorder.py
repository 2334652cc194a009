"""The recorder outside a kernel: tools, their logs, and an immediate close."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daybook import process
from daybook.errors import CommandFailed
from daybook.record import journal, seal
from daybook.record.recorder import Recorder

SAYS = "import sys; print('one'); print('hunter2-secret'); sys.exit(int(sys.argv[1]))"


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    header = {"run": "r1", "step": "demo", "environment": "staging", "target": "sandbox"}
    recorder = Recorder.start(tmp_path, tmp_path / "runs/staging/r1", header)
    recorder.redactor.add("DB", "hunter2-secret")
    yield recorder
    recorder.close("interrupted")


def test_a_tool_is_journalled_and_its_log_redacted(recorder):
    lines: list[str] = []
    run = recorder.tool(process.run)
    run([sys.executable, "-c", SAYS, "0"], on_line=lines.append)
    started, ended = journal.read(recorder.journal.path).lines[-2:]
    assert started["args"][-1] == "0"
    assert (ended["number"], ended["returncode"]) == (1, 0)
    log = recorder.folder / "attachments" / started["log"]
    assert log.read_text() == "one\n[redacted:DB]\n"
    assert lines == ["one", "hunter2-secret"]


def test_a_failed_tool_is_journalled_with_its_exit_code(recorder):
    with pytest.raises(CommandFailed):
        recorder.tool(process.run)([sys.executable, "-c", SAYS, "3"])
    assert journal.read(recorder.journal.path).lines[-1]["returncode"] == 3


def test_a_private_tool_has_no_log(recorder):
    recorder.tool(process.run)([sys.executable, "-c", SAYS, "0"], private=True)
    assert list((recorder.folder / "attachments").iterdir()) == []


def test_finish_closes_immediately_outside_a_kernel(recorder):
    recorder.finish()
    assert seal.load(recorder.folder)["status"] == "succeeded"
    recorder.close("failed")
    assert seal.load(recorder.folder)["status"] == "succeeded"


def test_credentials_in_the_environment_are_redacted_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "a-token-4711-of-mine")
    tools = {"AWS_SECRET_ACCESS_KEY": "of-the-target-0815"}
    header = {"run": "r2", "parameters": {"x": "a-token-4711-of-mine", "y": "of-the-target-0815"}}
    recorder = Recorder.start(tmp_path, tmp_path / "runs/staging/r2", header, environ=tools)
    recorder.finish()
    assert seal.load(recorder.folder)["parameters"] == {
        "x": "[redacted:GITHUB_TOKEN]",
        "y": "[redacted:AWS_SECRET_ACCESS_KEY]",
    }


@pytest.mark.attack("F13", "an unexpected error ends a run with a traceback")
@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), ValueError("x"), OSError(5, "x")]
)
def test_a_record_that_cannot_be_closed_is_reported_and_the_run_ends(
    recorder, error, monkeypatch, capsys
):
    def fail(*_args: object, **_options: object) -> None:
        raise error

    results = []
    recorder._on_closed = results.append
    monkeypatch.setattr(seal, "close", fail)
    recorder.close("succeeded")
    assert "could not be closed; the next run closes it" in capsys.readouterr().err
    assert [result.unsigned for result in results] == ["not closed yet"]
