"""What others see of a pending plan: kept in the bucket, and answered there with a signature.

`waiting/<env>/<digest>.json` says that a plan is pending, so that another machine may make it again
and apply it. `approvals/<env>/<run>/request.json` is the same for a second person; beside it lies
one answer for each person, a signed statement. Everybody with access to the bucket can write there,
so nothing of it counts but for its signature.
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
from daybook.signers import Signers

MAX_BYTES, MAX_ANSWERS = 1_000_000, 100


@dataclass(frozen=True)
class Decisions:
    """The answers that count, by signer, and why others do not."""

    approved: Mapping[str, Signed]
    declined: Mapping[str, Signed]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApprovalStore:
    """Where others see an environment's plans and answer: its state bucket."""

    environment: Environment

    @property
    def bucket(self) -> str:
        """Return the state bucket."""
        return self.environment.state_bucket

    def publish(self, plan: PendingPlan) -> None:
        """Write under its digest that a plan is pending."""
        self._put(_left(plan.environment, plan.digest), plan.encode())

    def published(self, environment: str, digest: str) -> PendingPlan | None:
        """Return the plan that is pending under a digest, or None."""
        plan = self._plan(_left(environment, digest), environment)
        return plan if plan and plan.digest == digest else None

    def withdraw(self, plan: PendingPlan) -> None:
        """Delete the entry of a plan that is no longer pending; it need not be there."""
        s3 = self.environment.client("s3")
        try:
            s3.delete_object(Bucket=self.bucket, Key=_left(plan.environment, plan.digest))
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def request(self, plan: PendingPlan) -> None:
        """Put a waiting plan where the others see it."""
        self._put(_key(plan.environment, plan.run, "request"), plan.encode())

    def requested(self, environment: str, run: str) -> PendingPlan | None:
        """Return the plan that a run asks about, or None."""
        plan = self._plan(_key(environment, run, "request"), environment)
        return plan if plan and plan.run == run else None

    def requests(self, environment: str) -> list[str]:
        """Return the runs that have asked about a plan, the oldest first."""
        return sorted({key.split("/")[2] for key in self._keys(f"approvals/{environment}/")})

    def record_decision(self, plan: PendingPlan, answer: Signed) -> None:
        """Put an answer beside its question; a second one with the same key replaces it."""
        name = hashlib.sha256(answer.content["key"].encode()).hexdigest()[:16]
        self._put(_key(plan.environment, plan.run, name), answer.encode())

    def decisions(self, plan: PendingPlan) -> list[Signed]:
        """Return all answers about a plan, good or not."""
        question = _key(plan.environment, plan.run, "request")
        keys = self._keys(question.removesuffix("request.json"))
        others = [key for key in keys if key != question]
        if len(others) > MAX_ANSWERS:
            raise ApprovalRefused(
                f"{plan.digest} has too many answers.",
                expected=f"{MAX_ANSWERS} at most",
                observed=str(len(others)),
                next=NEW_PLAN.format(**plan.basis),
            )
        return [Signed.decode(self._get(key) or b"") for key in others]

    def _plan(self, key: str, environment: str) -> PendingPlan | None:
        found = self._get(key)
        plan = PendingPlan.decode(found) if found else None
        if plan and plan.environment != environment:
            raise ApprovalRefused(
                "A pending plan lies where it does not belong.",
                expected=environment,
                observed=plan.environment,
                next=f"ask who wrote {key} in the bucket {self.bucket}",
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
            return [found["Key"] for page in pages for found in page.get("Contents", ())]
        except s3.exceptions.NoSuchBucket:
            return []
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _unreachable(self, err: Exception) -> CommandFailed:
        return CommandFailed(
            "Approvals cannot be read or written.",
            expected=f"access to approvals/ and waiting/ in the bucket {self.bucket}",
            observed=str(err),
            next="sign in to the account, then the same command",
        )


def sign(
    plan: PendingPlan, key: Path, allowed: Signers, *, reason: str = "", is_declined: bool
) -> Signed:
    """Answer for a plan with the approver's key; ApprovalRefused where it would not count."""
    planner = planned_by(plan, allowed)
    decision = DECLINED if is_declined else APPROVED
    signed, party = statement.sign(plan.about, decision, key, allowed, reason=reason)
    if problem := statement.conflict(party, (planner,), allowed):
        raise ApprovalRefused(
            "This answer would not count.",
            expected="another person than the one who made the plan",
            observed=problem,
            next="ask another person of environments/signers",
        )
    return signed


def planned_by(plan: PendingPlan, allowed: Signers) -> Party:
    """Return who made a plan; ApprovalRefused when no signature proves it."""
    planner = statement.check(Signed.of(plan.planned), plan.about, {PLANNED}, allowed)
    if planner.problem:
        raise ApprovalRefused(
            "It is not known who made this plan.",
            expected="a plan signed by somebody of environments/signers",
            observed=planner.problem if plan.planned else "no signature",
            next=NEW_PLAN.format(**plan.basis),
        )
    return planner


def judge(
    answers: Iterable[Signed],
    about: Mapping[str, str],
    operators: Iterable[Party],
    allowed: Signers,
) -> Decisions:
    """Sort answers into those that approve, those that decline, and those that do not count.

    about: what an answer must name. operators: who made the plan and who applies it.
    """
    counted: dict[str, dict[str, Signed]] = {APPROVED: {}, DECLINED: {}}
    operators, ignored = tuple(operators), []
    for answer in answers:
        party = statement.check(answer, about, counted, allowed)
        if problem := party.problem or statement.conflict(party, operators, allowed):
            ignored.append(f"an answer that does not count: {problem}")
        else:
            counted[party.decision][party.name] = answer
    return Decisions(counted[APPROVED], counted[DECLINED], tuple(ignored))


def _key(environment: str, run: str, name: str) -> str:
    return f"approvals/{environment}/{run}/{name}.json"


def _left(environment: str, digest: str) -> str:
    return f"waiting/{environment}/{digest}.json"
