"""GitHub-hosted runners: each job is a process on this computer without access to user data.

It has the system's programs, an empty home and the sandbox's endpoints, but no credentials.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from daybook_sandbox.github.runs import RunJob

# Replaces the AWS CLI of GitHub's image.
AWS = '#!/bin/sh\nexec {python} -I -m daybook_sandbox.github.awscli "$@"\n'
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_S = 20


class Hosted:
    """Start and stop hosted runners. variables: the environment with the sandbox's endpoints."""

    def __init__(
        self,
        folder: Path,
        package: Callable[[], bytes],
        url: str,
        variables: Mapping[str, str],
    ) -> None:
        self._folder, self._package, self._url = folder, package, url
        self._variables = variables
        self._processes: dict[int, subprocess.Popen] = {}

    def start(self) -> None:
        """Write the programs that jobs use."""
        tools = self._folder / "bin"
        tools.mkdir(parents=True, exist_ok=True)
        (self._folder / "runner.pyz").write_bytes(self._package())
        (tools / "aws").write_text(AWS.format(python=sys.executable))
        (tools / "aws").chmod(0o755)

    def close(self) -> None:
        """Stop all running jobs."""
        for process in list(self._processes.values()):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in list(self._processes.values()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)

    def run(self, job: RunJob, message: Mapping[str, Any], on_end: Callable[[], None]) -> None:
        """Start a job; call `on_end` after its process has exited."""
        folder = self._folder / "work" / str(job.id)
        (folder / "home").mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-I", str(self._folder / "runner.pyz"), "hosted"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=self._environment(folder / "home"),
            start_new_session=True,
        )
        self._processes[job.id] = process
        task = {"url": self._url, "token": job.token, "job": message}
        threading.Thread(
            target=self._wait, args=(job.id, process, task, folder, on_end), daemon=True
        ).start()

    def _wait(
        self,
        id: int,
        process: subprocess.Popen,
        task: Mapping[str, Any],
        folder: Path,
        on_end: Callable[[], None],
    ) -> None:
        process.communicate(json.dumps(task).encode())
        del self._processes[id]
        shutil.rmtree(folder, ignore_errors=True)
        on_end()

    def _environment(self, home: Path) -> dict[str, str]:
        path = f"{self._folder / 'bin'}{os.pathsep}{SYSTEM}"
        job = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": path, "USER": "runner"}
        return job | {"AWS_EC2_METADATA_DISABLED": "true"} | dict(self._variables)
