"""`run.sh`: wait for jobs and execute them one at a time.

Exit codes are those of actions/runner: 0 stopped on request, 1 the runner is not registered.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daybook_sandbox.github.runner.job import JobExecution
from daybook_sandbox.github.runner.link import Link, RequestRefused
from daybook_sandbox.github.runner.report import JobResult, Report

ENDED, TERMINATED = 0, 1
OUTCOMES = {"success": "Succeeded", "failure": "Failed", "cancelled": "Canceled"}
RETRY_S = 2.0
DROPPED = (
    "Failed to create a session. The runner registration has been deleted from the server, please "
    "re-configure. Runner registrations are automatically deleted for runners that have not "
    "connected to the service recently."
)


class Ending(BaseException):
    """The runner was asked to stop."""


def run(root: Path) -> int:
    """Listen until asked to stop or until the server has removed the registration."""
    if not (root / ".runner").exists():
        print("Not configured. Run config.sh first.", file=sys.stderr)
        return TERMINATED
    settings = json.loads((root / ".runner").read_text())
    token = json.loads((root / ".credentials").read_text())["data"]["token"]
    link = Link(settings["serverUrl"], token)
    os.environ.update(_assignments(root / ".env"))
    if (root / ".path").exists():
        os.environ["PATH"] = (root / ".path").read_text().strip()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        _request(link, "POST", "/_runner/session", {"name": settings["agentName"]})
        _print("", "√ Connected to GitHub", "", f"{_now()}: Listening for Jobs")
        while True:
            message = _request(link, "GET", "/_runner/message")
            if message:
                _execute_with_log(link, message, root / settings["workFolder"])
    except RequestRefused:
        print(DROPPED, file=sys.stderr)
        return TERMINATED
    except Ending:
        _print("Exiting...")
        return ENDED


def work(link: Link, message: dict[str, Any], folder: Path) -> int:
    """Execute one job in a folder; SIGTERM cancels it."""
    _execute(link, message, folder)
    return ENDED


def _execute(link: Link, message: dict[str, Any], folder: Path) -> tuple[JobResult, bool]:
    """Execute a job; return its result, and True if the runner was asked to stop meanwhile."""
    stopping = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in handlers:
        signal.signal(number, lambda *_: stopping.set())
    with Report(Link(link.url, message["token"]), message["job"], stopping) as report:
        result = JobExecution(message, folder, report).run()
        report.complete(result)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return result, stopping.is_set()


def _execute_with_log(link: Link, message: dict[str, Any], folder: Path) -> None:
    _print(f"{_now()}: Running job: {message['name']}")
    result, is_stopping = _execute(link, message, folder)
    outcome = OUTCOMES.get(result.conclusion, result.conclusion.capitalize())
    _print(f"{_now()}: Job {message['name']} completed with result: {outcome}")
    if is_stopping:
        raise Ending


def _request(link: Link, method: str, path: str, content: Any = None) -> Any:
    """Send a request; retry until the server answers."""
    was_unreachable = False
    while True:
        try:
            response = link.ask(method, path, content)
        except RequestRefused as error:
            if error.status in (401, 404):
                raise
            problem: Exception = error
        except OSError as error:
            problem = error
        else:
            if was_unreachable:
                _print(f"{_now()}: Runner reconnected.")
            return response
        if not was_unreachable:
            _print(f"{_now()}: Runner connect error: {problem}. Retrying until reconnected.")
            was_unreachable = True
        time.sleep(RETRY_S)


def _end(*_: Any) -> None:
    raise Ending


def _print(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _assignments(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
