"""The supervisor, with real processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from daybook import process

# Prints "ready", writes a line to its file at each SIGINT, and ends `slow` seconds after it.
TOOL = """
import os, signal, sys, time
file, slow = sys.argv[1], float(sys.argv[2])
def note(*_):
    open(file, "a").write("SIGINT\\n")
signal.signal(signal.SIGINT, note)
open(file, "w").write(f"{os.getpid()}\\n")
print("ready", flush=True)
while "SIGINT" not in open(file).read():
    time.sleep(0.01)
end = time.monotonic() + slow
while time.monotonic() < end:
    time.sleep(0.01)
open(file, "a").write("ended well\\n")
print("last words", flush=True)
"""
# Acts as a kernel: runs the tool, and nothing else.
KERNEL = """
import sys
from pathlib import Path
from daybook import process
process.run([sys.executable, "-c", sys.argv[1], sys.argv[2], "0.3"], log=Path(sys.argv[3]))
"""


@retry(wait=wait_fixed(0.02), stop=stop_after_delay(10), retry=retry_if_result(lambda r: not r))
def until(condition):
    """Wait until a condition is true."""
    return condition()


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if os.path.isdir("/proc/self") else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def supervisor(*tool: str, grace_s: str = "30", log: str = "-") -> subprocess.Popen:
    """Start a supervisor on its own; the caller holds the lifeline as its stdin."""
    args = [sys.executable, "-I", "-S", str(process.SUPERVISOR), grace_s, log, "-", *tool]
    return subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def trapping(file: Path, slow: float = 0.1) -> list[str]:
    return [sys.executable, "-c", TOOL, str(file), str(slow)]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 137", 137), ("kill -9 $$", -9), ("kill -TERM $$", -15)],
)
def test_it_ends_like_the_tool(script, code):
    assert supervisor("sh", "-c", script).wait(10) == code


def test_a_missing_tool_is_named_with_exit_code_127():
    started = supervisor("no-such-tool")
    assert started.stdout.read() == "no-such-tool: No such file or directory\n"
    assert started.wait(10) == 127


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_several_signals_are_one_sigint_for_the_tool(tmp_path, signum):
    file = tmp_path / "tool"
    started = supervisor(*trapping(file))
    assert started.stdout.readline() == "ready\n"
    for _ in range(3):
        started.send_signal(signum)
    assert started.wait(10) == 0
    assert file.read_text().splitlines()[1:] == ["SIGINT", "ended well"]


def test_the_end_of_the_lifeline_is_one_sigint_for_the_tool(tmp_path):
    file = tmp_path / "tool"
    started = supervisor(*trapping(file))
    assert started.stdout.readline() == "ready\n"
    started.stdin.close()
    assert started.wait(10) == 0
    assert file.read_text().splitlines()[1:] == ["SIGINT", "ended well"]


def test_a_tool_is_killed_after_the_grace_period():
    started = supervisor("sh", "-c", "trap '' INT; echo ready; sleep 60; sleep 60", grace_s="0.2")
    assert started.stdout.readline() == "ready\n"
    started.stdin.close()
    assert started.wait(10) == -signal.SIGKILL


def test_a_tool_whose_supervisor_is_killed_gets_a_sigint(tmp_path):
    file = tmp_path / "tool"
    started = supervisor(*trapping(file))
    assert started.stdout.readline() == "ready\n"
    started.kill()
    assert started.wait(10) == -signal.SIGKILL
    until(lambda: "SIGINT" in file.read_text())
    until(lambda: is_gone(int(file.read_text().split()[0])))


def test_the_tool_has_the_default_signal_handlers():
    # A background process may ignore SIGINT; the tool must not inherit that.
    script = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        started = supervisor(sys.executable, "-c", script)
    finally:
        signal.signal(signal.SIGINT, before)
    assert started.stdout.read() == "True\n"


def test_orphans_of_the_tool_are_ended_even_in_another_session():
    started = supervisor("sh", "-c", "sleep 60 & echo $!; setsid sleep 61 & echo $!")
    pids = [int(line) for line in started.stdout.read().split()]
    assert started.wait(10) == 0
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


def test_an_orphan_that_ignores_sigterm_is_killed():
    script = "(trap '' TERM; echo up; while :; do sleep 0.1; done) & echo $!; sleep 0.3"
    started = supervisor("sh", "-c", script)
    pid = next(int(line) for line in started.stdout.read().split() if line.isdigit())
    until(lambda: is_gone(pid))


def test_output_reaches_the_log_after_stdout_is_closed(tmp_path):
    log = tmp_path / "tool.log"
    started = supervisor(
        "sh", "-c", "echo one; read x; seq 20000; echo end", log=str(log), grace_s="5"
    )
    started.stdout.close()
    assert started.wait(10) == 0
    assert log.read_text().splitlines()[-1] == "end"
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_a_full_disk_affects_only_the_log():
    started = supervisor("sh", "-c", "echo one; echo two", log="/dev/full")
    assert started.stdout.read() == "one\ntwo\n"
    assert started.wait(10) == 0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_tool_ends_properly_after_the_kernel_is_killed(tmp_path, signum):
    file, log = tmp_path / "tool", tmp_path / "tool.log"
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, TOOL, str(file), str(log)])
    until(lambda: log.exists() and "ready" in log.read_text())
    kernel.send_signal(signum)
    kernel.wait(10)
    until(lambda: "last words" in log.read_text())
    pid, *rest = file.read_text().splitlines()
    assert rest == ["SIGINT", "ended well"]
    until(lambda: is_gone(int(pid)))


def test_the_process_group_of_a_killed_supervisors_tool_is_ended():
    script = "trap '' INT; sleep 60 & echo $! $$; wait; sleep 60"
    started = supervisor("sh", "-c", script)
    pids = [int(word) for word in started.stdout.readline().split()]
    started.kill()
    assert started.wait(10) == -signal.SIGKILL
    until(lambda: all(is_gone(pid) for pid in pids))


def guards_of(tool: int) -> list[int]:
    """Return the shells that watch the supervisor of a tool."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().endswith(f"\0sh\0{tool}\0".encode()):
                found.append(int(path.parent.name))
    return found


def test_the_guard_of_the_supervisor_ends_with_it():
    started = supervisor("sh", "-c", "echo $$; sleep 3; exit 1")
    tool = int(started.stdout.readline())
    until(lambda: guards_of(tool))
    guards = guards_of(tool)
    assert started.wait(10) == 1
    assert len(guards) == 1
    until(lambda: is_gone(guards[0]))
