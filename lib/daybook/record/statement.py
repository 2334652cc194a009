"""What people sign about a plan, and whether a signature counts.

Those who plan, apply, approve or decline each sign a statement that names the run, the digest and
the text of the plan, and where it applies. A person's identity is the name beside their key in
environments/signers; git's user.email and the key's owner by any other account play no part.
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
"""What every statement names. summary: the SHA-256 of the plan's text."""
MAX_CHARACTERS = 20_000
_SCHEMA = "daybook-statement/1"
_BOT = "[bot]"
"""The end of a GitHub App's login; no person's login can have it."""


@dataclass(frozen=True)
class Signed:
    """A statement, JSON byte for byte as it was signed, and its SSH signature."""

    statement: str
    signature: str

    @classmethod
    def decode(cls, raw: bytes) -> Signed:
        """Return what `encode` wrote; of anything else, a statement that does not count."""
        try:
            return cls.of(json.loads(raw))
        except (ValueError, RecursionError):
            return cls("", "")

    @classmethod
    def of(cls, found: object) -> Signed:
        """Return the statement of a dictionary; of anything else, one that does not count."""
        keys = ("statement", "signature")
        if not isinstance(found, Mapping) or not all(isinstance(found.get(k), str) for k in keys):
            return cls("", "")
        return cls(found["statement"], found["signature"])

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @property
    def content(self) -> dict[str, Any]:
        """Return the statement: `{"decision": "approved", "digest": "plan-…", "name": …}`.

        ValueError when it is not JSON, or no object.
        """
        if len(self.statement) > MAX_CHARACTERS:
            raise ValueError("too long")
        try:
            found = json.loads(self.statement)
        except RecursionError as err:
            raise ValueError("too deep") from err
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found


@dataclass(frozen=True)
class Party:
    """Somebody who signed. problem: why the signature does not count, "" when it does.

    actor: the GitHub login that started the workflow which signed, "" for a person.
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
    """Sign a statement with a key of environments/signers; ApprovalRefused when it cannot count."""
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
    signature, why = signing.sign(statement.encode(), key, NAMESPACES[decision])
    if not signature:
        raise ApprovalRefused("Nothing was signed.", observed=why, next="name a key with --key")
    signed = Signed(statement, signature)
    party = check(signed, about, {decision}, allowed)
    if party.problem:
        raise ApprovalRefused(
            "This signature would not count.",
            expected=f"a key that {signers.FILE} allows {NAMESPACES[decision]}",
            observed=party.problem,
            next=f"use your own registered key, or have your line of {signers.FILE} reviewed",
        )
    return signed, party


def check(
    signed: Signed,
    about: Mapping[str, str],
    decisions: Collection[str],
    allowed: Signers,
    when=None,
) -> Party:
    """Find out who signed a statement, and whether it is about this plan.

    about: what SUBJECT names, as it is here. when: the time of signing; now, if None.
    """
    try:
        content = signed.content
    except ValueError:
        return Party(problem="a statement that is not JSON")
    decision = content.get("decision")
    if not isinstance(decision, str) or decision not in decisions:
        return Party(problem=f"a statement that is not: {' or '.join(sorted(decisions))}")
    namespace = NAMESPACES[decision]
    signer = signing.check(signed.statement.encode(), signed.signature, allowed, namespace, when)
    if not signer.is_good:
        return Party(problem="the signature is not of this statement")
    if not signer.name:
        return Party(problem=allowed.refusal(signer.fingerprint, namespace, when))
    name = signer.name
    if content.get("schema") != _SCHEMA:
        return Party(name, decision, problem=f"{name} signed with another version of Daybook")
    if other := [each for each in SUBJECT if content.get(each) != about[each]]:
        return Party(name, decision, problem=f"{name} signed another {' and '.join(other)}")
    workflow = content.get("workflow")
    actor = str(workflow.get("actor", "")) if isinstance(workflow, dict) else ""
    if signers.is_workflow(name) != bool(actor):
        problem = f"{name} is a workflow's key" if not actor else f"{name} is no workflow's key"
        return Party(name, decision, problem=problem)
    reason = str(content.get("reason", ""))
    return Party(name, decision, reason, actor.casefold())


def conflict(approver: Party, operators: Iterable[Party], allowed: Signers) -> str:
    """Return why a person may not approve what these operators plan or apply, or ""."""
    name = approver.name
    if signers.is_workflow(name):
        return f"{name} is a workflow's key, and a person must approve"
    for operator in operators:
        if operator.name == name:
            return f"{name} is the operator of this plan"
        if not operator.actor:
            continue
        if is_nobody(operator.actor):
            return f"the workflow was started by {operator.actor}, which is no person"
        logins = {each.github for each in allowed.named(name)} - {""}
        if not logins:
            fix = f"{signers.FILE} has no github:LOGIN for {name}"
            return f"{fix}, and a workflow started by {operator.actor} is the operator"
        if operator.actor in logins:
            return f"{name} started the workflow ({operator.actor})"
    return ""


def is_nobody(actor: str) -> bool:
    """Tell whether a GitHub login is an app: nobody knows which person had it start a run."""
    return actor.casefold().endswith(_BOT)


def sha256(text: str) -> str:
    """Return the hash by which a statement names a plan's text."""
    return hashlib.sha256(text.encode()).hexdigest()
