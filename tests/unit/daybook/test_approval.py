"""Decisions of a second person: which are valid, with real keys and signatures."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace

import pytest

from daybook import signers
from daybook.approval import store
from daybook.approval.pending import PendingPlan
from daybook.cli import approve as cli
from daybook.errors import ApprovalRefused
from daybook.record import signing, statement
from daybook.record.statement import APPLYING, APPROVED, PLANNED, Party, Signed

BASIS = {
    "environment": "production",
    "step": "provision",
    "account": "123456789012",
    "region": "us-east-1",
    "target": "aws",
    "commit": "3fa9c2",
    "state": "serial 7 of 3f2a",
}
BOTH = 'namespaces="daybook-record,daybook-approval"'
RECORDS = 'namespaces="daybook-record"'
JOB = {"role": "hello-github-run-production", "subject": "repo:o/r:environment:production"}
ANN = Party("ann@example.com")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return a private key per person, and one for workflows."""
    folder = tmp_path_factory.mktemp("keys")
    names = ("ann", "bob", "bobs-other", "eve", "hello-workflows")
    for name in names:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(command, check=True)
    return {name: folder / name for name in names}


def allow(keys, *lines: str) -> signers.Signers:
    """Return the signers of these lines, such as `"ann@x {both} {ann}"`."""
    public = {name: signing.public_key(key) for name, key in keys.items()}
    text = "\n".join(lines).format(both=BOTH, records=RECORDS, **public)
    return signers.parse(text, signers.FILE)


@pytest.fixture
def allowed(keys):
    """Return signers: Ann and Bob plan and approve, workflows plan."""
    return allow(
        keys,
        "ann@example.com {both} {ann} github:ann-x",
        "bob@example.com {both} {bob} github:bob-x",
        "bob@example.com {both} {bobs-other}",
        "hello-workflows {records} {hello-workflows}",
    )


def made_by(key, allowed, **workflow) -> PendingPlan:
    """Return a pending plan with its author's signed statement."""
    plan = PendingPlan(
        "r1", "plan-1", "2026-11-23T18:00:00Z", BASIS, {"name": "Ann"}, "1 to destroy"
    )
    job = JOB | workflow if workflow else None
    planned, _ = statement.sign(plan.about, PLANNED, key, allowed, workflow=job)
    return replace(plan, planned=asdict(planned))


@pytest.fixture
def plan(keys, allowed):
    """Return a plan by Ann."""
    return made_by(keys["ann"], allowed)


def approve(plan, key, allowed, decision=APPROVED, about=None, reason="") -> Signed:
    """Return a decision as a modified program would send it: without a check of the author."""
    return statement.sign(about or plan.about, decision, key, allowed, reason=reason)[0]


def judge(answers, plan, allowed, applier=ANN) -> store.Decisions:
    operators = (store.planned_by(plan, allowed), applier)
    return store.judge(answers, plan.about, operators, allowed)


def test_another_persons_signature_approves(plan, keys, allowed):
    answer = store.sign(plan, keys["bob"], allowed, is_declined=False)
    judged = judge([answer], plan, allowed)
    assert judged == store.Decisions({"bob@example.com": answer}, {}, ())
    assert answer.content["digest"] == "plan-1"
    assert answer.content["time"]


def test_a_decline_has_a_reason_and_approves_nothing(plan, keys, allowed):
    answer = store.sign(plan, keys["bob"], allowed, reason="not today", is_declined=True)
    judged = judge([answer], plan, allowed)
    assert (judged.approved, list(judged.declined)) == ({}, ["bob@example.com"])
    assert answer.content["reason"] == "not today"


@pytest.mark.attack("F3", "the operator, or an unregistered person, approves with daybook approve")
@pytest.mark.parametrize(
    ("who", "problem"), [("ann", "is the operator"), ("eve", "is not in environments/signers")]
)
def test_an_invalid_decision_is_refused_before_it_is_sent(plan, keys, allowed, who, problem):
    with pytest.raises(ApprovalRefused, match=problem):
        store.sign(plan, keys[who], allowed, is_declined=False)


ALONE = {
    "the plan's author": ("ann", "ann", "bob", "is the operator of this plan"),
    "who applies it": ("ann", "bob", "bob", "is the operator of this plan"),
    "another key of who applies it": ("ann", "bob", "bobs-other", "is the operator of this plan"),
    "another key of the author": ("bobs-other", "ann", "bob", "is the operator of this plan"),
}


@pytest.mark.attack("F3", "one person plans, approves and applies, with one key or with two")
@pytest.mark.parametrize("name", ALONE)
def test_operators_cannot_approve_their_own_plan(keys, allowed, name):
    planner, applier, approver, problem = ALONE[name]
    if name == "the plan's author":
        planner = approver
    plan = made_by(keys[planner], allowed)
    _, party = statement.sign(plan.about, APPLYING, keys[applier], allowed)
    judged = judge([approve(plan, keys[approver], allowed)], plan, allowed, party)
    assert not judged.approved
    assert problem in judged.ignored[0]


@pytest.mark.attack("F3", "another git user.email, or none, hides who made a plan")
@pytest.mark.parametrize("email", ["", "eve@elsewhere", "bob@example.com", " ann@example.com"])
def test_the_git_identity_is_irrelevant(plan, keys, allowed, email):
    renamed = replace(plan, operator={"name": "Bob", "email": email, "key": ""})
    own = judge([approve(plan, keys["ann"], allowed)], renamed, allowed)
    assert not own.approved
    assert judge([approve(plan, keys["bob"], allowed)], renamed, allowed).approved


@pytest.mark.attack("F3", "a plan without its author's signature, or with a foreign one")
@pytest.mark.parametrize(
    "kind", ["none", "rubbish", "of another plan", "of an unregistered person", "approved"]
)
def test_a_plan_with_an_unproven_author_cannot_be_approved(plan, keys, allowed, kind):
    open_ = allow(keys, "ann@example.com {both} {ann}", "eve@example.com {both} {eve}")
    planned = {
        "none": {},
        "rubbish": {"statement": "[]", "signature": "x"},
        "of another plan": made_by(keys["bob"], allowed).planned,
        "of an unregistered person": made_by(keys["eve"], open_).planned,
        "approved": asdict(approve(plan, keys["bob"], allowed)),
    }[kind]
    about = {"digest": "plan-2"} if kind == "of another plan" else {}
    forged = replace(plan, planned=planned, **about)
    with pytest.raises(ApprovalRefused, match="The author of this plan is unknown"):
        store.sign(forged, keys["bob"], allowed, is_declined=False)
    with pytest.raises(ApprovalRefused, match="The author of this plan is unknown"):
        judge([], forged, allowed)


@pytest.mark.attack("F3", "a signers line without the right to approve")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("bob@example.com {records} {bob}", "do not include daybook-approval"),
        ("bob@example.com {bob}", "has no namespaces"),
        ('bob@example.com namespaces="file" {bob}', "do not include daybook-approval"),
        ('bob@example.com {both},valid-before="20260101" {bob}', "not valid at this time"),
        ("", "is not in environments/signers"),
    ],
)
def test_a_key_approves_only_while_its_line_allows_it(plan, keys, allowed, line, problem):
    answer = approve(plan, keys["bob"], allowed)
    now = allow(keys, "ann@example.com {both} {ann}", line)
    judged = judge([answer], plan, now)
    assert not judged.approved
    assert problem in judged.ignored[0]
    with pytest.raises(ApprovalRefused, match=problem):
        store.sign(plan, keys["bob"], now, is_declined=False)


@pytest.mark.attack("F3", "a decision about another plan, run, text, target or time")
@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"digest": "plan-2"}, "digest"),
        ({"run": "r2"}, "run"),
        ({"summary": "2 to destroy"}, "summary"),
        ({"made": "2026-11-22T18:00:00Z"}, "made"),
        ({"environment": "staging", "commit": "77b0"}, "environment and commit"),
        ({"target": "sandbox"}, "target"),
        ({"account": "210987654321"}, "account"),
    ],
)
def test_a_decision_about_another_plan_is_invalid(plan, keys, allowed, other, named):
    answer = approve(plan, keys["bob"], allowed, about=plan.about | other)
    judged = judge([answer], plan, allowed)
    assert not judged.approved
    assert f"bob@example.com signed another {named}" in judged.ignored[0]


@pytest.mark.attack("F3", "a signed statement that was changed, or says something else")
def test_a_statement_changed_after_signing_is_invalid(plan, keys, allowed):
    answer = approve(plan, keys["bob"], allowed, statement.DECLINED, reason="no")
    content = json.dumps(answer.content | {"decision": "approved"}, sort_keys=True)
    judged = judge([replace(answer, statement=content)], plan, allowed)
    assert not judged.approved
    assert "the signature does not match the statement" in judged.ignored[0]
    planning = statement.sign(plan.about, PLANNED, keys["bob"], allowed)[0]
    assert not judge([planning], plan, allowed).approved, "a planning statement is not an approval"


@pytest.mark.attack("F3", "invalid objects among the decisions in the bucket")
def test_invalid_objects_in_the_bucket_are_ignored(plan, keys, allowed):
    good = approve(plan, keys["bob"], allowed)
    rubbish = (b"", b"[]", b"\xff", b"[" * 9_000, b'{"statement": 7, "signature": []}')
    bad = [*map(Signed.decode, rubbish), Signed("{}", "x"), Signed("[" * 9_000, "x")]
    judged = judge([*bad, Signed('{"decision": []}', good.signature), good], plan, allowed)
    assert list(judged.approved) == ["bob@example.com"]
    assert len(judged.ignored) == 8


def test_a_missing_key_is_named(plan, tmp_path, allowed):
    with pytest.raises(ApprovalRefused, match="SSH key nobody does not exist"):
        store.sign(plan, tmp_path / "nobody", allowed, is_declined=False)


WORKFLOWS = {
    "another person": ("carol-y", "bob", ""),
    "an app started it": ("renovate[bot]", "bob", "renovate[bot], which is not a person"),
    "who started it": ("Bob-X", "bob", "bob@example.com started the workflow"),
    "a person without a login": ("carol-y", "eve", "no github:LOGIN for eve@example.com"),
}


@pytest.mark.attack("F3", "one person starts a workflow and approves its plan")
@pytest.mark.parametrize("name", WORKFLOWS)
def test_only_another_person_approves_the_plan_of_a_workflow(keys, name):
    actor, approver, problem = WORKFLOWS[name]
    allowed = allow(
        keys,
        "bob@example.com {both} {bob} github:bob-x",
        "eve@example.com {both} {eve}",
        "hello-workflows {records} {hello-workflows}",
    )
    plan = made_by(keys["hello-workflows"], allowed, actor=actor)
    workflow = store.planned_by(plan, allowed)
    assert workflow == Party("hello-workflows", PLANNED, "", actor.casefold())
    judged = judge([approve(plan, keys[approver], allowed)], plan, allowed, workflow)
    assert bool(judged.approved) == (not problem)
    assert problem in "".join(judged.ignored)


@pytest.mark.attack("F3", "a workflow's key approves")
def test_a_workflow_key_never_approves(plan, keys, allowed):
    both = allow(keys, "ann@example.com {both} {ann}", "hello-workflows {both} {hello-workflows}")
    plan = made_by(keys["ann"], both)
    job = JOB | {"actor": "bob-x"}
    answer = statement.sign(plan.about, APPROVED, keys["hello-workflows"], both, workflow=job)[0]
    judged = judge([answer], plan, both)
    assert not judged.approved
    assert "is the key of a workflow, but a person must approve" in judged.ignored[0]


@pytest.mark.attack("F3", "a workflow's key without a workflow, or a person's with one")
def test_a_workflow_key_requires_a_workflow(plan, keys, allowed):
    with pytest.raises(ApprovalRefused, match="hello-workflows is the key of a workflow"):
        statement.sign(plan.about, PLANNED, keys["hello-workflows"], allowed)
    job = JOB | {"actor": "bob-x"}
    with pytest.raises(ApprovalRefused, match="is not the key of a workflow"):
        statement.sign(plan.about, PLANNED, keys["ann"], allowed, workflow=job)


@pytest.mark.attack("F3", "a plan's text that hides a part of itself from the approver")
def test_the_text_of_a_plan_cannot_hide_a_part_of_itself(plan, capsys):
    text = "1 to destroy\x1b[1A\x1b[2K\r0 to destroy \u202egnihton\u200b ─ ✓"
    cli._show(replace(plan, summary=text), ANN)
    shown = capsys.readouterr().out
    assert "1 to destroy\\x1b[1A\\x1b[2K\\r0 to destroy \\u202egnihton\\u200b ─ ✓" in shown
