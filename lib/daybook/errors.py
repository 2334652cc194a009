"""Every error that Daybook raises on purpose; each class has one exit code.

DaybookError
 ├── SettingsError       2    settings or parameters are wrong
 │    └── AlreadyApplied      the run's plan is applied; the run itself goes on
 ├── PreflightFailed     3    the world is not as the step needs it
 ├── ApprovalNeeded      4    nobody has approved this plan
 │    └── ApprovalRefused     what was approved is not this plan
 ├── CommandFailed       5    a tool ended with an error
 │    ├── ToolKilled          a tool, or what supervises it, was killed by a signal
 │    ├── AwsFailed           AWS refused a call, or gave no answer that can be used
 │    └── Unexpected          an error that no code of Daybook's handles
 ├── ApplyFailed         6    a change began and did not end
 ├── VerifyFailed        7    the change ended, the result is not there
 ├── Locked              8    another run holds the environment
 └── Interrupted       130    a signal or Ctrl-C ended the run
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

MAX_DETAILS = 100
"""So many are listed; more are counted."""
NOTHING_CHANGED = "Nothing was changed."
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CHANGES_IN_RECORD = "What was changed before that is in the run's record."
LINE_LIMIT = 300
"""How many characters of a text from outside are shown."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
SYSTEM_ERRORS = {
    **dict.fromkeys(_FULL, ("room on the disk", "free some space")),
    errno.EROFS: ("a writable disk", "remount it, or work in a checkout on a writable disk"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), ("the right to do this", "correct its owner and mode (ls -ld)")
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        ("a free file descriptor", "allow more open files (ulimit -n 1024)"),
    ),
    errno.EFBIG: ("no limit on a file's size", "raise the limit (ulimit -f unlimited)"),
    errno.ENOENT: ("a file or program of this name", "restore the file, or install the program"),
    errno.EIO: ("a disk that works", "look at the disk's health (dmesg)"),
}
"""What was expected, and the remedy, by the operating system's error number."""


class DaybookError(Exception):
    """Something failed; the message alone tells an operator what to do next.

    changed: what this step had changed by then. next: the next action, by name.
    """

    exit_code = 5

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
        # Not super(): an AwsFailed is also one of botocore's errors, which take other arguments.
        Exception.__init__(self, message)
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


class AwsFailed(CommandFailed):
    """AWS refused a call, or gave no answer that can be used.

    Each one that aws.py raises is also of the class that botocore has for it.
    """


class Unexpected(CommandFailed):
    """An error that no code of Daybook's handles: a defect, or weather nobody thought of."""


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


def explained(
    err: Exception,
    *,
    cls: type[DaybookError] = CommandFailed,
    folder: Path | None = None,
    changed: str = NOTHING_CHANGED,
    again: str = "run the same command again",
    traceback_in: str = "",
) -> DaybookError:
    """Return any error as one of Daybook's, with what to do next.

    cls: the class of what the operating system refuses. folder: where the work was done; its
    free space is named when a disk is full. again: how to try once more. traceback_in: where the
    traceback can be read.
    """
    if isinstance(err, DaybookError):
        return err
    number = getattr(err, "errno", None)  # Also zmq's errors have one.
    if isinstance(err, OSError) or isinstance(number, int):
        return _refused_by_system(err, cls, folder, changed, again)
    return Unexpected(
        f"Unexpected error{_place_of(err)}.",
        expected="a result, or an error with a known cause",
        observed=one_line(f"{type(err).__name__}: {err}"),
        changed=changed,
        next=f"{again}; if it fails again, report it with the traceback in {traceback_in}"
        if traceback_in
        else again,
    )


def one_line(text: object, limit: int = LINE_LIMIT) -> str:
    """Return a text from outside as one printable line of bounded length."""
    words = " ".join(str(text)[: limit * 10].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _refused_by_system(
    err: Exception, cls: type[DaybookError], folder: Path | None, changed: str, again: str
) -> DaybookError:
    number, path = getattr(err, "errno", None), getattr(err, "filename", None)
    path = Path(os.fsdecode(path)) if isinstance(path, str | bytes | Path) else folder
    expected, remedy = SYSTEM_ERRORS.get(number, ("the operation to succeed", "remove the cause"))
    reason = one_line(getattr(err, "strerror", None) or str(err) or type(err).__name__)
    what = f"access to {one_line(path)}" if path else "an operation"
    return cls(
        f"The operating system refused {what}.",
        expected=expected,
        observed=f"{reason}{_room(path) if number in _FULL else ''}",
        changed=changed,
        next=f"{remedy}, then {again}",
    )


def _room(path: Path | None) -> str:
    """Say how much room is left where the work is done, and where temporary files go."""
    said = []
    for place in filter(None, [path, Path(os.environ.get("TMPDIR", "/tmp"))]):
        try:
            at = next(folder for folder in [place, *place.parents] if folder.is_dir())
            said.append(f"{shutil.disk_usage(at).free / 2**20:,.0f} MiB free in {at}")
        except (OSError, StopIteration):
            continue
    return f" ({', '.join(dict.fromkeys(said))})" if said else ""


def _place_of(err: Exception) -> str:
    """Name the line of Daybook's own code where it came up: ` in daybook/aws.py, line 42`."""
    ours = [
        frame
        for frame in traceback.extract_tb(err.__traceback__)
        if Path(frame.filename).is_relative_to(_PACKAGE.parent)
    ]
    if not ours:
        return ""
    name = Path(ours[-1].filename).relative_to(_PACKAGE.parent).as_posix()
    return f" in {name}, line {ours[-1].lineno}"


_PACKAGE = Path(__file__).resolve().parent


def exit_code_of(name: str) -> int:
    """Return the exit code of an error class by its name; of any other, Unexpected's."""
    codes = {cls.__name__: cls.exit_code for cls in _tree(DaybookError)}
    codes["KeyboardInterrupt"] = Interrupted.exit_code
    return codes.get(name, Unexpected.exit_code)


def is_known(name: str) -> bool:
    """Tell whether an error class of this name is one of Daybook's."""
    return name in {cls.__name__ for cls in _tree(DaybookError)}


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
