"""Assuming a role with GitHub's token, and the session's permissions."""

from __future__ import annotations

import json
from dataclasses import replace

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.core.authorization import ActionAuthenticatorMixin
from moto.ecr.responses import ECRResponse
from moto.sts.responses import TokenResponse

from daybook_sandbox import logins, permissions, webidentity
from daybook_sandbox.api import REGION
from daybook_sandbox.ecr import Ecr, RegistryRequest
from daybook_sandbox.github.messages import github
from daybook_sandbox.github.oidc import HOST, Issuer
from daybook_sandbox.github.runs import Run, RunJob, TriggerEvent
from daybook_sandbox.github.workflow import JobDefinition

SUBJECT = "repo:daybook/hello:ref:refs/heads/staging"
PROVIDER = f"arn:aws:iam::123456789012:oidc-provider/{HOST}"
ROLE = "arn:aws:iam::123456789012:role/hello-github-push"


def job(
    ref: str = "refs/heads/staging", repository: str = "daybook/hello", env: str = ""
) -> RunJob:
    run = Run(
        1, 1, TriggerEvent("push", repository, ref, "a" * 40, "ada"), ".github/workflows/deploy.yml"
    )
    run.github = github(run, "http://127.0.0.1")
    return RunJob(1, run, JobDefinition("build", "build", (), ()), environment=env)


@pytest.fixture
def issuer(world, monkeypatch):
    """Return GitHub's issuer, in an account with a role for one branch."""
    monkeypatch.setattr(
        TokenResponse,
        "assume_role_with_web_identity",
        TokenResponse.assume_role_with_web_identity,
    )
    github_issuer = Issuer()
    webidentity.patch(github_issuer.claims)
    iam = world.client("iam")
    iam.create_open_id_connect_provider(
        Url=f"https://{HOST}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40]
    )
    equal = {f"{HOST}:sub": [SUBJECT], f"{HOST}:aud": ["sts.amazonaws.com"]}
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": [PROVIDER]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": equal},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName="hello-github-push", AssumeRolePolicyDocument=document)
    return github_issuer


def assume(token: str, role: str = ROLE) -> dict:
    sts = boto3.client("sts", region_name=REGION, config=Config(signature_version=UNSIGNED))
    answer = sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="GitHubActions", WebIdentityToken=token
    )
    return answer["Credentials"]


def test_the_branch_in_the_trust_policy_gets_the_role(issuer):
    assert assume(issuer.token(job(), "sts.amazonaws.com"))["SessionToken"]


@pytest.mark.parametrize(
    ("asks", "audience", "role", "code"),
    [
        (job("refs/heads/other"), "sts.amazonaws.com", ROLE, "AccessDenied"),
        (job(repository="else/hello"), "sts.amazonaws.com", ROLE, "AccessDenied"),
        (job(env="staging"), "sts.amazonaws.com", ROLE, "AccessDenied"),
        (job(), "sts.amazonaws.com", f"{ROLE}-2", "AccessDenied"),
        (job(), "https://github.com/daybook", ROLE, "InvalidIdentityToken"),
    ],
    ids=["branch", "repository", "environment", "role", "audience"],
)
def test_other_tokens_and_roles_are_refused(issuer, asks, audience, role, code):
    with pytest.raises(ClientError) as refused:
        assume(issuer.token(asks, audience), role)
    assert refused.value.response["Error"]["Code"] == code


def test_a_token_of_another_issuer_is_invalid(issuer):
    with pytest.raises(ClientError) as refused:
        assume(Issuer().token(job(), "sts.amazonaws.com"))
    assert refused.value.response["Error"]["Code"] == "InvalidIdentityToken"


def test_the_session_is_limited_to_its_role(issuer, world, monkeypatch):
    monkeypatch.setattr(
        ActionAuthenticatorMixin,
        "_authenticate_and_authorize_action",
        permissions._authorize,
    )
    allow = {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
    world.client("iam").put_role_policy(
        RoleName="hello-github-push",
        PolicyName="push",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
    )
    credentials = assume(issuer.token(job(), "sts.amazonaws.com"))
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    session = boto3.Session(*keys, REGION)
    assert session.client("ecr").get_authorization_token()["authorizationData"]
    with pytest.raises(ClientError) as refused:
        session.client("ecr").describe_repositories()
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_the_registry_login_is_limited_to_the_role(issuer, world, monkeypatch):
    monkeypatch.setattr(ECRResponse, "get_authorization_token", ECRResponse.get_authorization_token)
    logins.patch()
    for name in ("hello", "other"):
        world.client("ecr").create_repository(repositoryName=name)
    repository = "arn:aws:ecr:us-east-1:123456789012:repository/hello"
    login = {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
    allow = {"Effect": "Allow", "Action": "ecr:*", "Resource": repository}
    world.client("iam").put_role_policy(
        RoleName="hello-github-push",
        PolicyName="push",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [login, allow]}),
    )
    credentials = assume(issuer.token(job(), "sts.amazonaws.com"))
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    authorization = boto3.Session(*keys, REGION).client("ecr").get_authorization_token()
    login = f"Basic {authorization['authorizationData'][0]['authorizationToken']}"
    push = RegistryRequest("PUT", "hello", "manifests", "1", login, "")
    ecr = Ecr(world.cloud)
    assert ecr.refusal(push) is None
    assert ecr.refusal(replace(push, repository="other")).code == "DENIED"
    assert ecr.refusal(replace(push, authorization=f"{login}x")).code == "UNAUTHORIZED"
