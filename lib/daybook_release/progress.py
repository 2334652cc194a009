"""Report progress while a command runs: lines for a person, or JSON for a program."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daybook_release.printable import printable, printable_lines


class RunningStep:
    """A step that runs. text: printed with the step's name when it ends."""

    def __init__(self, text: str) -> None:
        self.text = text


class ProgressReporter:
    """Report each step when it ends and, as JSON, also when it begins.

    When the reader disconnects, the command continues and its output is discarded.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @contextmanager
    def step(self, name: str, text: str = "") -> Iterator[RunningStep]:
        """Report the beginning and the end of a step."""
        step, began = RunningStep(text), time.monotonic()
        self._report(name, "begun", text, 0.0)
        try:
            yield step
        except BaseException as err:
            self._report(name, "failed", str(err), time.monotonic() - began)
            raise
        self._report(name, "done", step.text, time.monotonic() - began)

    def result(self, data: Any) -> None:
        """Write the result as JSON; a person has read it as lines."""
        if self.as_json:
            self._write(json.dumps(data))

    def line(self, text: str) -> None:
        """Write a line for a person."""
        if not self.as_json:
            self._write(printable_lines(text))

    def _report(self, name: str, state: str, text: str, seconds: float) -> None:
        if self.as_json:
            event = {"step": name, "state": state, "text": text, "seconds": round(seconds, 3)}
            self._write(json.dumps(event))
        elif state == "done":
            self._write(f"{name:<12}{printable(text):<56} {seconds:5.1f} s")
        elif state == "failed":
            self._write(f"{name:<12}failed after {seconds:.1f} s")

    def _write(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            # Otherwise the rest of the buffer would fail again when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
