"""The command that holds the lock ends at a signal, at `release stop` and at the time limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook_release import limits, stop
from daybook_release.errors import Failed, Interrupted
from daybook_release.signals import Signals
from daybook_release.store import LockingProcess, ReleaseStore
from daybook_release.system import System

LIB = Path(__file__).parents[3] / "lib"
HOLDS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from daybook_release import stop
from daybook_release.signals import Signals
from daybook_release.store import LockingProcess, ReleaseStore
pid = os.getpid()
store = ReleaseStore(Path(sys.argv[2]), Path(sys.argv[3]))
with store.locked(LockingProcess(pid, stop.started(pid), "deploy")), Signals() as signals:
    store.save_state(id="1-a", since="now", by="bob")
    print("held", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        signals.hold()
        store.clear_state()
        raise
"""


@pytest.fixture
def context(tmp_path):
    (tmp_path / "shop").mkdir()
    return SimpleNamespace(
        system=System(), store=ReleaseStore(tmp_path / "shop", tmp_path / "lock")
    )


@pytest.fixture
def holder(context):
    """Return a process that holds the lock and, at a signal, undoes its changes."""
    command = [sys.executable, "-c", HOLDS, LIB, context.store.root, context.store.lock_path]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_stop_without_a_running_command_only_reports(context):
    assert stop.stop(context) == "no command is running"
    context.store.save_state(id="1-a")
    interrupted = "no command is running; 1-a was interrupted; next: sudo release repair"
    assert stop.stop(context) == interrupted


def test_stop_ends_the_holder_which_undoes_its_changes(context, holder):
    assert context.store.holder().pid == holder.pid
    assert stop.stop(context) == "deploy was ended"
    assert holder.wait() != 0
    assert not context.store.is_locked()


def test_stop_spares_a_process_that_reuses_the_pid_of_a_dead_holder(context):
    """A child of the killed holder still holds the lock; an unrelated process has its pid."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with context.store.locked(LockingProcess(bystander.pid, 1, "deploy")) as descriptor:
            child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
        context.store.save_state(id="1-a")
        assert stop.holders(context.store.lock_path) == [child.pid]
        assert "sudo release repair" in stop.stop(context)
        assert child.wait() == -signal.SIGTERM
        assert bystander.poll() is None
        bystander.kill()


def test_a_process_is_identified_by_its_start_time(context):
    assert stop.started(os.getpid()) > 0
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert stop.started(process.pid) == 0


def test_only_the_first_signal_raises():
    with Signals():
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_is_ignored_after_hold():
    with Signals() as signals:
        signals.hold()
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.attack("F9", "a release never ends")
def test_a_command_ends_at_its_time_limit():
    with Signals(within_s=0.05, limit_s=5), pytest.raises(Failed, match="exceeded its limit"):
        time.sleep(5)


@pytest.mark.attack("F9", "undoing a release never ends")
def test_undoing_ends_at_the_last_time_limit():
    with Signals(within_s=0.05, limit_s=0.2) as signals:
        signals.hold()
        with pytest.raises(Failed, match="undoing the release timed out") as failed:
            time.sleep(5)
    assert failed.value.next == "sudo release repair"


def test_no_timer_fires_after_the_end():
    with Signals(within_s=0.05, limit_s=0.1):
        pass
    time.sleep(0.2)


def test_the_last_limit_leaves_time_to_kill_processes_within_an_hour():
    assert limits.RELEASE_S < limits.LOCK_S < 3600 - 15
