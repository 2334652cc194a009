"""The errors that Daybook raises on purpose; each class has one exit code.

DaybookError
 ├── SettingsError       2    settings or parameters are invalid
 │    └── AlreadyApplied      the run has applied its plan and continues with verify
 ├── PreflightFailed     3    a requirement of the step is not met
 ├── ApprovalNeeded      4    the plan is not approved yet
 │    └── ApprovalRefused     the plan was declined, or the approval is not valid for it
 ├── CommandFailed       5    a tool ended with an error
 │    ├── ToolKilled          a signal killed a tool or its supervisor
 │    ├── AwsFailed           AWS refused a call, or its answer is unusable
 │    └── Unexpected          an error that no code of Daybook handles
 ├── ApplyFailed         6    a change began and did not finish
 ├── VerifyFailed        7    the change finished, but its result is not as planned
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
"""How many details an error lists; it only counts the others."""
NOTHING_CHANGED = "Nothing was changed."
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CHANGES_IN_RECORD = "Changes made before that are in the run's record."
LINE_LIMIT = 300
"""How many characters of an external text are shown."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
SYSTEM_ERRORS = {
    **dict.fromkeys(_FULL, ("free space on the disk", "free some space")),
    errno.EROFS: ("a writable disk", "remount it, or use a checkout on a writable disk"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), ("permission for this", "correct its owner and mode (ls -ld)")
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        ("a free file descriptor", "allow more open files (ulimit -n 1024)"),
    ),
    errno.EFBIG: ("no limit on the size of files", "raise the limit (ulimit -f unlimited)"),
    errno.ENOENT: ("a file or program with this name", "restore the file or install the program"),
    errno.EIO: ("a working disk", "check the disk's health (dmesg)"),
}
"""The expectation and the remedy by the operating system's error number."""


class DaybookError(Exception):
    """A failure, described so that its text alone is enough to act on.

    changed: the changes that the step had made. next: the next command or action.
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
        """Return the lines that a terminal shows."""
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
        """Return the message for IPython to show; the journal has the traceback."""
        return [str(self)]


def printable(text: str, longest: int = 2_000) -> str:
    """Return a text that is safe for a terminal: bounded, with control characters escaped."""
    text = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


class SettingsError(DaybookError):
    """Settings or parameters are invalid."""

    exit_code = 2


class AlreadyApplied(SettingsError):
    """The run has applied its plan and cannot start again; it continues with verify."""


class PreflightFailed(DaybookError):
    """A requirement of the step is not met."""

    exit_code = 3


class ApprovalNeeded(DaybookError):
    """The plan is not approved yet; the run waits."""

    exit_code = 4


class ApprovalRefused(ApprovalNeeded):
    """The plan was declined, or the approval is not valid for it."""


class CommandFailed(DaybookError):
    """A tool ended with an error. result: the tool's result, if it was started."""

    exit_code = 5

    def __init__(self, message: str, *, result: object = None, **kwargs) -> None:
        super().__init__(message, **kwargs)
        self.result = result


class ToolKilled(CommandFailed):
    """A signal killed a tool or its supervisor: the tool's output proves nothing."""


class AwsFailed(CommandFailed):
    """AWS refused a call, or its answer is unusable.

    Each one that daybook.aws raises is also an instance of botocore's class for it.
    """


class Unexpected(CommandFailed):
    """An error that no code of Daybook handles: a defect, or an unforeseen condition."""


class ApplyFailed(DaybookError):
    """A change began and did not finish."""

    exit_code = 6


class VerifyFailed(DaybookError):
    """The change finished, but its result is not as planned."""

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
    """Return any error as a DaybookError with the next action.

    cls: the class for errors of the operating system. folder: the folder in use, for the free
    space of a full disk. again: the action that repeats the command. traceback_in: the file with
    the traceback.
    """
    if isinstance(err, DaybookError):
        return err
    number = getattr(err, "errno", None)  # zmq's errors have one too.
    if isinstance(err, OSError) or isinstance(number, int):
        return _refused_by_system(err, cls, folder, changed, again)
    return Unexpected(
        f"Unexpected error{_location(err)}.",
        expected="a result, or an error with a known cause",
        observed=one_line(f"{type(err).__name__}: {err}"),
        changed=changed,
        next=f"{again}; if it fails again, report it with the traceback in {traceback_in}"
        if traceback_in
        else again,
    )


def one_line(text: object, limit: int = LINE_LIMIT) -> str:
    """Return an external text as one printable line of bounded length."""
    words = " ".join(str(text)[: limit * 10].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _refused_by_system(
    err: Exception, cls: type[DaybookError], folder: Path | None, changed: str, again: str
) -> DaybookError:
    number, path = getattr(err, "errno", None), getattr(err, "filename", None)
    path = Path(os.fsdecode(path)) if isinstance(path, str | bytes | Path) else folder
    expected, remedy = SYSTEM_ERRORS.get(number, ("no error", "remove the cause"))
    reason = one_line(getattr(err, "strerror", None) or str(err) or type(err).__name__)
    operation = f"access to {one_line(path)}" if path else "an operation"
    return cls(
        f"The operating system refused {operation}.",
        expected=expected,
        observed=f"{reason}{_free_space(path) if number in _FULL else ''}",
        changed=changed,
        next=f"{remedy}, then {again}",
    )


def _free_space(path: Path | None) -> str:
    """Return the free space of the path's folder and of the folder for temporary files."""
    spaces = []
    for used in filter(None, [path, Path(os.environ.get("TMPDIR", "/tmp"))]):
        try:
            folder = next(parent for parent in [used, *used.parents] if parent.is_dir())
            spaces.append(f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free in {folder}")
        except (OSError, StopIteration):
            continue
    return f" ({', '.join(dict.fromkeys(spaces))})" if spaces else ""


def _location(err: Exception) -> str:
    """Return the line of Daybook's code that raised the error: ` in daybook/run.py, line 42`."""
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
    """Return the exit code of an error class by name; Unexpected's for an unknown name."""
    codes = {cls.__name__: cls.exit_code for cls in _tree(DaybookError)}
    codes["KeyboardInterrupt"] = Interrupted.exit_code
    return codes.get(name, Unexpected.exit_code)


def is_known(name: str) -> bool:
    """Tell whether Daybook has an error class of this name."""
    return name in {cls.__name__ for cls in _tree(DaybookError)}


def status_of(name: str) -> str:
    """Return the status of a run after an error of this class; "" if it does not change."""
    if name == AlreadyApplied.__name__:
        return ""
    code = exit_code_of(name)
    if name == "KeyboardInterrupt" or code == Interrupted.exit_code:
        return "interrupted"
    return "waiting" if name == ApprovalNeeded.__name__ else "failed"


def _tree(cls: type[DaybookError]) -> list[type[DaybookError]]:
    return [cls] + [descendant for child in cls.__subclasses__() for descendant in _tree(child)]
