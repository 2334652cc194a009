"""What the command says while it works: a line for people, or JSON for a program."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daybook_release.printable import printable, printable_lines


class Step:
    """One step while it is done; `text` is what its line will say."""

    def __init__(self, text: str) -> None:
        self.text = text


class Progress:
    """Say each step when it ends, and with JSON when it begins too.

    A reader that went away does not end a release: what is said from then on is lost.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @contextmanager
    def step(self, name: str, text: str = "") -> Iterator[Step]:
        """Tell about a step from its beginning to its end."""
        step, began = Step(text), time.monotonic()
        self._tell(name, "begun", text, 0.0)
        try:
            yield step
        except BaseException as err:
            self._tell(name, "failed", str(err), time.monotonic() - began)
            raise
        self._tell(name, "done", step.text, time.monotonic() - began)

    def result(self, said: Any) -> None:
        """Give the result to a program; a person has read it."""
        if self.as_json:
            self._write(json.dumps(said))

    def line(self, text: str) -> None:
        """Say a line to a person."""
        if not self.as_json:
            self._write(printable_lines(text))

    def _tell(self, name: str, state: str, text: str, seconds: float) -> None:
        if self.as_json:
            said = {"step": name, "state": state, "text": text, "seconds": round(seconds, 3)}
            self._write(json.dumps(said))
        elif state == "done":
            self._write(f"{name:<12}{printable(text):<56} {seconds:5.1f} s")
        elif state == "failed":
            self._write(f"{name:<12}failed after {seconds:.1f} s")

    def _write(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            # Or what is left in the buffer would fail again, at the very end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
