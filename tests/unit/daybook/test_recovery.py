"""The owner of an abandoned lock of Terraform, and whether that run has ended."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daybook import liveness
from daybook.lock import recovery
from daybook.lock.object_lock import Holder, LockState, StateLockRequest
from daybook.record import seal

ID = "b861925d-16b9-bc71-66d0-0cb7606d48e0"
ASKED = f"Attempting: tf_backend.lock.id={ID} x tf_backend.operation=Lock"
NOW = datetime(2026, 11, 27, tzinfo=UTC)
OTHER_MACHINE = {"boot": "another", "file": "/x", "inode": "1:1"}


@pytest.fixture
def run(open_run):
    """Return the folder of an open run without a kernel that requested the lock in Terraform."""
    writer = open_run("r1", kernel={"pid": 2**22 + 1, "started": 0.0})
    writer.release()
    folder = writer.path.parent
    (folder / "attachments").mkdir()
    (folder / "attachments/terraform.log").write_text(ASKED)
    return folder


def seen(life: dict, age_s: float = 0.0) -> LockState:
    """Return a free lock, this many seconds after its last write."""
    holder = Holder(run="r0", term_s=0.0, state_locks=(StateLockRequest(ID, "r0", life),))
    return LockState(holder, "etag", NOW - timedelta(seconds=age_s), NOW)


def ended_owner(tmp_path, before: LockState | None = None, id: str = ID, but: str = "me"):
    return recovery.ended_owner(tmp_path, id, before, but=but)


def test_an_ended_run_of_this_project(tmp_path, run):
    assert ended_owner(tmp_path) == recovery.Owner("r1")
    seal.close(run, "interrupted")
    assert ended_owner(tmp_path) == recovery.Owner("r1")


def test_a_closed_run_with_a_running_tool_has_not_ended(tmp_path, run):
    life = liveness.hold(liveness.file_of(run))
    assert ended_owner(tmp_path) is None
    seal.close(run, "interrupted")
    assert ended_owner(tmp_path, seen(OTHER_MACHINE, 1e6)) is None
    os.close(life.fd)
    assert ended_owner(tmp_path) == recovery.Owner("r1")


@pytest.mark.attack("F5", "a lock of Terraform run by hand is taken for a killed run's")
def test_the_lock_of_an_unknown_owner_stays(tmp_path, run):
    assert ended_owner(tmp_path, id="another") is None
    assert ended_owner(tmp_path, seen({}), id="another") is None
    assert ended_owner(tmp_path, but="r1") is None


def test_an_ended_run_known_from_the_previous_lock(tmp_path):
    life = liveness.hold(tmp_path / "r0")
    proof = life.proof
    assert ended_owner(tmp_path, seen(proof)) is None
    os.close(life.fd)
    assert ended_owner(tmp_path, seen(proof)) == recovery.Owner("r0")


@pytest.mark.attack("F5", "the lock of a living run is broken: Terraform's goes in mid-apply")
def test_a_run_on_another_machine_has_time_to_save_its_state(tmp_path):
    assert ended_owner(tmp_path, seen(OTHER_MACHINE)).ends_in_s == recovery.STOPPED_S
    assert ended_owner(tmp_path, seen(OTHER_MACHINE, 100)).ends_in_s == recovery.STOPPED_S - 100
    assert ended_owner(tmp_path, seen(OTHER_MACHINE, recovery.STOPPED_S + 1)).ends_in_s == 0
    running_out = replace(seen(OTHER_MACHINE).holder, term_s=180.0)
    before = LockState(running_out, "etag", NOW, NOW)
    assert ended_owner(tmp_path, before).ends_in_s == pytest.approx(recovery.STOPPED_S - 180)
