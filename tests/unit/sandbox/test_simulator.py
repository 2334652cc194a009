"""IAM's policy evaluation."""

from __future__ import annotations

import json

import pytest

from daybook_sandbox.simulator import ALLOWED, DENIED, NOT_ALLOWED, Call, decide


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: object, resource: object = "*", **more: object) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object, resource: object = "*", **more: object) -> dict:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


GET = Call("s3:GetObject", "arn:aws:s3:::own/key", {"region": "here"})
HERE = {"StringEquals": {"region": ["here", "there"]}}
ELSEWHERE = {"StringNotEquals": {"region": ["here", "there"]}}


@pytest.mark.parametrize(
    ("policies", "decision"),
    [
        ([], NOT_ALLOWED),
        ([policy(allow("s3:GetObject"))], ALLOWED),
        ([policy(allow(["s3:PutObject", "S3:get*"], ["arn:aws:s3:::own/*"]))], ALLOWED),
        ([policy(allow("s3:GetObject", "arn:aws:s3:::other/*"))], NOT_ALLOWED),
        ([policy(allow("s3:*")), policy(deny("s3:GetObject"))], DENIED),
        ([policy(allow("s3:*"), deny("s3:Put*"))], ALLOWED),
        ([policy(allow("s3:*", Condition=HERE))], ALLOWED),
        ([policy(allow("s3:*", Condition={"StringEquals": {"region": "far"}}))], NOT_ALLOWED),
        ([policy(allow("s3:*", Condition={"StringEquals": {"tag": "x"}}))], NOT_ALLOWED),
        ([policy(allow("s3:*", Condition={"StringLike": {"region": "he*"}}))], ALLOWED),
        ([policy(allow("*"), deny("*", Condition={"StringNotEquals": {"tag": "x"}}))], DENIED),
        ([policy(allow("*"), deny("*", Condition=ELSEWHERE))], ALLOWED),
    ],
)
def test_a_call_needs_an_allow_and_no_deny(policies, decision):
    assert decide(policies, None, GET) == decision


NAMES = Call("route53:Change", "zone", {"names": ["a.test", "b.test"], "tag": "x"})


@pytest.mark.parametrize(
    ("condition", "decision"),
    [
        ({"ForAllValues:StringEquals": {"names": ["a.test", "b.test", "c.test"]}}, ALLOWED),
        ({"ForAllValues:StringEquals": {"names": ["a.test"]}}, NOT_ALLOWED),
        ({"ForAllValues:StringLike": {"names": ["?.test"]}}, ALLOWED),
        ({"ForAllValues:StringEquals": {"none": ["a"]}}, ALLOWED),
        ({"StringEqualsIfExists": {"none": "a"}}, ALLOWED),
        ({"StringEqualsIfExists": {"tag": "y"}}, NOT_ALLOWED),
        ({"StringLikeIfExists": {"tag": "?"}}, ALLOWED),
        ({"Null": {"tag": "true"}}, NOT_ALLOWED),
        ({"Null": {"none": "true"}}, ALLOWED),
        ({"StringLike": {"none": "*"}}, NOT_ALLOWED),
        ({"StringLike": {"tag": "[x]"}}, NOT_ALLOWED),
    ],
)
def test_conditions_on_multivalued_and_absent_keys(condition, decision):
    assert decide([policy(allow("*", Condition=condition))], None, NAMES) == decision


def test_the_boundary_limits_the_policies():
    everything = [policy(allow("*"))]
    assert decide(everything, policy(allow("s3:*")), GET) == ALLOWED
    assert decide(everything, policy(allow("ec2:*")), GET) == NOT_ALLOWED
    assert decide([], policy(allow("*")), GET) == NOT_ALLOWED


def test_an_unknown_condition_operator_is_an_error():
    unknown = [policy(allow("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))]
    with pytest.raises(KeyError):
        decide(unknown, None, GET)
