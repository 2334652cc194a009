"""The watchdog, which starts the recovery from a killed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daybook import liveness, process
from daybook.lock import watchdog


@pytest.fixture
def life(tmp_path: Path):
    life = liveness.hold(tmp_path / ".alive/r1")
    yield life
    life.end()


@pytest.fixture
def kept(tmp_path, life):
    """Yield a watchdog with its lifeline as stdin, and the file that its command creates."""
    done = tmp_path / "done"
    args = [sys.executable, "-I", "-S", watchdog.__file__, str(life.path), f"{process.MARK}=r1."]
    started = subprocess.Popen([*args, "touch", str(done)], stdin=subprocess.PIPE)
    yield started, done
    started.kill()
    started.wait()


def test_it_does_nothing_after_a_run_has_ended(kept):
    started, done = kept
    started.communicate(b".", timeout=10)
    assert started.returncode == 0
    assert not done.exists()


@pytest.mark.attack("F5", "a kernel is killed, and its lock stays until it expires")
def test_it_starts_the_recovery_when_the_runs_file_is_free(kept, life):
    started, done = kept
    started.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.7)
    assert not done.exists()
    life.end()
    assert started.wait(10) == 0
    assert done.exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_does_not_end_it(kept, life, signum):
    started, done = kept
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.3)
    started.send_signal(signum)
    started.stdin.close()
    life.end()
    assert started.wait(10) == 0
    assert done.exists()


def test_a_tool_without_a_supervisor_is_killed(monkeypatch, life):
    monkeypatch.setattr(watchdog, "ORPHAN_GRACE_S", 0.5)
    env = {process.MARK: "r1.0"}
    orphan = subprocess.Popen(["/bin/sleep", "60"], env=env, pass_fds=[life.fd])
    other = subprocess.Popen(["/bin/sleep", "60"], env={process.MARK: "r2.0"})
    try:
        os.close(life.fd)
        watchdog.wait_for_tools(str(life.path), f"{process.MARK}=r1.")
        assert other.poll() is None
    finally:
        other.kill()
    assert orphan.wait(10) == -signal.SIGKILL
    assert other.wait(10) == -signal.SIGKILL
