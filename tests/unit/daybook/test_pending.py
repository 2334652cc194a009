"""Pending plans: claimed once, for the same step, and only while their basis is unchanged."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daybook.approval import pending
from daybook.approval.pending import PendingPlan
from daybook.errors import ApprovalRefused
from daybook.record import summary
from daybook.record.journal import Entries

BASIS = {
    "environment": "staging",
    "step": "provision",
    "account": "123456789012",
    "region": "us-east-1",
    "target": "aws",
    "commit": "3fa9c2" * 7,
    "state": "serial 7 of 3f2a",
}
DAY = 24


def plan(run="r1", *, hours_ago=0.0, digest="plan-1", **basis) -> PendingPlan:
    made = (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()
    return PendingPlan(run, digest, made, BASIS | basis, {"name": "Ann"}, "1 to create")


def keep(root, plan) -> PendingPlan:
    kept = pending.keep(root, plan, DAY)
    pending.plan_file(root, plan.environment, plan.run).write_text("secret")
    return kept


def close(root, run, status="waiting") -> None:
    folder = root / "runs/staging" / run
    folder.mkdir()
    closed = summary.summarise(Entries(())) | {"files": {}, "previous": None, "status": status}
    (folder / "record.json").write_text(json.dumps(closed))


def files(root) -> list[str]:
    return sorted(path.name for path in (root / "runs").glob("*/.plans/*"))


def claim(root, digest="plan-1", by="r2", **now) -> PendingPlan:
    return pending.claim(root, digest, BASIS | now, DAY, by)


def test_only_the_owner_can_read_a_pending_plan(tmp_path):
    keep(tmp_path, plan())
    mode = (tmp_path / "runs/staging/.plans/r1.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_claimed_plan_cannot_be_claimed_again(tmp_path):
    keep(tmp_path, plan())
    assert claim(tmp_path).run == "r1", "the plan keeps the run for which approval was requested"
    assert files(tmp_path) == ["r2.json", "r2.tfplan"]
    pending.consume(tmp_path, plan(), "r2")
    assert files(tmp_path) == ["r2.tfplan"], "Terraform has yet to read it"
    with pytest.raises(ApprovalRefused, match="No plan with this digest is pending"):
        claim(tmp_path, by="r3")
    with pytest.raises(ApprovalRefused, match="has claimed or discarded it"):
        pending.consume(tmp_path, plan(), "r2")


def test_an_unknown_digest_lists_the_pending_plans(tmp_path):
    keep(tmp_path, plan())
    with pytest.raises(ApprovalRefused) as caught:
        claim(tmp_path, "plan-2")
    assert caught.value.expected == "plan-1"
    assert caught.value.next.endswith("daybook run provision -p env staging")
    assert files(tmp_path) == ["r1.json", "r1.tfplan"]


@pytest.mark.parametrize(
    ("now", "line"),
    [
        ({"commit": "77b0e1" * 7}, "commit: was 3fa9c23fa9c2, is 77b0e177b0e1"),
        ({"state": "serial 8 of 3f2a"}, "state: was serial 7 of 3f2a, is serial 8 of 3f2a"),
        ({"account": "210987654321"}, "account: was 123456789012, is 210987654321"),
    ],
)
def test_differences_are_listed_and_the_plan_is_deleted(tmp_path, now, line):
    keep(tmp_path, plan())
    with pytest.raises(ApprovalRefused) as caught:
        claim(tmp_path, **now)
    assert caught.value.details == (line,)
    assert files(tmp_path) == []


def test_an_expired_plan_is_refused_and_deleted(tmp_path):
    keep(tmp_path, plan(hours_ago=DAY + 0.1))
    with pytest.raises(ApprovalRefused, match="age: made at"):
        claim(tmp_path)
    assert files(tmp_path) == []


def test_a_published_plan_stays_marked(tmp_path):
    keep(tmp_path, plan())
    assert pending.note_published(tmp_path, plan(), "r1").is_published
    close(tmp_path, "r1")
    assert keep(tmp_path, plan("r2")).is_published, "the same plan, made again"
    assert claim(tmp_path, by="r3").is_published


def test_a_published_plan_is_claimed_if_its_basis_is_unchanged(tmp_path):
    left = plan("r9")

    def claim_left(**now: str) -> PendingPlan:
        return pending.claim(tmp_path, "plan-1", BASIS | now, DAY, "r2", lambda: left)

    with pytest.raises(ApprovalRefused, match="can no longer be applied"):
        claim_left(commit="77b0e1")
    assert files(tmp_path) == []
    assert claim_left().run == "r9"
    assert files(tmp_path) == ["r2.json"], "Terraform's plan has to be made again"


def test_the_digest_of_another_environment_is_refused_and_its_plan_stays(tmp_path):
    keep(tmp_path, plan())
    with pytest.raises(ApprovalRefused, match="environment: was staging, is production"):
        claim(tmp_path, environment="production")
    assert files(tmp_path) == ["r1.json", "r1.tfplan"]


def test_the_same_plan_made_again_keeps_its_run_and_age(tmp_path):
    first = keep(tmp_path, plan(hours_ago=2))
    close(tmp_path, "r1")
    assert keep(tmp_path, plan("r2")) == first
    assert files(tmp_path) == ["r2.json", "r2.tfplan"]
    assert pending.digest_of(tmp_path, "r1") == pending.digest_of(tmp_path, "r2") == "plan-1"


@pytest.mark.parametrize("other", [{"hours_ago": DAY + 1}, {"commit": "x"}, {"digest": "plan-2"}])
def test_a_different_or_expired_plan_does_not_pass_on_its_run(tmp_path, other):
    keep(tmp_path, plan(**other))
    close(tmp_path, "r1")
    assert keep(tmp_path, plan("r2")).run == "r2"


def test_the_plan_of_an_open_run_stays_with_it(tmp_path):
    keep(tmp_path, plan())
    assert keep(tmp_path, plan("r2")).run == "r2"
    assert "r1.json" in files(tmp_path)


@pytest.mark.parametrize(("status", "stays"), [("waiting", True), ("failed", False)])
def test_the_plan_of_an_ended_run_is_deleted_unless_it_waits(tmp_path, status, stays):
    keep(tmp_path, plan())
    close(tmp_path, "r1", status)
    pending.delete_outdated(tmp_path, "staging", DAY)
    assert bool(files(tmp_path)) == stays


def test_orphaned_and_expired_plans_are_deleted(tmp_path):
    keep(tmp_path, plan("old", hours_ago=DAY + 1))
    close(tmp_path, "old")
    pending.plan_file(tmp_path, "staging", "lost").write_text("secret")
    pending.delete_outdated(tmp_path, "staging", DAY)
    assert files(tmp_path) == []


def test_the_same_plan_in_one_run_keeps_its_age_and_file(tmp_path):
    first = keep(tmp_path, plan(hours_ago=2))
    assert pending.keep(tmp_path, plan(), DAY) == first
    assert files(tmp_path) == ["r1.json", "r1.tfplan"]


def test_a_plan_is_the_same_after_encoding_and_decoding():
    one = replace(plan(), planned={"statement": "{}", "signature": "x"})
    assert PendingPlan.decode(one.encode()) == one


@pytest.mark.attack("F3", "a pending plan in the bucket, written by hand")
@pytest.mark.parametrize(
    "change",
    [
        {"run": "../../../x"},
        {"run": 7},
        {"digest": None},
        {"basis": []},
        {"basis": {}},
        {"basis": {"environment": {}}},
        {"operator": "ann"},
        {"planned": {"statement": []}},
        {"made": "yesterday"},
        {"made": "2026-01-01T00:00:00"},
        {"more": 1},
        {"is_published": "maybe"},
        *({"basis": {k: v for k, v in BASIS.items() if k != name}} for name in list(BASIS)[:-1]),
    ],
    ids=str,
)
def test_an_invalid_pending_plan_is_refused(change):
    raw = json.dumps(json.loads(plan().encode()) | change).encode()
    with pytest.raises(ApprovalRefused, match="cannot be read"):
        PendingPlan.decode(raw)
    for rubbish in (b"", b"[]", b"\xff", b"[" * 10_000):
        with pytest.raises(ApprovalRefused, match="cannot be read"):
            PendingPlan.decode(rubbish)


def test_an_unreadable_pending_plan_is_ignored(tmp_path):
    keep(tmp_path, plan())
    (tmp_path / "runs/staging/.plans/r0.json").write_text("{}")
    assert claim(tmp_path).run == "r1"
