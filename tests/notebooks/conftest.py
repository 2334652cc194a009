"""Fixtures for records: small notebooks, real kernels, and every front end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BIN = Path(sys.executable).parent
BEGIN = """
import os
from pathlib import Path
root = Path(os.environ["DAYBOOK_ROOT"])
from daybook.record.recorder import Recorder
header = {"run": run, "step": "demo", "environment": "staging", "target": "sandbox",
          "account": "123456789012", "region": "us-east-1", "parameters": {"env": "staging"}}
statuses = {"ApprovalNeeded": "waiting", "KeyboardInterrupt": "interrupted"}
recorder = Recorder.start(root, root / "runs/staging" / run, header, key=root / "key",
    template=root / "notebooks/demo.ipynb", status_of=lambda name: statuses.get(name, "failed"))
print("begun")
"""
FINISH = "recorder.finish()"


@dataclass(frozen=True)
class Workshop:
    """A project with one notebook; `run` executes it as an operator or CI does."""

    root: Path
    begin = BEGIN

    def write(self, *sources: str, run: str = "r1") -> Path:
        """Write a notebook: parameters, the start of the record, the sources, its end."""
        cells = [
            new_markdown_cell("# Try it"),
            new_code_cell(f'run = "{run}"', metadata={"tags": ["parameters"]}),
            *(new_code_cell(source) for source in (BEGIN, *sources, FINISH)),
        ]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = self.root / "notebooks/demo.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata=spec), path)
        return path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program of the virtual environment here."""
        return subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=self.root,
            env=os.environ | {"DAYBOOK_ROOT": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def papermill(self, *options: str) -> subprocess.Popen[str]:
        """Start papermill on the notebook."""
        given = ("--no-progress-bar", "-k", "python3", *options)
        return self.start("papermill", "notebooks/demo.ipynb", "out.ipynb", *given)

    def run(self, *sources: str, run: str = "r1") -> Path:
        """Write the notebook, run it with papermill to its end, return the run's folder."""
        self.write(*sources, run=run)
        process = self.papermill()
        process.communicate(timeout=120)
        return self.folder(run)

    def folder(self, run: str = "r1") -> Path:
        return self.root / "runs/staging" / run

    def wait_for(self, text: str, run: str = "r1", timeout_s: float = 60) -> None:
        """Wait until the journal holds a text."""
        journal = self.folder(run) / "journal.jsonl"
        wait_until(lambda: journal.exists() and text in journal.read_text(), timeout_s)

    def kernel_pid(self, run: str = "r1") -> int:
        first = (self.folder(run) / "journal.jsonl").read_text().splitlines()[0]
        return json.loads(first)["kernel"]["pid"]


def wait_until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until a condition is true; fail after a timeout."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@dataclass
class Front:
    """An interactive front end, such as JupyterLab."""

    manager: KernelManager
    client: Any
    root: Path

    def execute(self, source: str, cell_id: str = "", typed: Sequence[str] = ()) -> dict[str, Any]:
        """Run a cell, answer its prompts, and return its reply."""
        content = {"code": source, "silent": False, "store_history": True}
        content |= {"user_expressions": {}, "allow_stdin": True, "stop_on_error": True}
        while True:
            message = self.client.session.msg("execute_request", content)
            message["metadata"] = {"cellId": cell_id} if cell_id else {}
            self.client.shell_channel.send(message)
            for text in typed:
                assert self.client.get_stdin_msg(timeout=60)["content"]["password"]
                self.client.input(text)
            reply = self.client.get_shell_msg(timeout=60)
            while reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                reply = self.client.get_shell_msg(timeout=60)
            # For a moment after an error, a kernel aborts the requests that it gets.
            if reply["content"]["status"] != "aborted":
                return reply["content"]

    def value(self, expression: str) -> str:
        """Return an expression's value in the kernel, as text."""
        content = {"code": "", "silent": True, "store_history": False, "allow_stdin": False}
        content |= {"user_expressions": {"it": expression}, "stop_on_error": False}
        while True:
            message = self.client.session.msg("execute_request", content)
            self.client.shell_channel.send(message)
            reply = self.client.get_shell_msg(timeout=60)
            while reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                reply = self.client.get_shell_msg(timeout=60)
            # For a moment after an error, a kernel drops requests.
            if reply["content"]["status"] != "aborted":
                found = reply["content"]["user_expressions"]["it"]
                return found["data"]["text/plain"].strip("'") if "data" in found else str(found)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Yield an empty project with an operator's key; its processes end with the test."""
    for name in ("notebooks", "environments", "terraform"):
        (tmp_path / name).mkdir()
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f"]
    subprocess.run([*command, tmp_path / "key"], check=True)
    checkout = Path(__file__).parents[2] / "environments/staging.yml"
    staging = checkout.read_text().replace("~/.ssh/id_ed25519", str(tmp_path / "key"))
    (tmp_path / "environments/staging.yml").write_text(staging)
    it = Workshop(tmp_path)
    yield it
    for header in tmp_path.glob("runs/*/*/journal.jsonl"):
        _end(json.loads(header.read_text().splitlines()[0])["kernel"]["pid"], tmp_path)


@pytest.fixture
def make_front() -> Iterator[Callable[[Path], Front]]:
    """Yield a function that makes a front end with a kernel in a project."""
    with ExitStack() as ends:

        def make(root: Path) -> Front:
            manager = KernelManager(kernel_name="python3")
            manager.start_kernel(cwd=str(root), env=os.environ | {"DAYBOOK_ROOT": str(root)})
            ends.callback(manager.shutdown_kernel, now=True)
            client = manager.client()
            client.start_channels()
            ends.callback(client.stop_channels)
            client.wait_for_ready(timeout=60)
            return Front(manager, client, root)

        yield make


@pytest.fixture
def front(workshop: Workshop, make_front: Callable[[Path], Front]) -> Front:
    """Return a front end with a kernel in the workshop."""
    return make_front(workshop.root)


def _end(pid: int, root: Path) -> None:
    """Kill a kernel that a test left running, if it is one of this workshop."""
    try:
        if os.readlink(f"/proc/{pid}/cwd") == str(root):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return
