"""`run.sh`: wait for jobs and do them, one at a time.

Exit codes are those of actions/runner: 0 asked to end, 1 the server does not know this runner.
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
from daybook_sandbox.github.runner.report import Report

ENDED, TERMINATED = 0, 1
RETRY_S = 2.0
DROPPED = (
    "Failed to create a session. The runner registration has been deleted from the server, please "
    "re-configure. Runner registrations are automatically deleted for runners that have not "
    "connected to the service recently."
)


class Ending(BaseException):
    """Somebody asked this runner to end."""


def run(root: Path) -> int:
    """Listen until asked to end, or until the server has dropped the registration."""
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
        _patiently(link, "POST", "/_runner/session", {"name": settings["agentName"]})
        _say("", "√ Connected to GitHub", "", f"{_now()}: Listening for Jobs")
        while True:
            message = _patiently(link, "GET", "/_runner/message")
            if message:
                _do(link, message, root / settings["workFolder"])
    except RequestRefused:
        print(DROPPED, file=sys.stderr)
        return TERMINATED
    except Ending:
        _say("Exiting...")
        return ENDED


def work(link: Link, message: dict[str, Any], folder: Path) -> int:
    """Do one job in a folder; SIGTERM cancels it."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Report(Link(link.url, message["token"]), message["job"], stopping) as report:
        result = JobExecution(message, folder, report).run()
        report.end(result)
    return ENDED


def _do(link: Link, message: dict[str, Any], folder: Path) -> None:
    _say(f"{_now()}: Running job: {message['name']}")
    stopping = threading.Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stopping.set())
    with Report(Link(link.url, message["token"]), message["job"], stopping) as report:
        result = JobExecution(message, folder, report).run()
        report.end(result)
    for number, handler in before.items():
        signal.signal(number, handler)
    said = "Canceled" if result.conclusion == "cancelled" else result.conclusion.capitalize()
    said = {"Success": "Succeeded", "Failure": "Failed"}.get(said, said)
    _say(f"{_now()}: Job {message['name']} completed with result: {said}")
    if report.is_stopping_runner:
        raise Ending


def _patiently(link: Link, method: str, path: str, content: Any = None) -> Any:
    """Ask until somebody answers: a server that is away may come back."""
    was_away = False
    while True:
        try:
            answer = link.ask(method, path, content)
        except RequestRefused as error:
            if error.status in (401, 404):
                raise
            problem: Exception = error
        except OSError as error:
            problem = error
        else:
            if was_away:
                _say(f"{_now()}: Runner reconnected.")
            return answer
        if not was_away:
            _say(f"{_now()}: Runner connect error: {problem}. Retrying until reconnected.")
            was_away = True
        time.sleep(RETRY_S)


def _end(*_: Any) -> None:
    raise Ending


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _assignments(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
