"""A job's log and its steps, told to the server while the job runs; each telling is a heartbeat."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from daybook_sandbox.github.runner.link import Link, RequestRefused

TELL_EVERY_S = 0.5
PATIENCE = 20


@dataclass
class JobResult:
    """What a job came to."""

    conclusion: str
    outputs: dict[str, str] = field(default_factory=dict)
    environment_url: str = ""


class Report:
    """Sends lines in batches, and hears whether the job is to be cancelled.

    stopping: set when the runner itself is asked to end; that cancels its job too.
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
        self._thread = threading.Thread(target=self._tell_on, daemon=True)

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
    def is_stopping_runner(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_cancelled(self) -> bool:
        return self._stopping.is_set() or self._cancelled.is_set()

    def mask(self, secret: str) -> None:
        """Never show this text again; several lines are hidden one by one."""
        self._masks |= {line for line in (secret, *secret.splitlines()) if line.strip()}

    def line(self, text: str) -> None:
        """Add a line to the log."""
        with self._lock:
            self._lines.append(self.masked(text))

    def masked(self, text: str) -> str:
        """Return a text without what is masked."""
        for secret in sorted(self._masks, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def step(self, number: int, name: str, status: str, conclusion: str | None = None) -> None:
        """Tell where a step stands."""
        told = {"number": number, "name": self.masked(name), "status": status}
        with self._lock:
            self._steps[number] = told | {"conclusion": conclusion}

    def summarise(self, text: str) -> None:
        """Add to the job's summary."""
        with self._lock:
            self._summary.append(self.masked(text))

    def upload(self, name: str, content: bytes) -> None:
        """Keep an artifact."""
        self._link.raw("PUT", f"{self._path}/artifacts/{name}", content)

    def end(self, result: JobResult) -> None:
        """Tell the last lines and what the job came to; a server that is away is waited for."""
        self._ended.set()
        self._thread.join()
        told = {"conclusion": result.conclusion, "environment_url": result.environment_url}
        outputs = {key: v for key, v in result.outputs.items() if self.masked(v) == v}
        for _ in range(PATIENCE):
            if self._send(told | {"outputs": outputs}):
                return
            threading.Event().wait(TELL_EVERY_S)

    def _tell_on(self) -> None:
        while not self._ended.wait(TELL_EVERY_S):
            self._send({})

    def _send(self, more: dict[str, Any]) -> bool:
        """Send what is new; keep it where nobody answers."""
        with self._lock:
            lines, self._lines = self._lines, []
            summary, self._summary = self._summary, []
            steps = list(self._steps.values())
        try:
            told = {"lines": lines, "summary": summary, "steps": steps, **more}
            answer = self._link.ask("POST", self._path, told)
        except RequestRefused:
            self._cancelled.set()  # The server has given this job up.
            return True
        except OSError:
            with self._lock:
                self._lines[:0], self._summary[:0] = lines, summary
            return False
        if answer["cancel"]:
            self._cancelled.set()
        return True
