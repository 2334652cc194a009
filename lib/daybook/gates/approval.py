"""What others see of a waiting plan: kept in the bucket, and answered there with a signature.

`waiting/<env>/<digest>.json` says that a plan waits, so that another machine may make it again
and apply it. `approvals/<env>/<run>/request.json` is the same for a second person; beside it lies
one answer for each, what they say and their SSH signature of exactly that. `environments/signers`
says whose keys count; nobody answers for a plan of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daybook import aws, signers
from daybook.errors import ApprovalRefused, CommandFailed
from daybook.gates.waiting import Waiting
from daybook.record import journal, provenance, signing
from daybook.target import Target

NAMESPACE = "daybook-approval"
APPROVED, DECLINED = "approved", "declined"
_SCHEMA = "daybook-approval/1"


@dataclass(frozen=True)
class Answer:
    """What one person says of a plan. statement: JSON, byte for byte as it was signed."""

    statement: str
    signature: str

    @classmethod
    def decode(cls, raw: bytes) -> Answer:
        """Return what was put into the bucket; of rubbish, an answer that does not count."""
        try:
            return cls(**json.loads(raw))
        except (ValueError, TypeError):
            return cls("", "")

    @property
    def said(self) -> dict[str, str]:
        """Return the statement: {"decision": "approved", "digest": "plan-…", "name": …}."""
        return json.loads(self.statement)


@dataclass(frozen=True)
class Judgement:
    """The answers that count, by signer, and why others do not."""

    approved: Mapping[str, Answer]
    declined: Mapping[str, Answer]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Office:
    """Where others see an environment's plans and answer: its state bucket."""

    target: Target
    bucket: str

    def leave(self, plan: Waiting) -> None:
        """Say under its digest that a plan waits."""
        self._put(_left(plan.environment, plan.digest), plan.encode())

    def left(self, environment: str, digest: str) -> Waiting | None:
        """Return the plan that waits under a digest, or None."""
        found = self._get(_left(environment, digest))
        return Waiting.decode(found) if found else None

    def take_away(self, plan: Waiting) -> None:
        """Have it wait no more; it need not be there."""
        s3 = aws.client(self.target, "s3")
        try:
            s3.delete_object(Bucket=self.bucket, Key=_left(plan.environment, plan.digest))
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def ask(self, plan: Waiting) -> None:
        """Put a waiting plan where the others see it."""
        self._put(_key(plan.environment, plan.run, "request"), plan.encode())

    def question(self, environment: str, run: str) -> Waiting | None:
        """Return the plan that a run asks about, or None."""
        found = self._get(_key(environment, run, "request"))
        return Waiting.decode(found) if found else None

    def questions(self, environment: str) -> list[str]:
        """Return the runs that have asked about a plan, the oldest first."""
        return sorted({key.split("/")[2] for key in self._keys(f"approvals/{environment}/")})

    def answer(self, plan: Waiting, answer: Answer) -> None:
        """Put an answer beside its question; a second one of the same person replaces it."""
        name = hashlib.sha256(answer.said["key"].encode()).hexdigest()[:16]
        self._put(_key(plan.environment, plan.run, name), json.dumps(asdict(answer)).encode())

    def answers(self, plan: Waiting) -> list[Answer]:
        """Return all answers about a plan, good or not."""
        question = _key(plan.environment, plan.run, "request")
        keys = self._keys(question.removesuffix("request.json"))
        return [Answer.decode(self._get(key)) for key in keys if key != question]

    def _put(self, key: str, body: bytes) -> None:
        try:
            aws.client(self.target, "s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _get(self, key: str) -> bytes | None:
        s3 = aws.client(self.target, "s3")
        try:
            return s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except (s3.exceptions.NoSuchKey, s3.exceptions.NoSuchBucket):
            return None
        except aws.FAILURES as err:
            raise self._unreachable(err) from err

    def _keys(self, prefix: str) -> list[str]:
        s3 = aws.client(self.target, "s3")
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


def sign(plan: Waiting, key: Path, root: Path, *, reason: str = "", is_declined: bool) -> Answer:
    """Answer for a plan with the approver's key; it must be one of environments/signers.

    Raises ApprovalRefused where the answer would not count.
    """
    who = provenance.operator(root)
    said = {
        "schema": _SCHEMA,
        "decision": DECLINED if is_declined else APPROVED,
        "reason": reason,
        "run": plan.run,
        "digest": plan.digest,
        "summary": _sha256(plan.summary),
        **_place(plan),
        "time": journal.now(),
        "name": f"{who['name']} <{who['email']}>",
        "key": signing.fingerprint(signing.public_key(key)),
    }
    statement = json.dumps(said, ensure_ascii=False, sort_keys=True)
    signature, why = signing.sign(statement.encode(), key, NAMESPACE)
    if not signature:
        raise ApprovalRefused("Nothing was signed.", observed=why, next="name a key with --key")
    answer = Answer(statement, signature)
    if problem := _problem(answer, plan, root, identities(plan.operator, root))[1]:
        raise ApprovalRefused(
            "This answer would not count.",
            expected="a key of environments/signers, of somebody who did not make the plan",
            observed=problem,
            next="ask another person, or commit your key to environments/signers",
        )
    return answer


def judge(
    answers: Iterable[Answer], plan: Waiting, root: Path, operators: Collection[str]
) -> Judgement:
    """Sort answers into those that approve, those that decline, and those that do not count.

    operators: `identities` of everybody whose own answer is not enough.
    """
    sorted_: dict[str, dict[str, Answer]] = {APPROVED: {}, DECLINED: {}}
    ignored = []
    for answer in answers:
        name, problem = _problem(answer, plan, root, operators)
        if problem:
            ignored.append(f"an answer that does not count: {problem}")
        else:
            sorted_[answer.said["decision"]][name] = answer
    return Judgement(sorted_[APPROVED], sorted_[DECLINED], tuple(ignored))


def identities(operator: Mapping[str, str], root: Path) -> set[str]:
    """Return every name that an operator has: of the key, in git, in environments/signers."""
    known = {operator.get("key", ""), operator.get("email", "").lower()}
    for each in signers.load(root).lines:
        if each.fingerprint in known:
            known.add(each.name)
    return known - {""}


def _problem(
    answer: Answer, plan: Waiting, root: Path, operators: Collection[str]
) -> tuple[str, str]:
    """Return who signed an answer, and why it does not count, or ""."""
    try:
        said = answer.said
    except ValueError:
        return "", "not JSON"
    allowed = signers.load(root)
    signer = signing.check(answer.statement.encode(), answer.signature, allowed, NAMESPACE)
    expected = {
        "schema": _SCHEMA,
        "run": plan.run,
        "digest": plan.digest,
        "summary": _sha256(plan.summary),
        **_place(plan),
    }
    if not signer.is_good:
        return "", "its signature is not of what it says"
    if not signer.name:
        return "", f"{signer.fingerprint} is not in environments/signers for {NAMESPACE}"
    if {signer.fingerprint, signer.name.lower()} & set(operators):
        return signer.name, f"{signer.name} is the operator of this plan"
    if other := [name for name, value in expected.items() if said.get(name) != value]:
        return signer.name, f"{signer.name} answered for another {' and '.join(other)}"
    if said.get("decision") not in (APPROVED, DECLINED):
        return signer.name, f"{signer.name} neither approved nor declined"
    return signer.name, ""


def _place(plan: Waiting) -> dict[str, Any]:
    names = ("environment", "step", "account", "region", "target", "commit")
    return {name: plan.basis[name] for name in names}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(environment: str, run: str, name: str) -> str:
    return f"approvals/{environment}/{run}/{name}.json"


def _left(environment: str, digest: str) -> str:
    return f"waiting/{environment}/{digest}.json"
