"""Run one tool for a kernel, and end it in an orderly way even if the kernel is killed.

    python -I -S supervisor.py GRACE_S LOG|- STDIN_FD|- TOOL [ARG...]

Standard input is a lifeline: when its other end closes, on request or because the caller died, or
when a signal arrives, the tool gets one SIGINT. Only one: Terraform treats a second as "quit now"
and loses its state. After GRACE_S the tool is killed. The tool's output goes first to the log, then
to standard output. At the end no process that the tool started remains (without a subreaper, as on
macOS: no process of its process group). If the supervisor itself is killed, Linux sends the tool a
SIGINT, and shortly after a waiting shell sends its process group a SIGKILL: Terraform's providers
outlive a Terraform that was killed.

Exit code: the tool's; 127 if it cannot be started. If a signal ended the tool, the supervisor ends
by the same signal, because an exit code of 137 may also be one that ssh passes on from a host.
It uses only the standard library and one thread, so that little can fail here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time

INTERRUPTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
ORPHAN_GRACE_S = 2.0
CHUNK = 65536
GUARD = "read -r _; sleep 3; kill -s KILL -- -$1"


def main(grace_s: str, log: str, stdin_fd: str, *tool: str) -> int:
    """Run the tool to its end and return its exit code."""
    become_subreaper()
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    reader, writer = os.pipe()
    stdin = os.open(os.devnull, os.O_RDONLY) if stdin_fd == "-" else int(stdin_fd)
    os.set_inheritable(stdin, False)
    try:
        pid = spawn(tool, stdin, writer)
    except OSError as err:
        print(f"{tool[0]}: {err.strerror}", flush=True)
        return 127
    os.close(stdin)
    os.close(writer)
    lifeline = start_guard(pid)
    wakeup = catch_signals(pid, float(grace_s))
    relay = Relay(reader, log)
    status = watch(pid, relay, wakeup)
    signal.setitimer(signal.ITIMER_REAL, 0)
    end_orphans(pid)
    os.close(lifeline)
    relay.drain()
    if os.WIFSIGNALED(status):
        end_by(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def end_by(signum: int) -> None:
    """End this process by a signal, without a core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def spawn(tool: tuple[str, ...], stdin: int, stdout: int) -> int:
    """Start the tool in its own session, with the default signal handlers.

    It uses fork because posix_spawn cannot request a signal on the parent's death.
    """
    failed, failure = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            die_with_parent()
            if os.getppid() != supervisor:
                os._exit(127)
            for fd, stream in ((stdin, 0), (stdout, 1), (stdout, 2)):
                os.dup2(fd, stream)
            for signum in (*INTERRUPTS, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvp(tool[0], tool)
        except OSError as err:
            os.write(failure, str(err.errno).encode())
        finally:
            os._exit(127)
    os.close(failure)
    with open(failed, "rb") as pipe:
        errno = pipe.read()
    if errno:
        os.waitpid(pid, 0)
        raise OSError(int(errno), os.strerror(int(errno)))
    return pid


def start_guard(pid: int) -> int:
    """Start a shell that kills the tool after this process is killed; return its lifeline.

    The shell is a child like any other: end_orphans ends it first.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_WRONLY)
            for fd, stream in ((reader, 0), (null, 1), (null, 2)):
                os.dup2(fd, stream)
            # A process that holds the run's own file would keep the run alive.
            os.closerange(3, 1024)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve("/bin/sh", ["sh", "-c", GUARD, "sh", str(pid)], {"PATH": os.defpath})
        finally:
            os._exit(127)
    os.close(reader)
    return writer


def catch_signals(pid: int, grace_s: float) -> int:
    """Turn the first interrupt into one SIGINT for the tool; return an fd that wakes select."""
    wakeup, waker = os.pipe()
    for fd in (wakeup, waker):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def interrupt(*_) -> None:
        for signum in INTERRUPTS:
            signal.signal(signum, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, max(grace_s, 0.01))
        send_signal(os.kill, pid, signal.SIGINT)

    for signum in INTERRUPTS:
        signal.signal(signum, interrupt)
    signal.signal(signal.SIGALRM, lambda *_: send_signal(os.killpg, pid, signal.SIGKILL))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    return wakeup


def watch(pid: int, relay: Relay, wakeup: int) -> int:
    """Relay output until the tool has ended; return its wait status."""
    lifeline = [sys.stdin.fileno()]
    while (status := reap(pid)) is None:
        ready, _, _ = select.select([*relay.open, *lifeline, wakeup], [], [])
        if relay.reader in ready:
            relay.forward()
        if wakeup in ready:
            os.read(wakeup, CHUNK)
        if lifeline and lifeline[0] in ready and not os.read(lifeline[0], CHUNK):
            lifeline.clear()
            os.kill(os.getpid(), signal.SIGINT)
    return status


def reap(pid: int | None) -> int | None:
    """Collect every dead child; return the status of `pid`, or None while it runs."""
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            if child[0] == pid:
                return child[1]
    return None


def end_orphans(pid: int) -> None:
    """End the processes that the tool left running, with SIGTERM and then SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        send_signal(os.killpg, pid, signum)
        deadline = time.monotonic() + ORPHAN_GRACE_S
        signaled: set[int] = set()
        while (orphans := children()) and time.monotonic() < deadline:
            # Children of an orphan become children of this process, so list them each time.
            for child in orphans - signaled:
                send_signal(os.kill, child, signum)
            signaled |= orphans
            reap(None)
            time.sleep(0.01)


def children() -> set[int]:
    """Return the children of this process; none without /proc."""
    pids = set()
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
            # The name, in brackets, may contain any text: the parent is the second field after it.
            if entry.isdigit() and stat.read().rpartition(")")[2].split()[1] == str(os.getpid()):
                pids.add(int(entry))
    return pids


class Relay:
    """Copy the tool's output to the log, then to standard output while it is open."""

    def __init__(self, reader: int, log: str) -> None:
        self.reader = reader
        self.open = [reader]
        self.sinks = [sys.stdout.fileno()]
        if log != "-":
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.sinks.insert(0, os.open(log, flags, 0o600))

    def forward(self) -> bool:
        """Copy one chunk; return False at the end of the output."""
        chunk = os.read(self.reader, CHUNK)
        if not chunk:
            self.open.clear()
        for sink in list(self.sinks):
            try:
                write_all(sink, chunk)
            except OSError:
                # A full disk or a dead caller must not fail the tool.
                self.sinks.remove(sink)
        return bool(chunk)

    def drain(self) -> None:
        """Copy the rest without waiting for more."""
        os.set_blocking(self.reader, False)
        with contextlib.suppress(BlockingIOError):
            while self.forward():
                pass


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def send_signal(send, pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, signum)


def become_subreaper() -> None:
    """Make orphans of the tool children of this process (Linux only)."""
    PR_SET_CHILD_SUBREAPER = 36
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Get a SIGINT from the system when the parent dies (Linux only)."""
    PR_SET_PDEATHSIG = 1
    prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def prctl(option: int, value: int) -> None:
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
