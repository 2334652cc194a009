"""Report a job's log and steps to the server while it runs; each report is also a heartbeat."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from daybook_sandbox.github.runner.link import Link, RequestRefused

SEND_EVERY_S = 0.5
ATTEMPTS = 20


@dataclass
class JobResult:
    """The result of a job."""

    conclusion: str
    outputs: dict[str, str] = field(default_factory=dict)
    environment_url: str = ""


class Report:
    """Send reports in batches; the server's response may cancel the job.

    stopping: set when the runner is asked to stop, which also cancels its job.
    """

    def __init__(self, link: Link, job: str, stopping: threading.Event) -> None:
        self._link, self._path = link, f"/_runner/jobs/{job}"
        self._lines: list[str] = []
        self._steps: dict[int, dict[str, Any]] = {}
        self._summary: list[str] = []
        self._masks: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stopping = stopping
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._send_repeatedly, daemon=True)

    def __enter__(self) -> Report:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def is_cancelled(self) -> bool:
        return self._stopping.is_set() or self._cancelled.is_set()

    def mask(self, secret: str) -> None:
        """Mask a text in the log from now on, line by line."""
        self._masks |= {line for line in (secret, *secret.splitlines()) if line.strip()}

    def line(self, text: str) -> None:
        """Add a line to the log."""
        with self._lock:
            self._lines.append(self.masked(text))

    def masked(self, text: str) -> str:
        """Return a text with masked parts replaced."""
        for secret in sorted(self._masks, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def step(self, number: int, name: str, status: str, conclusion: str | None = None) -> None:
        """Report a step's status."""
        step = {"number": number, "name": self.masked(name), "status": status}
        with self._lock:
            self._steps[number] = step | {"conclusion": conclusion}

    def add_summary(self, text: str) -> None:
        """Append to the job's summary."""
        with self._lock:
            self._summary.append(self.masked(text))

    def upload(self, name: str, content: bytes) -> None:
        """Upload an artifact."""
        self._link.raw("PUT", f"{self._path}/artifacts/{name}", content)

    def complete(self, result: JobResult) -> None:
        """Send the last lines and the result; retry while the server is unreachable."""
        self._ended.set()
        self._thread.join()
        report = {"conclusion": result.conclusion, "environment_url": result.environment_url}
        outputs = {key: v for key, v in result.outputs.items() if self.masked(v) == v}
        for _ in range(ATTEMPTS):
            if self._send(report | {"outputs": outputs}):
                return
            threading.Event().wait(SEND_EVERY_S)

    def _send_repeatedly(self) -> None:
        while not self._ended.wait(SEND_EVERY_S):
            self._send({})

    def _send(self, extra: dict[str, Any]) -> bool:
        """Send new lines and summaries; keep them if the server is unreachable."""
        with self._lock:
            lines, self._lines = self._lines, []
            summary, self._summary = self._summary, []
            steps = list(self._steps.values())
        try:
            report = {"lines": lines, "summary": summary, "steps": steps, **extra}
            answer = self._link.ask("POST", self._path, report)
        except RequestRefused:
            self._cancelled.set()  # The server has already failed this job.
            return True
        except OSError:
            with self._lock:
                self._lines[:0], self._summary[:0] = lines, summary
            return False
        if answer["cancel"]:
            self._cancelled.set()
        return True
