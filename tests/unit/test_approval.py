"""Which answers of a second person count: real keys, real signatures."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from daybook.errors import ApprovalRefused
from daybook.gates import approval
from daybook.gates.waiting import Waiting
from daybook.record import signing

BASIS = {
    "environment": "production",
    "step": "provision",
    "account": "123456789012",
    "region": "us-east-1",
    "target": "aws",
    "commit": "3fa9c2",
    "state": "serial 7 of 3f2a",
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return a private key for each person."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ann", "bob", "eve"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name],
            check=True,
        )
    return {name: folder / name for name in ("ann", "bob", "eve")}


@pytest.fixture
def root(tmp_path, keys):
    """Return a project in which Ann and Bob may approve."""
    (tmp_path / "environments").mkdir()
    lines = [
        f'{name}@example.com namespaces="daybook-record,daybook-approval" '
        f"{signing.public_key(keys[name])}\n"
        for name in ("ann", "bob")
    ]
    (tmp_path / "environments/signers").write_text("# who may sign\n" + "".join(lines))
    return tmp_path


@pytest.fixture
def plan(keys):
    """Return a plan of Ann's."""
    operator = {"name": "Ann", "email": "ann@home.example", "user": "ann"}
    operator["key"] = signing.fingerprint(signing.public_key(keys["ann"]))
    return Waiting("r1", "plan-1", "2026-11-23T18:00:00Z", BASIS, operator, "1 to destroy")


def judge(answers, plan, root, operator=None):
    operators = approval.identities(operator or plan.operator, root)
    return approval.judge(answers, plan, root, operators)


def test_another_persons_signature_approves(root, plan, keys):
    answer = approval.sign(plan, keys["bob"], root, is_declined=False)
    judged = judge([answer], plan, root)
    assert judged == approval.Judgement({"bob@example.com": answer}, {}, ())
    assert answer.said["digest"] == "plan-1"
    assert answer.said["time"]


def test_declining_says_why_and_approves_nothing(root, plan, keys):
    answer = approval.sign(plan, keys["bob"], root, reason="not today", is_declined=True)
    judged = judge([answer], plan, root)
    assert (judged.approved, list(judged.declined)) == ({}, ["bob@example.com"])
    assert answer.said["reason"] == "not today"


@pytest.mark.parametrize(
    ("who", "problem"), [("ann", "is the operator"), ("eve", "is not in environments/signers")]
)
def test_who_does_not_count_is_told_before_anything_is_sent(root, plan, keys, who, problem):
    with pytest.raises(ApprovalRefused, match=problem):
        approval.sign(plan, keys[who], root, is_declined=False)


def test_a_key_for_records_alone_approves_nothing(root, plan, keys):
    signers = root / "environments/signers"
    signers.write_text(signers.read_text().replace(",daybook-approval", ""))
    with pytest.raises(ApprovalRefused, match="is not in environments/signers"):
        approval.sign(plan, keys["bob"], root, is_declined=False)


@pytest.mark.parametrize(
    "operator", [{"email": "BOB@example.com"}, {"key": "bob's"}], ids=["address", "key"]
)
def test_nobody_approves_what_they_apply_themselves(root, plan, keys, operator):
    answer = approval.sign(plan, keys["bob"], root, is_declined=False)
    if "key" in operator:
        operator = {"key": signing.fingerprint(signing.public_key(keys["bob"]))}
    judged = judge([answer], plan, root, operator)
    assert not judged.approved
    assert "bob@example.com is the operator of this plan" in judged.ignored[0]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"digest": "plan-2"}, "digest"),
        ({"run": "r2"}, "run"),
        ({"summary": "2 to destroy"}, "summary"),
        ({"basis": BASIS | {"environment": "staging", "commit": "77b0"}}, "environment and commit"),
        ({"basis": BASIS | {"target": "sandbox"}}, "target"),
        ({"basis": BASIS | {"account": "210987654321"}}, "account"),
    ],
)
def test_an_answer_about_another_plan_does_not_count(root, plan, keys, other, named):
    answer = approval.sign(replace(plan, **other), keys["bob"], root, is_declined=False)
    judged = judge([answer], plan, root)
    assert not judged.approved
    assert f"bob@example.com answered for another {named}" in judged.ignored[0]


def test_a_statement_changed_after_it_was_signed_does_not_count(root, plan, keys):
    answer = approval.sign(plan, keys["bob"], root, is_declined=True, reason="no")
    said = json.dumps(answer.said | {"decision": "approved"}, sort_keys=True)
    judged = judge([replace(answer, statement=said)], plan, root)
    assert not judged.approved
    assert "its signature is not of what it says" in judged.ignored[0]


def test_rubbish_in_the_bucket_stops_nothing(root, plan, keys):
    good = approval.sign(plan, keys["bob"], root, is_declined=False)
    bad = [approval.Answer.decode(b"[]"), approval.Answer("{}", "x")]
    judged = judge([*bad, good], plan, root)
    assert list(judged.approved) == ["bob@example.com"]
    assert len(judged.ignored) == 2


def test_a_key_that_is_not_there_is_said(root, plan):
    with pytest.raises(ApprovalRefused, match="there is no SSH key nobody"):
        approval.sign(plan, root / "nobody", root, is_declined=False)


def test_an_operator_is_known_by_each_of_their_names(root, plan):
    known = approval.identities(plan.operator, root)
    assert known == {plan.operator["key"], "ann@home.example", "ann@example.com"}
