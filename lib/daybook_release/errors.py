"""Every error that the program raises on purpose; each class has one exit code.

ReleaseError          1
 ├── Usage            2    the command's arguments are wrong
 ├── Refused          3    the host or the image is not as a release needs it; nothing began
 ├── Failed           6    the release failed before the switch; the old one never noticed
 ├── WentBack         7    it failed after the switch, and the old one serves again
 ├── Locked           8    another release is going on
 └── Interrupted    130    a signal ended the command
"""

from __future__ import annotations


class ReleaseError(Exception):
    """Something failed. next: what to do now, as a command or in words."""

    exit_code = 1

    def __init__(self, message: str, *, next: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next = next


class Usage(ReleaseError):
    """The command's arguments are wrong."""

    exit_code = 2


class Refused(ReleaseError):
    """The host or the image is not as a release needs it."""

    exit_code = 3


class Failed(ReleaseError):
    """The release failed before the switch."""

    exit_code = 6


class WentBack(ReleaseError):
    """The release failed after the switch."""

    exit_code = 7


class Locked(ReleaseError):
    """Another release is going on."""

    exit_code = 8


class Interrupted(ReleaseError):
    """A signal ended the command."""

    exit_code = 130
