"""Pending plans and decisions in the state bucket, where other people and machines see them.

`waiting/<env>/<digest>.json` publishes a pending plan, so that another machine can make the same
plan and apply it. `approvals/<env>/<run>/request.json` asks a second person for a decision; each
decision is a signed statement beside it. Anyone with access to the bucket can write there, so only
the signatures count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daybook import aws
from daybook.approval.pending import NEW_PLAN, PendingPlan
from daybook.environment import Environment
from daybook.errors import ApprovalRefused, CommandFailed
from daybook.record import statement
from daybook.record.statement import APPROVED, DECLINED, PLANNED, Party, Signed
from daybook.signers import FILE, Signers

MAX_BYTES, MAX_DECISIONS = 1_000_000, 100


@dataclass(frozen=True)
class Decisions:
    """The valid decisions by signer. ignored: why each other one is invalid."""

    approved: Mapping[str, Signed]
    declined: Mapping[str, Signed]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApprovalStore:
    """The pending plans and decisions of an environment, in its state bucket."""

    environment: Environment

    @property
    def bucket(self) -> str:
        """Return the state bucket."""
        return self.environment.state_bucket

    def publish(self, plan: PendingPlan) -> None:
        """Publish a pending plan under its digest."""
        self._put(_published_key(plan.environment, plan.digest), plan.encode())

    def published(self, environment: str, digest: str) -> PendingPlan | None:
        """Return the pending plan with a digest, or None."""
        plan = self._plan(_published_key(environment, digest), environment)
        return plan if plan and plan.digest == digest else None

    def withdraw(self, plan: PendingPlan) -> None:
        """Delete a plan's published entry, if it exists."""
        s3 = self.environment.client("s3")
        try:
            s3.delete_object(Bucket=self.bucket, Key=_published_key(plan.environment, plan.digest))
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def request(self, plan: PendingPlan) -> None:
        """Ask a second person for a decision about a plan."""
        self._put(_approval_key(plan.environment, plan.run, "request"), plan.encode())

    def requested(self, environment: str, run: str) -> PendingPlan | None:
        """Return the plan for which a run requested a decision, or None."""
        plan = self._plan(_approval_key(environment, run, "request"), environment)
        return plan if plan and plan.run == run else None

    def requests(self, environment: str) -> list[str]:
        """Return the runs that requested a decision, oldest first."""
        return sorted({key.split("/")[2] for key in self._keys(f"approvals/{environment}/")})

    def record_decision(self, plan: PendingPlan, decision: Signed) -> None:
        """Store a decision; it replaces an earlier one with the same key."""
        name = hashlib.sha256(decision.content["key"].encode()).hexdigest()[:16]
        self._put(_approval_key(plan.environment, plan.run, name), decision.encode())

    def decisions(self, plan: PendingPlan) -> list[Signed]:
        """Return all decisions about a plan, valid or not."""
        request = _approval_key(plan.environment, plan.run, "request")
        keys = [key for key in self._keys(request.removesuffix("request.json")) if key != request]
        if len(keys) > MAX_DECISIONS:
            raise ApprovalRefused(
                f"{plan.digest} has too many decisions.",
                expected=f"at most {MAX_DECISIONS}",
                observed=str(len(keys)),
                next=NEW_PLAN.format(**plan.basis),
            )
        return [Signed.decode(self._get(key) or b"") for key in keys]

    def _plan(self, key: str, environment: str) -> PendingPlan | None:
        content = self._get(key)
        plan = PendingPlan.decode(content) if content else None
        if plan and plan.environment != environment:
            raise ApprovalRefused(
                "A pending plan is stored under another environment.",
                expected=environment,
                observed=plan.environment,
                next=f"find out who wrote {key} in the bucket {self.bucket}",
            )
        return plan

    def _put(self, key: str, body: bytes) -> None:
        try:
            self.environment.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _get(self, key: str) -> bytes | None:
        s3 = self.environment.client("s3")
        try:
            return s3.get_object(Bucket=self.bucket, Key=key)["Body"].read(MAX_BYTES)
        except (s3.exceptions.NoSuchKey, s3.exceptions.NoSuchBucket):
            return None
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _keys(self, prefix: str) -> list[str]:
        s3 = self.environment.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        try:
            return [item["Key"] for page in pages for item in page.get("Contents", ())]
        except s3.exceptions.NoSuchBucket:
            return []
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _unreachable(self, err: Exception) -> CommandFailed:
        return CommandFailed(
            "Approvals cannot be read or written.",
            expected=f"access to approvals/ and waiting/ in the bucket {self.bucket}",
            observed=str(err),
            next="sign in to the account, then run the same command again",
        )


def sign(
    plan: PendingPlan, key: Path, allowed: Signers, *, reason: str = "", is_declined: bool
) -> Signed:
    """Sign a decision with the approver's key; ApprovalRefused when it would be invalid."""
    planner = planned_by(plan, allowed)
    decision = DECLINED if is_declined else APPROVED
    signed, party = statement.sign(plan.about, decision, key, allowed, reason=reason)
    if problem := statement.conflict(party, (planner,), allowed):
        raise ApprovalRefused(
            "This decision would be invalid.",
            expected="a decision by a person other than the author of the plan",
            observed=problem,
            next=f"ask another person of {FILE}",
        )
    return signed


def planned_by(plan: PendingPlan, allowed: Signers) -> Party:
    """Return the author of a plan; ApprovalRefused when no signature proves it."""
    planner = statement.check(Signed.of(plan.planned), plan.about, {PLANNED}, allowed)
    if planner.problem:
        raise ApprovalRefused(
            "The author of this plan is unknown.",
            expected=f"a plan signed with a key of {FILE}",
            observed=planner.problem if plan.planned else "no signature",
            next=NEW_PLAN.format(**plan.basis),
        )
    return planner


def judge(
    decisions: Iterable[Signed],
    about: Mapping[str, str],
    operators: Iterable[Party],
    allowed: Signers,
) -> Decisions:
    """Sort decisions into approvals, declines and invalid ones.

    about: the facts that a decision must name. operators: the plan's author and the person who
    applies it.
    """
    valid: dict[str, dict[str, Signed]] = {APPROVED: {}, DECLINED: {}}
    operators, ignored = tuple(operators), []
    for decision in decisions:
        party = statement.check(decision, about, valid, allowed)
        if problem := party.problem or statement.conflict(party, operators, allowed):
            ignored.append(f"an invalid decision: {problem}")
        else:
            valid[party.decision][party.name] = decision
    return Decisions(valid[APPROVED], valid[DECLINED], tuple(ignored))


def _approval_key(environment: str, run: str, name: str) -> str:
    return f"approvals/{environment}/{run}/{name}.json"


def _published_key(environment: str, digest: str) -> str:
    return f"waiting/{environment}/{digest}.json"
