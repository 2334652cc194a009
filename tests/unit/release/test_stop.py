"""Ending what holds the lock: by a signal, by `release stop`, and by the time limits."""

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
from daybook_release.store import Holder, Store
pid = os.getpid()
store = Store(Path(sys.argv[2]), Path(sys.argv[3]))
with store.locked(Holder(pid, stop.started(pid), "deploy")), Signals() as signals:
    store.note(id="1-a", since="now", by="bob")
    print("held", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        signals.hold()
        store.note()
        raise
"""


@pytest.fixture
def context(tmp_path):
    (tmp_path / "shop").mkdir()
    return SimpleNamespace(host=System(), store=ReleaseStore(tmp_path / "shop", tmp_path / "lock"))


@pytest.fixture
def holder(context):
    """Return a process that holds the lock and undoes what it began at a signal."""
    command = [sys.executable, "-c", HOLDS, LIB, context.store.root, context.store.lock_path]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nothing_runs(context):
    assert stop.stop(context) == "nothing runs"
    context.store.note(id="1-a")
    said = "nothing runs; 1-a was interrupted; next: sudo release repair"
    assert stop.stop(context) == said


def test_the_holder_is_ended_and_undoes_what_it_began(context, holder):
    assert context.store.holder().pid == holder.pid
    assert stop.stop(context) == "deploy was ended"
    assert holder.wait() != 0
    assert not context.store.is_locked()


def test_another_process_with_the_number_of_a_dead_holder_is_left_alone(context):
    """The lock is held by what the dead one started; its number belongs to somebody else now."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with context.store.locked(LockingProcess(bystander.pid, 1, "deploy")) as descriptor:
            left = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
        context.store.note(id="1-a")
        assert stop.holders(context.store.lock_path) == [left.pid]
        assert "sudo release repair" in stop.stop(context)
        assert left.wait() == -signal.SIGTERM
        assert bystander.poll() is None
        bystander.kill()


def test_a_process_is_known_by_its_start(context):
    assert stop.started(os.getpid()) > 0
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert stop.started(process.pid) == 0


def test_a_signal_raises_once():
    with Signals():
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_does_not_cut_short_what_must_be_finished():
    with Signals() as signals:
        signals.hold()
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.attack("F9", "a release that never ends")
def test_a_command_is_ended_at_its_limit():
    with Signals(within_s=0.05, at_most_s=5), pytest.raises(Failed, match="longer than the limit"):
        time.sleep(5)


@pytest.mark.attack("F9", "what undoes a release never ends")
def test_even_undoing_is_ended_at_the_last_limit():
    with Signals(within_s=0.05, at_most_s=0.2) as signals:
        signals.hold()
        with pytest.raises(Failed, match="too long to be finished or undone") as failed:
            time.sleep(5)
    assert failed.value.next == "sudo release repair"


def test_nothing_goes_off_after_the_end():
    with Signals(within_s=0.05, at_most_s=0.1):
        pass
    time.sleep(0.2)


def test_the_last_limit_leaves_time_to_kill_what_runs_within_an_hour():
    assert limits.RELEASE_S < limits.LOCK_S < 3600 - 15
