"""Every error that Daybook raises on purpose; each class has one exit code.

DaybookError             1
 ├── SettingsError       2    settings or parameters are wrong
 │    └── AlreadyApplied      the run's plan is applied; the run itself goes on
 ├── PreflightFailed     3    the world is not as the step needs it
 ├── ApprovalNeeded      4    nobody has approved this plan
 │    └── ApprovalRefused     what was approved is not this plan
 ├── CommandFailed       5    a tool ended with an error
 │    └── ToolKilled          a tool, or what supervises it, was killed by a signal
 ├── ApplyFailed         6    a change began and did not end
 ├── VerifyFailed        7    the change ended, the result is not there
 ├── Locked              8    another run holds the environment
 └── Interrupted       130    a signal or Ctrl-C ended the run
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_DETAILS = 100
"""So many are listed; more are counted."""
NOTHING_CHANGED = "Nothing was changed."
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class DaybookError(Exception):
    """Something failed; the message alone tells an operator what to do next.

    changed: what this step had changed by then. next: the next action, by name.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        observed: str | None = None,
        changed: str = NOTHING_CHANGED,
        next: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.observed = observed
        self.changed = changed
        self.next = next
        self.details = tuple(details)

    def lines(self) -> list[str]:
        """Return the message as the lines a terminal shows."""
        more = len(self.details) - MAX_DETAILS
        lines = [self.message, *(f"  {detail}" for detail in self.details[:MAX_DETAILS])]
        lines += [f"  and {more:,} more"] if more > 0 else []
        lines += [f"  expected: {self.expected}"] if self.expected else []
        lines += [f"  observed: {self.observed}"] if self.observed else []
        lines += [f"  {self.changed}"] if self.changed else []
        lines += [f"  Next: {self.next}"] if self.next else []
        return [printable(line) for line in lines]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _render_traceback_(self) -> list[str]:
        """Give IPython the message instead of a traceback; the journal keeps the traceback."""
        return [str(self)]


def printable(text: str, longest: int = 2_000) -> str:
    """Return a text as a terminal may get it: bounded, and its control characters escaped."""
    text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


class SettingsError(DaybookError):
    """Settings or parameters are wrong."""

    exit_code = 2


class AlreadyApplied(SettingsError):
    """The run has applied its plan, and cannot begin anew; it goes on as it was."""


class PreflightFailed(DaybookError):
    """The world is not as the step needs it."""

    exit_code = 3


class ApprovalNeeded(DaybookError):
    """Nobody has approved this plan yet; the run waits."""

    exit_code = 4


class ApprovalRefused(ApprovalNeeded):
    """What was approved is not this plan, or somebody declined it."""


class CommandFailed(DaybookError):
    """A tool ended with an error; `result` is what it left."""

    exit_code = 5

    def __init__(self, message: str, *, result: object = None, **kwargs) -> None:
        super().__init__(message, **kwargs)
        self.result = result


class ToolKilled(CommandFailed):
    """A tool, or the process that supervises it, was killed: what it printed proves nothing."""


class ApplyFailed(DaybookError):
    """A change began and did not end."""

    exit_code = 6


class VerifyFailed(DaybookError):
    """The change ended, but its result cannot be seen from outside."""

    exit_code = 7


class Locked(DaybookError):
    """Another run holds the environment."""

    exit_code = 8


class Interrupted(DaybookError):
    """A signal or Ctrl-C ended the run."""

    exit_code = 130


def exit_code_of(name: str) -> int:
    """Return the exit code of an error class by its name; 1 for a name that is not Daybook's."""
    known = {cls.__name__: cls.exit_code for cls in _tree(DaybookError)}
    return (known | {"KeyboardInterrupt": Interrupted.exit_code}).get(name, 1)


def status_of(name: str) -> str:
    """Return how a run ends whose last cell ended with this error class; "" for as before."""
    if name == AlreadyApplied.__name__:
        return ""
    code = exit_code_of(name)
    if name == "KeyboardInterrupt" or code == Interrupted.exit_code:
        return "interrupted"
    return "waiting" if name == ApprovalNeeded.__name__ else "failed"


def _tree(cls: type[DaybookError]) -> list[type[DaybookError]]:
    return [cls] + [found for child in cls.__subclasses__() for found in _tree(child)]
