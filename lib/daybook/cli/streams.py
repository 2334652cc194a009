"""Standard output that cannot fail a command: a display problem never changes the result."""

from __future__ import annotations

import io
import os
import select
import sys


class Output(io.FileIO):
    """A file descriptor that discards data after a write error. failure: the first error."""

    failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write the data; after an error, discard it and all later data."""
        try:
            while (written := super().write(data)) is None:  # Another program made it non-blocking.
                select.select([], [self], [])
            return written
        except OSError as err:
            self.failure = self.failure or err
            _redirect_to_null(self.fileno())
            return len(data)


def secure() -> Output | None:
    """Replace stdout and stderr by streams that never raise; return stdout's descriptor.

    Closed descriptors are opened first: otherwise the next file that the program opens would become
    its stdout. Returns None if stdout was already replaced.
    """
    if sys.stdout is not sys.__stdout__:
        return None
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            _redirect_to_null(fd)
    # At the end of the process, errors in finalizers have no reader.
    sys.unraisablehook = lambda _: None
    sys.stdout, output = _stream(sys.stdout, 1)
    sys.stderr, _ = _stream(sys.stderr, 2)
    return output


def _stream(before: io.TextIOWrapper | None, fd: int) -> tuple[io.TextIOWrapper, Output]:
    """Return a stream with the same encoding, which replaces characters that it cannot encode."""
    output = Output(fd, "w", closefd=False)
    encoding = getattr(before, "encoding", None) or "utf-8"
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(
        buffer, encoding=encoding, errors="replace", line_buffering=fd == 2 or output.isatty()
    ), output


def _redirect_to_null(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(null, True)  # Tools and kernels inherit it.
    if null != fd:
        os.dup2(null, fd)
        os.close(null)
