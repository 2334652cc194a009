"""Running tools, from the point of view of the caller."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from daybook import process
from daybook.errors import CommandFailed, ToolKilled

TRAPPING = "trap 'echo got INT; exit 4' INT; echo ready; while :; do sleep 0.05; done"


def test_lines_arrive_as_they_are_printed():
    times = []
    process.run(
        ["sh", "-c", "echo one; sleep 0.4; echo two"], on_line=lambda _: times.append(time.time())
    )
    assert times[1] - times[0] > 0.3


def test_both_streams_carriage_returns_and_broken_utf8_are_lines():
    lines = []
    process.run(
        ["sh", "-c", r"echo out; echo err >&2; printf '1%%\r2%%\n\377'"], on_line=lines.append
    )
    assert lines == ["out", "err", "1%", "2%", "�"]


def test_the_result_has_command_code_duration_and_the_last_ten_lines():
    result = process.run(["sh", "-c", "seq 20; exit 3"], check=False)
    assert result.returncode == 3
    assert result.tail == tuple(str(n) for n in range(11, 21))
    assert result.command == "sh -c 'seq 20; exit 3'"
    assert 0 < result.duration_s < 5
    assert not result.interrupted


def test_a_failed_command_shows_command_code_and_tail():
    with pytest.raises(CommandFailed) as caught:
        process.run(["sh", "-c", "echo why; exit 3"])
    assert caught.value.lines() == [
        "sh -c 'echo why; exit 3' failed with exit code 3.",
        "  why",
        "  expected: exit code 0",
        "  observed: exit code 3",
    ]
    assert caught.value.result.returncode == 3


def test_a_missing_tool_is_reported_before_anything_starts():
    with pytest.raises(CommandFailed, match="terraformm is not installed or not on PATH"):
        process.run(["terraformm"])
    with pytest.raises(CommandFailed):
        process.run(["sh", "-c", ":"], env={"PATH": "/nonexistent"})


def test_the_tool_gets_the_given_environment_and_folder(tmp_path):
    lines = []
    env = {"PATH": os.environ["PATH"], "COLOUR": "red"}
    process.run(
        ["sh", "-c", "pwd; echo $COLOUR $HOME"], env=env, cwd=tmp_path, on_line=lines.append
    )
    assert lines == [str(tmp_path.resolve()), "red"]


def test_stdin_is_empty_by_default():
    assert process.run(["cat"]).tail == ()
    assert process.run(["cat"], stdin=b"a secret").tail == ("a secret",)


def test_stdin_may_be_larger_than_a_pipe_and_stay_unread():
    assert process.run(["wc", "-c"], stdin=b"x" * 1_000_000).tail[0].strip() == "1000000"
    assert process.run(["true"], stdin=b"x" * 1_000_000).returncode == 0


def test_private_output_is_kept_only_after_a_failure():
    assert process.run(["echo", "secret"], private=True).tail == ()
    assert process.run(["sh", "-c", "echo why; exit 1"], private=True, check=False).tail == ("why",)


def test_only_the_owner_can_read_the_log(tmp_path):
    log = tmp_path / "tool.log"
    process.run(["echo", "hi"], log=log)
    assert log.read_text() == "hi\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_timeout_interrupts_and_fails():
    lines = []
    with pytest.raises(CommandFailed, match=r"timed out after 0\.3 s") as caught:
        process.run(["sh", "-c", TRAPPING], timeout_s=0.3, on_line=lines.append)
    assert lines == ["ready", "got INT"]
    assert caught.value.result.interrupted


def test_a_timeout_ends_in_a_kill():
    with pytest.raises(CommandFailed) as caught:
        process.run(["sh", "-c", "trap '' INT; sleep 60; sleep 60"], timeout_s=0.2, grace_s=0.2)
    assert caught.value.result.returncode == 128 + signal.SIGKILL


def test_ctrl_c_interrupts_once_and_raises_after_the_end():
    lines = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line == "ready":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", TRAPPING], on_line=on_line)
    assert lines == ["ready", "got INT"]
    assert signal.getsignal(signal.SIGINT) is before


def test_it_works_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(process.run(["echo", "hi"])))
    thread.start()
    thread.join(10)
    assert results[0].tail == ("hi",)


def test_an_error_in_on_line_ends_the_tool_and_is_raised(tmp_path):
    file = tmp_path / "ended"

    def on_line(_: str) -> None:
        raise RuntimeError("listener")

    script = f"trap 'touch {file}; exit' INT; echo ready; while :; do sleep 0.05; done"
    with pytest.raises(RuntimeError, match="listener"):
        process.run(["sh", "-c", script], on_line=on_line)
    assert file.exists()


def test_all_descriptors_are_closed():
    def count() -> int:
        return len(os.listdir("/dev/fd"))

    process.run(["true"], stdin=b"x")
    before = count()
    for _ in range(3):
        process.run([sys.executable, "-c", "pass"], stdin=b"x")
        with pytest.raises(FileNotFoundError):
            process.run(["true"], cwd="/nonexistent", stdin=b"x")
    assert count() == before


KERNEL_CELL = f"""
from daybook import process
process.run(["sh", "-c", {TRAPPING!r}], on_line=print)
"""


class Interrupting(NotebookClient):
    """Interrupts the kernel twice, as Jupyter does, after the tool is ready."""

    def process_message(self, msg, cell, cell_index):
        if "ready" in msg["content"].get("text", ""):
            for _ in range(2):
                os.killpg(os.getpgid(self.km.provisioner.pid), signal.SIGINT)
        return super().process_message(msg, cell, cell_index)


def test_an_interrupted_kernel_ends_the_tool_before_the_cell():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(KERNEL_CELL)])
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        Interrupting(notebook, kernel_name="python3").execute()
    text = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert text.split() == ["ready", "got", "INT"]


def test_a_killed_tool_is_a_failure_even_without_check():
    with pytest.raises(ToolKilled, match=r"was killed: Killed \(signal 9\)") as caught:
        process.run(["sh", "-c", "echo 1.11.4; kill -9 $$"], check=False)
    assert caught.value.exit_code == 5
    assert caught.value.result.returncode == 128 + signal.SIGKILL
    assert process.run(["sh", "-c", "exit 137"], check=False).returncode == 137


@pytest.mark.attack("F13", "the supervisor of `terraform version` is killed: taken for success")
def test_a_killed_supervisor_is_a_failure_and_its_tool_is_ended(tmp_path):
    pids = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)

    script = "trap '' INT; echo $$; setsid sleep 60 & echo $!; wait"
    with pytest.raises(ToolKilled):
        process.run(["sh", "-c", script], on_line=on_line, check=False)
    assert not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
