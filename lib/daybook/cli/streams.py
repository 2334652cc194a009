"""Standard output that cannot fail a command: what is displayed never decides what is done."""

from __future__ import annotations

import io
import os
import select
import sys


class Output(io.FileIO):
    """A file descriptor that drops what it cannot write. failure: the first error, if any."""

    failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write what can be written; after an error, the rest goes nowhere."""
        try:
            while (written := super().write(data)) is None:  # Another program made it non-blocking.
                select.select([], [self], [])
            return written
        except OSError as err:
            self.failure = self.failure or err
            _to_nowhere(self.fileno())
            return len(data)


def secure() -> Output | None:
    """Replace stdout and stderr by streams that never raise; return what stdout writes to.

    Closed descriptors are opened first: what a program opens next would become its stdout.
    None where somebody else has replaced stdout already.
    """
    if sys.stdout is not sys.__stdout__:
        return None
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            _to_nowhere(fd)
    # At the end of a process, what cannot be raised has no reader.
    sys.unraisablehook = lambda _: None
    sys.stdout, output = _stream(sys.stdout, 1)
    sys.stderr, _ = _stream(sys.stderr, 2)
    return output


def _stream(before: io.TextIOWrapper | None, fd: int) -> tuple[io.TextIOWrapper, Output]:
    """Return a stream like the one before, which replaces what its encoding does not have."""
    output = Output(fd, "w", closefd=False)
    encoding = getattr(before, "encoding", None) or "utf-8"
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(
        buffer, encoding=encoding, errors="replace", line_buffering=fd == 2 or output.isatty()
    ), output


def _to_nowhere(fd: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(nowhere, True)  # Tools and kernels get it as theirs.
    if nowhere != fd:
        os.dup2(nowhere, fd)
        os.close(nowhere)
