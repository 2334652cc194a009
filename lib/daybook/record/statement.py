"""Sign statements about a plan, and check the signatures.

Planning, applying, approving and declining a plan each need a signed statement of the run, the
plan's digest and text, and its target. A person's identity is the name beside the key in
environments/signers, independent of git's user.email.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daybook import signers
from daybook.errors import ApprovalRefused
from daybook.record import journal, signing
from daybook.signers import APPROVAL, RECORD, Signers

PLANNED, APPLYING = "planned", "applying"
APPROVED, DECLINED = "approved", "declined"
NAMESPACES = {PLANNED: RECORD, APPLYING: RECORD, APPROVED: APPROVAL, DECLINED: APPROVAL}
SUBJECT = (
    *("run", "digest", "summary", "made", "environment", "step", "account", "region", "target"),
    "commit",
)
"""The fields of every statement. summary: the SHA-256 of the plan's text."""
MAX_CHARACTERS = 20_000
_SCHEMA = "daybook-statement/1"
_BOT = "[bot]"
"""The suffix of a GitHub App's login, which the login of a person cannot have."""


@dataclass(frozen=True)
class Signed:
    """A statement, as the exact JSON text that was signed, and its SSH signature."""

    statement: str
    signature: str

    @classmethod
    def decode(cls, raw: bytes) -> Signed:
        """Return the statement that `encode` wrote; an invalid statement for anything else."""
        try:
            return cls.of(json.loads(raw))
        except (ValueError, RecursionError):
            return cls("", "")

    @classmethod
    def of(cls, value: object) -> Signed:
        """Return the statement of a dictionary; an invalid statement for anything else."""
        keys = ("statement", "signature")
        if not isinstance(value, Mapping) or not all(isinstance(value.get(k), str) for k in keys):
            return cls("", "")
        return cls(value["statement"], value["signature"])

    def encode(self) -> bytes:
        """Return statement and signature as JSON."""
        return json.dumps(asdict(self)).encode()

    @property
    def content(self) -> dict[str, Any]:
        """Return the statement: `{"decision": "approved", "digest": "plan-…", "name": …}`.

        ValueError if it is not a JSON object.
        """
        if len(self.statement) > MAX_CHARACTERS:
            raise ValueError("too long")
        try:
            content = json.loads(self.statement)
        except RecursionError as err:
            raise ValueError("nested too deep") from err
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content


@dataclass(frozen=True)
class Party:
    """The person or workflow that signed. problem: why the signature does not count, or "".

    actor: the GitHub login that started the signing workflow, "" for a person.
    """

    name: str = ""
    decision: str = ""
    reason: str = ""
    actor: str = ""
    problem: str = ""


def sign(
    about: Mapping[str, str],
    decision: str,
    key: Path,
    allowed: Signers,
    *,
    reason: str = "",
    workflow: Mapping[str, str] | None = None,
) -> tuple[Signed, Party]:
    """Sign a statement; ApprovalRefused if environments/signers does not accept the key."""
    content = {
        "schema": _SCHEMA,
        "decision": decision,
        "reason": reason,
        **{name: about[name] for name in SUBJECT},
        "time": journal.now(),
        "key": signing.fingerprint(signing.public_key(key)),
        "workflow": dict(workflow or {}),
    }
    statement = json.dumps(content, ensure_ascii=False, sort_keys=True)
    signature, problem = signing.sign(statement.encode(), key, NAMESPACES[decision])
    if not signature:
        raise ApprovalRefused(
            "The statement could not be signed.", observed=problem, next="pass a key with --key"
        )
    signed = Signed(statement, signature)
    party = check(signed, about, {decision}, allowed)
    if party.problem:
        raise ApprovalRefused(
            "This signature would not be accepted.",
            expected=f"a key that {signers.FILE} accepts for {NAMESPACES[decision]}",
            observed=party.problem,
            next=f"use your own registered key, or correct your line in {signers.FILE}",
        )
    return signed, party


def check(
    signed: Signed,
    about: Mapping[str, str],
    decisions: Collection[str],
    allowed: Signers,
    when=None,
) -> Party:
    """Check the signature of a statement, and that the statement is about this plan.

    about: the expected fields of SUBJECT. when: the time of signing, None for now.
    """
    try:
        content = signed.content
    except ValueError:
        return Party(problem="the statement is not JSON")
    decision = content.get("decision")
    if not isinstance(decision, str) or decision not in decisions:
        return Party(problem=f"the statement is not: {' or '.join(sorted(decisions))}")
    namespace = NAMESPACES[decision]
    signer = signing.check(signed.statement.encode(), signed.signature, allowed, namespace, when)
    if not signer.is_good:
        return Party(problem="the signature does not match the statement")
    if not signer.name:
        return Party(problem=allowed.refusal(signer.fingerprint, namespace, when))
    name = signer.name
    if content.get("schema") != _SCHEMA:
        return Party(name, decision, problem=f"{name} signed with another version of Daybook")
    if differing := [field for field in SUBJECT if content.get(field) != about[field]]:
        return Party(name, decision, problem=f"{name} signed another {' and '.join(differing)}")
    workflow = content.get("workflow")
    actor = str(workflow.get("actor", "")) if isinstance(workflow, dict) else ""
    if signers.is_workflow(name) != bool(actor):
        problem = f"{name} is {'not ' if actor else ''}the key of a workflow"
        return Party(name, decision, problem=problem)
    reason = str(content.get("reason", ""))
    return Party(name, decision, reason, actor.casefold())


def conflict(approver: Party, operators: Iterable[Party], allowed: Signers) -> str:
    """Return why a person may not approve a plan of these operators, or ""."""
    name = approver.name
    if signers.is_workflow(name):
        return f"{name} is the key of a workflow, but a person must approve"
    for operator in operators:
        if operator.name == name:
            return f"{name} is the operator of this plan"
        if not operator.actor:
            continue
        if is_app(operator.actor):
            return f"the workflow was started by {operator.actor}, which is not a person"
        logins = {signer.github for signer in allowed.named(name)} - {""}
        if not logins:
            problem = f"{signers.FILE} has no github:LOGIN for {name}"
            return f"{problem}, and the operator is a workflow started by {operator.actor}"
        if operator.actor in logins:
            return f"{name} started the workflow ({operator.actor})"
    return ""


def is_app(actor: str) -> bool:
    """Tell whether a GitHub login is an app's, so that the person who acted is unknown."""
    return actor.casefold().endswith(_BOT)


def sha256(text: str) -> str:
    """Return the hash of a plan's text for a statement."""
    return hashlib.sha256(text.encode()).hexdigest()
