"""All errors that the program raises deliberately; each class has one exit code.

ReleaseError          1
 ├── UsageError       2    the command's arguments are invalid
 ├── Refused          3    the host or the image does not meet the requirements; nothing changed
 ├── Failed           6    the release failed before the switch; the previous release kept serving
 ├── Reverted         7    the release failed after the switch; the previous release serves again
 ├── Locked           8    another command is running
 └── Interrupted    130    a signal ended the command
"""

from __future__ import annotations


class ReleaseError(Exception):
    """The command failed. next: the remedy, as a command or in words."""

    exit_code = 1

    def __init__(self, message: str, *, next: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next = next


class UsageError(ReleaseError):
    """The command's arguments are invalid."""

    exit_code = 2


class Refused(ReleaseError):
    """The host or the image does not meet the requirements of a release."""

    exit_code = 3


class Failed(ReleaseError):
    """The release failed before the switch."""

    exit_code = 6


class Reverted(ReleaseError):
    """The release failed after the switch."""

    exit_code = 7


class Locked(ReleaseError):
    """Another command is running."""

    exit_code = 8


class Interrupted(ReleaseError):
    """A signal ended the command."""

    exit_code = 130
