"""The Terraform folders against the AWS API alone; these need Terraform, not Docker."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import boto3
import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_CHANGES, CHANGES = 0, 2
ACCOUNT = "123456789012"
BUCKET = f"hello-state-{ACCOUNT}"
RECORDS = f"hello-records-{ACCOUNT}"
STATE = "account/terraform.tfstate"
KEYS = tuple(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 42}{n} {n}" for n in range(3))
HOST = 'aws_instance.host["1"]'
GITHUB = {"repository": "octo-org/hello"}


@dataclass(frozen=True, eq=False)
class Call:
    """One call of AWS's API, as IAM judges it. context: the condition keys that come with it."""

    action: str
    resource: str = "*"
    context: Mapping[str, str | list[str]] = field(default_factory=dict)

    @property
    def question(self) -> dict[str, object]:
        """Return it as IAM's policy simulator is asked."""
        entries = [
            {"ContextKeyName": key, "ContextKeyValues": _values(value), "ContextKeyType": "string"}
            for key, value in self.context.items()
        ]
        asked = {"ActionNames": [self.action], "ResourceArns": [self.resource]}
        return {**asked, "ContextEntries": entries}


REPOSITORY = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/hello"
PARAMETERS = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
POLICIES = f"arn:aws:iam::{ACCOUNT}:policy"
ENVIRONMENTS = {
    "staging": {"names": ["staging.daybook.test"]},
    "production": {"names": ["daybook.test"], "require_git": "pushed", "approvals": 1},
    # Names that begin with another's.
    "stag": {"names": ["stag.daybook.test"]},
    "staging-1": {"names": ["staging-1.daybook.test"]},
}
HOST_MAY = (
    Call("ecr:GetAuthorizationToken"),
    Call("ecr:BatchGetImage", REPOSITORY),
    Call("ecr:GetDownloadUrlForLayer", REPOSITORY),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/staging/TOKEN"),
    Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello/staging"),
    Call("ssm:UpdateInstanceInformation"),
    Call("ssmmessages:OpenDataChannel"),
    Call("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "hello/staging"}),
)
HOST_MAY_NOT = (
    Call("ecr:PutImage", REPOSITORY),
    Call("ecr:BatchDeleteImage", REPOSITORY),
    Call("ecr:BatchGetImage", f"{REPOSITORY}-other"),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/production/TOKEN"),
    Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello"),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/staging2/TOKEN"),
    Call("ssm:PutParameter", f"{PARAMETERS}/hello/staging/TOKEN"),
    Call("ssm:DescribeParameters"),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/github/staging/token"),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/account/review"),
    Call("ssm:SendCommand", f"arn:aws:ssm:us-east-1:{ACCOUNT}:document/hello-staging-release"),
    Call("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "hello/production"}),
    Call("ec2:DescribeInstances"),
    Call("ec2:CreateSnapshot", "arn:aws:ec2:us-east-1::snapshot/*"),
    Call("s3:GetObject", f"arn:aws:s3:::{BUCKET}/env:/staging/environment/terraform.tfstate"),
    Call("iam:PassRole", f"{ROLES}/hello-staging-host"),
    Call("sts:AssumeRole", f"{ROLES}/hello-github-run-staging"),
)
PUSH_MAY = (Call("ecr:GetAuthorizationToken"), Call("ecr:PutImage", REPOSITORY))
EC2 = f"arn:aws:ec2:us-east-1:{ACCOUNT}"
ALARMS = f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm"
LOGS = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group"
ZONE = "arn:aws:route53:::hostedzone/ZONE"
CHANGED_NAMES = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
TYPES = "route53:ChangeResourceRecordSetsRecordTypes"


def tags(env: str, kind: str = "Resource", app: str = "hello") -> dict[str, str]:
    """Return the condition keys of a resource's tags, or of a request's."""
    return {f"aws:{kind}Tag/app": app, f"aws:{kind}Tag/environment": env}


def run_may(env: str) -> tuple[Call, ...]:
    """Return calls that the workflows of an environment make, and no other's may."""
    name, alarms = f"hello-{env}", f"arn:aws:sns:us-east-1:{ACCOUNT}:hello-{env}-alarms"
    boundary = {"iam:PermissionsBoundary": f"{POLICIES}/{name}-boundary"}
    own, made = tags(env), tags(env, "Request")
    existing = {
        "ec2:TerminateInstances": "instance/i-1",
        "ec2:StopInstances": "instance/i-1",
        "ec2:StartInstances": "instance/i-1",
        "ec2:RebootInstances": "instance/i-1",
        "ec2:ModifyInstanceAttribute": "instance/i-1",
        "ec2:GetConsoleOutput": "instance/i-1",
        "ec2:ReleaseAddress": "elastic-ip/eipalloc-1",
        "ec2:AssociateAddress": "elastic-ip/eipalloc-1",
        "ec2:DisassociateAddress": "elastic-ip/eipalloc-1",
        "ec2:AuthorizeSecurityGroupIngress": "security-group/sg-1",
        "ec2:RevokeSecurityGroupIngress": "security-group/sg-1",
        "ec2:CreateSubnet": "vpc/vpc-1",
        "ec2:CreateRoute": "route-table/rtb-1",
        "ec2:CreateFlowLogs": "vpc/vpc-1",
        "ec2:CreateSnapshot": "volume/vol-1",
        "ec2:DeleteVolume": "volume/vol-1",
        "ec2:DeleteVpc": "vpc/vpc-1",
        "ec2:DeleteTags": "instance/i-1",
        "ec2:CreateTags": "instance/i-1",
    }
    return (
        *(Call(action, f"{EC2}:{resource}", own) for action, resource in existing.items()),
        Call("ec2:RunInstances", f"{EC2}:subnet/subnet-1", own | made),
        Call("ec2:RunInstances", f"{EC2}:instance/*", made),
        Call("ec2:CreateVpc", f"{EC2}:vpc/*", made),
        Call("ec2:CreateTags", f"{EC2}:vpc/*", made | {"ec2:CreateAction": "CreateVpc"}),
        Call("ec2:CreateTags", f"{EC2}:security-group/sg-1", made),
        Call("ec2:DeleteSnapshot", "arn:aws:ec2:us-east-1::snapshot/snap-1", own),
        *(
            Call(f"s3:{verb}Object", f"arn:aws:s3:::{BUCKET}/{path}")
            for verb in ("Get", "Put", "Delete")
            for path in (
                f"env:/{env}/environment/terraform.tfstate",
                f"locks/{env}.json",
                f"waiting/{env}/plan.json",
                f"approvals/{env}/run/request.json",
            )
        ),
        Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": f"approvals/{env}/"}),
        Call("s3:PutObject", f"arn:aws:s3:::{RECORDS}/{env}/run/record.json"),
        Call("s3:GetObject", f"arn:aws:s3:::{RECORDS}/{env}/run/record.json"),
        Call("ssm:PutParameter", f"{PARAMETERS}/hello/{env}/TOKEN"),
        Call("ssm:GetParameter", f"{PARAMETERS}/hello/{env}/TOKEN"),
        Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello/{env}"),
        Call("ssm:GetParameter", f"{PARAMETERS}/hello/github/{env}/key"),
        Call("ssm:GetDocument", f"arn:aws:ssm:us-east-1:{ACCOUNT}:document/{name}-release"),
        *(
            Call(action, f"{ROLES}/{name}-{kind}", boundary)
            for action in ("iam:CreateRole", "iam:PutRolePolicy")
            for kind in ("host", "flow", "release", "snapshots")
        ),
        Call("iam:DeleteRole", f"{ROLES}/{name}-host"),
        Call("iam:UpdateAssumeRolePolicy", f"{ROLES}/{name}-host"),
        Call("iam:PassRole", f"{ROLES}/{name}-host", {"iam:PassedToService": "ec2.amazonaws.com"}),
        Call("iam:GetPolicy", f"{POLICIES}/{name}-boundary"),
        Call(
            "cloudwatch:PutMetricAlarm",
            f"{ALARMS}:{name}-1-cpu",
            {"cloudwatch:AlarmActions": [alarms, "arn:aws:automate:us-east-1:ec2:recover"]},
        ),
        Call("cloudwatch:DeleteAlarms", f"{ALARMS}:{name}-1-cpu"),
        Call("sns:Subscribe", alarms),
        Call("logs:DeleteLogGroup", f"{LOGS}:{name}-flow:*"),
        Call("dlm:CreateLifecyclePolicy", context=made),
        Call("dlm:DeleteLifecyclePolicy", f"arn:aws:dlm:us-east-1:{ACCOUNT}:policy/policy-1", own),
        *(
            Call("route53:ChangeResourceRecordSets", ZONE, {CHANGED_NAMES: [name], TYPES: ["A"]})
            for name in (*ENVIRONMENTS[env]["names"], f"hello-{env}-1.daybook.test")
        ),
    )


STAGING, PRODUCTION = tags("staging"), tags("production")
MADE_IN_STAGING = tags("staging", "Request")
MIXED = PRODUCTION | MADE_IN_STAGING
RUN_MAY = (*run_may("staging"), Call("ssm:GetParameter", f"{PARAMETERS}/hello/account/review"))
# What the workflows of staging may not, by whatever way.
SNEAKING = (
    Call("ec2:CreateTags", f"{EC2}:instance/i-1", MIXED),
    Call("ec2:CreateTags", f"{EC2}:security-group/sg-1", MIXED),
    Call("ec2:CreateTags", f"{EC2}:instance/i-1", STAGING | tags("production", "Request")),
    Call("ec2:CreateTags", f"{EC2}:instance/i-1", MADE_IN_STAGING),
    Call(
        "ec2:AuthorizeSecurityGroupIngress",
        f"{EC2}:security-group/sg-1",
        MIXED,
    ),
    Call("ec2:CreateSubnet", f"{EC2}:vpc/vpc-1", MIXED),
    Call("ec2:CreateFlowLogs", f"{EC2}:vpc/vpc-1", MIXED),
    Call("ec2:CreateFlowLogs", f"{EC2}:subnet/subnet-1", MIXED),
    Call("ec2:RunInstances", f"{EC2}:subnet/subnet-1", MIXED),
    Call("ec2:RunInstances", f"{EC2}:instance/*", tags("production", "Request")),
    Call("ec2:RunInstances", f"{EC2}:instance/*"),
    Call("ec2:AssociateAddress", f"{EC2}:network-interface/eni-1"),
    Call("ec2:ImportKeyPair", f"{EC2}:key-pair/hello-production", MADE_IN_STAGING),
    Call("ec2:CreateSnapshot", f"{EC2}:volume/vol-1", MIXED),
    Call("ec2:ModifySnapshotAttribute", "arn:aws:ec2:us-east-1::snapshot/snap-1", STAGING),
    Call("ec2:TerminateInstances", f"{EC2}:instance/i-1", tags("staging", app="other")),
    Call("ec2:TerminateInstances", f"{EC2}:instance/i-1"),
    Call(
        "route53:ChangeResourceRecordSets",
        ZONE,
        {CHANGED_NAMES: ["staging.daybook.test", "daybook.test"], TYPES: ["A"]},
    ),
    Call(
        "route53:ChangeResourceRecordSets",
        ZONE,
        {CHANGED_NAMES: ["staging.daybook.test"], TYPES: ["NS"]},
    ),
    Call(
        "cloudwatch:PutMetricAlarm",
        f"{ALARMS}:hello-staging-1-cpu",
        {"cloudwatch:AlarmActions": ["arn:aws:automate:us-east-1:ec2:terminate"]},
    ),
    Call(
        "iam:CreateRole",
        f"{ROLES}/hello-staging-host",
        {"iam:PermissionsBoundary": f"{POLICIES}/hello-production-boundary"},
    ),
    Call(
        "iam:PutRolePermissionsBoundary",
        f"{ROLES}/hello-staging-host",
        {"iam:PermissionsBoundary": f"{POLICIES}/hello-production-boundary"},
    ),
    Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": "approvals/"}),
    Call("s3:PutObject", f"arn:aws:s3:::{BUCKET}/locks/account.json"),
    Call("s3:GetObject", f"arn:aws:s3:::{BUCKET}/account/terraform.tfstate"),
    Call("ssm:PutParameter", f"{PARAMETERS}/hello/account/review"),
    Call("ssm:PutParameter", f"{PARAMETERS}/hello/account/reviewed"),
    Call("s3:PutObject", f"arn:aws:s3:::{BUCKET}/reviewed/staging"),
    Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello"),
    Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello/github"),
    Call("sts:AssumeRole", f"{ROLES}/hello-github-run-production"),
)
BOUNDED = {"iam:PermissionsBoundary": f"{POLICIES}/hello-staging-boundary"}
NOBODY_MAY = (
    Call("ecr:BatchDeleteImage", REPOSITORY),
    Call("ecr:PutImage", f"{REPOSITORY}-other"),
    Call("ec2:RunInstances", f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/*", MADE_IN_STAGING),
    Call("iam:CreateRole", f"{ROLES}/hello-staging-host"),
    Call("iam:CreateRole", f"{ROLES}/admin", BOUNDED),
    Call("iam:PutRolePolicy", f"{ROLES}/hello-github-run-staging", BOUNDED),
    Call("iam:DeleteRolePermissionsBoundary", f"{ROLES}/hello-staging-host", BOUNDED),
    Call("iam:CreatePolicyVersion", BOUNDED["iam:PermissionsBoundary"]),
    Call("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/eve"),
    Call("s3:PutObject", f"arn:aws:s3:::{BUCKET}/account/terraform.tfstate"),
    Call("s3:DeleteObject", f"arn:aws:s3:::{RECORDS}/staging/run/record.json"),
    Call("s3:BypassGovernanceRetention", f"arn:aws:s3:::{RECORDS}/staging/run"),
    Call("ssm:GetParameter", f"{PARAMETERS}/other/production/TOKEN"),
)
# What a role under the boundary of staging cannot do, even if its own policy allows everything.
BEYOND_THE_BOUNDARY = (
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/production/TOKEN"),
    Call("ssm:GetParametersByPath", f"{PARAMETERS}/hello"),
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/github/staging/token"),
    Call("ssm:SendCommand", f"arn:aws:ssm:us-east-1:{ACCOUNT}:document/hello-production-release"),
    Call("ssm:SendCommand", "arn:aws:ssm:us-east-1::document/AWS-RunShellScript"),
    Call(
        "ssm:SendCommand",
        f"{EC2}:instance/i-1",
        {"ssm:resourceTag/app": "hello", "ssm:resourceTag/environment": "production"},
    ),
    Call("ec2:CreateTags", "arn:aws:ec2:us-east-1::snapshot/snap-1", PRODUCTION),
    Call("ec2:DeleteSnapshot", "arn:aws:ec2:us-east-1::snapshot/snap-1", PRODUCTION),
    Call("ec2:DeleteSnapshot", "arn:aws:ec2:us-east-1::snapshot/snap-1"),
    Call("ec2:CreateSnapshot", f"{EC2}:volume/vol-1", PRODUCTION),
    Call("ec2:TerminateInstances", f"{EC2}:instance/i-1", STAGING),
    Call("logs:PutLogEvents", f"{LOGS}:hello-production-flow:*"),
    Call("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "hello/production"}),
    Call("s3:GetObject", f"arn:aws:s3:::{BUCKET}/env:/staging/environment/terraform.tfstate"),
)

pytestmark = [
    pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH"),
]


@dataclass(frozen=True, eq=False)
class Folder:
    """One of the project's Terraform folders, in one workspace."""

    path: Path
    env: Mapping[str, str]
    variables: Mapping[str, object]
    workspace: str = "default"

    def terraform(self, *args: str, ok: tuple[int, ...] = (0,), **variables: object) -> str:
        """Run Terraform with these variables and return what it printed."""
        values = {**self.variables, **variables}
        env = dict(self.env) | {"TF_WORKSPACE": self.workspace}
        env |= {
            f"TF_VAR_{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items()
        }
        done = subprocess.run(
            ["terraform", *args],
            cwd=self.path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode in ok, done.stdout
        return done.stdout

    def init(self) -> None:
        backend = [f"bucket={BUCKET}", "region=us-east-1", "use_path_style=true"]
        options = [f"-backend-config={item}" for item in backend]
        Folder(self.path, self.env, {}).terraform("init", "-input=false", *options)

    def plan(self, **variables: object) -> dict[str, list[str]]:
        """Return what a plan would do: {"aws_vpc.this": ["create"]}; imports count as actions."""
        self.terraform("plan", "-input=false", "-out=saved", **variables)
        shown = json.loads(self.terraform("show", "-json", "saved"))
        return {
            change["address"]: actions
            for change in shown["resource_changes"]
            if (actions := _actions(change["change"]))
        }

    def apply(self) -> None:
        self.terraform("apply", "-input=false", "saved")

    def outputs(self) -> dict[str, object]:
        shown = json.loads(self.terraform("output", "-json"))
        return {name: output["value"] for name, output in shown.items()}


@dataclass(frozen=True)
class Cloud:
    """A bare AWS API, and copies of the Terraform folders beside it."""

    env: dict[str, str]
    scratch: Path

    def client(self, service: str):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        url = self.env["AWS_ENDPOINT_URL"]
        return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)

    def folder(self, name: str, to: str, workspace: str = "default", **variables) -> Folder:
        path = self.scratch / to
        left_out = shutil.ignore_patterns("tests", ".terraform", "*.tfstate*")
        shutil.copytree(ROOT / "terraform" / name, path, ignore=left_out)
        common = {"app": "hello", "region": "us-east-1", "zone": "daybook.test"}
        return Folder(path, self.env, common | variables, workspace)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    program = [sys.executable, str(Path(__file__).with_name("bare_aws.py"))]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        yield Cloud(_environment(port), tmp_path_factory.mktemp("terraform"))
        server.terminate()


@pytest.fixture(scope="module")
def account(cloud: Cloud) -> Folder:
    """Bootstrap a new account: local state first, because the bucket is not there yet."""
    first = cloud.folder("account", "first", github=GITHUB, environments=ENVIRONMENTS)
    (first.path / "backend.tf").unlink()
    first.terraform("init", "-input=false")
    assert set(map(tuple, first.plan().values())) == {("create",)}
    first.apply()
    account = cloud.folder("account", "account", github=GITHUB, environments=ENVIRONMENTS)
    account.init()
    account.terraform("state", "push", str(first.path / "terraform.tfstate"))
    return account


@pytest.fixture(scope="module")
def staging(cloud: Cloud, account: Folder) -> Folder:
    options = {"alarm_email": "ops@example.com", "flow_log_days": 7, "snapshot_days": 14}
    own = {"cidr": "10.20.0.0/16", "public_keys": KEYS[:2], **options}
    staging = _environment_folder(cloud, "staging", **own)
    staging.init()
    assert set(map(tuple, staging.plan().values())) == {("create",)}
    staging.apply()
    return staging


@pytest.mark.parametrize("name", ["account", "environment"])
def test_the_validations_refuse_what_they_should(cloud: Cloud, name: str) -> None:
    folder = cloud.folder(name, f"validations-{name}")
    shutil.copytree(ROOT / "terraform" / name / "tests", folder.path / "tests")
    Folder(folder.path, cloud.env, {}).terraform("init", "-backend=false", "-lockfile=readonly")
    said = Folder(folder.path, cloud.env, {}).terraform("test")
    assert "Success!" in said
    assert ", 0 failed" in said


def test_the_account_keeps_its_state_in_the_bucket_it_made(cloud: Cloud, account: Folder) -> None:
    assert account.plan() == {}
    assert account.outputs()["state_bucket"] == BUCKET
    s3 = cloud.client("s3")
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]


def test_a_lost_state_is_adopted_and_nothing_made_twice(cloud: Cloud, account: Folder) -> None:
    zone = account.outputs()["zone_id"]
    cloud.client("s3").delete_object(Bucket=BUCKET, Key=STATE)
    adopt = {
        "state_bucket": BUCKET,
        "records_bucket": RECORDS,
        "repository": "hello",
        "zone": zone,
        "boundaries": {env: f"{POLICIES}/hello-{env}-boundary" for env in ENVIRONMENTS},
        "machines": {env: f"{POLICIES}/hello-github-run-{env}-machines" for env in ENVIRONMENTS},
        "review": "/hello/account/review",
        "provider": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
        "github_roles": ["plan", "push", *(f"run-{env}" for env in ENVIRONMENTS)],
    }
    plan = account.plan(adopt=adopt)
    imported = {address for address, actions in plan.items() if actions == ["import"]}
    assert imported == {
        "aws_s3_bucket.state",
        "aws_s3_bucket.records",
        "aws_ecr_repository.this",
        "aws_iam_openid_connect_provider.github[0]",
        *(f'aws_iam_policy.environment["{env}"]' for env in ENVIRONMENTS),
        *(f'aws_iam_policy.machines["{env}"]' for env in ENVIRONMENTS),
        *(f'aws_iam_role.github["{key}"]' for key in adopt["github_roles"]),
        "aws_route53_zone.this[0]",
        "aws_ssm_parameter.review",
    }
    assert {tuple(plan[address]) for address in plan.keys() - imported} == {("create",)}
    account.apply()
    assert account.plan(adopt=adopt) == account.plan() == {}
    assert account.outputs()["zone_id"] == zone


def test_one_branch_and_each_environment_on_github_get_a_role(account: Folder) -> None:
    trusts = {key: role["assume_role_policy"] for key, role in _of_github(account, "role").items()}
    conditions = {
        key: json.loads(trust)["Statement"][0]["Condition"]["StringEquals"]
        for key, trust in trusts.items()
    }
    audience, subject = (f"token.actions.githubusercontent.com:{key}" for key in ("aud", "sub"))
    assert {each[audience] for each in conditions.values()} == {"sts.amazonaws.com"}
    assert {key: each[subject] for key, each in conditions.items()} == {
        "plan": "repo:octo-org/hello:pull_request",
        "push": "repo:octo-org/hello:ref:refs/heads/main",
        **{f"run-{env}": f"repo:octo-org/hello:environment:{env}" for env in ENVIRONMENTS},
    }


def test_github_may_push_images_and_run_daybook_but_not_become_more(
    cloud: Cloud, account: Folder
) -> None:
    policies, run_calls = _policies(account), _in_zone(account, RUN_MAY)
    assert _refused(cloud, policies["push"], PUSH_MAY) == []
    assert _refused(cloud, policies["push"], run_calls) == run_calls
    assert _refused(cloud, policies["run-staging"], (*PUSH_MAY, *run_calls)) == []
    assert _refused(cloud, policies["plan"], PUSH_MAY) == [*PUSH_MAY]
    for policy in policies.values():
        assert _refused(cloud, policy, NOBODY_MAY) == [*NOBODY_MAY]


@pytest.mark.attack("F6", "the role of one environment touches another")
@pytest.mark.parametrize(("env", "other"), list(itertools.permutations(ENVIRONMENTS, 2)))
def test_the_role_of_an_environment_touches_no_other(
    cloud: Cloud, account: Folder, env: str, other: str
) -> None:
    policy, calls = _policies(account)[f"run-{env}"], _in_zone(account, run_may(other))
    assert _refused(cloud, policy, calls) == calls
    assert _refused(cloud, policy, _in_zone(account, run_may(env))) == []


@pytest.mark.attack("F6", "the role of staging reaches production by tags, roles, names or alarms")
def test_the_role_of_an_environment_takes_no_way_around(cloud: Cloud, account: Folder) -> None:
    calls = _in_zone(account, SNEAKING)
    assert _refused(cloud, _policies(account)["run-staging"], calls) == calls


@pytest.mark.attack("F6", "a role made by staging's workflow reaches production")
def test_a_role_under_the_boundary_of_an_environment_reaches_no_other(
    cloud: Cloud, account: Folder
) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    limit = _resources(account)['aws_iam_policy.environment["staging"]']["policy"]
    refused = _refused(cloud, policy, BEYOND_THE_BOUNDARY, limit)
    assert refused == [*BEYOND_THE_BOUNDARY]
    assert _refused(cloud, policy, HOST_MAY, limit) == []


def test_policies_are_within_what_iam_takes(account: Folder) -> None:
    """IAM counts no white space: 10,240 of a role's own, 6,144 of a managed one."""
    found = _resources(account).items()
    sizes = {at: len(re.sub(r"\s", "", each.get("policy", ""))) for at, each in found}
    own = {at: size for at, size in sizes.items() if at.startswith("aws_iam_role_policy.")}
    managed = {at: size for at, size in sizes.items() if at.startswith("aws_iam_policy.")}
    assert (max(own.values()) <= 10_240, max(managed.values()) <= 6_144) == (True, True), sizes


def test_the_account_notes_what_is_reviewed(account: Folder) -> None:
    assert json.loads(_resources(account)["aws_ssm_parameter.review"]["value"]) == {
        "remote": "",
        "require_git": dict.fromkeys(ENVIRONMENTS, "any") | {"production": "pushed"},
        "approvals": dict.fromkeys(ENVIRONMENTS, 0) | {"production": 1},
    }


def test_a_pushed_state_is_never_written_over(account: Folder) -> None:
    first = account.path.parent / "first/terraform.tfstate"
    refused = account.terraform("state", "push", str(first), ok=(1,))
    assert "lineage" in refused


def test_the_second_plan_of_an_environment_is_empty(staging: Folder) -> None:
    assert staging.plan() == {}


def test_the_hosts_are_what_the_outputs_say(cloud: Cloud, staging: Folder) -> None:
    outputs = staging.outputs()
    (host,) = outputs["instances"]
    (address,) = cloud.client("ec2").describe_addresses(PublicIps=[host["public_ip"]])["Addresses"]
    assert address["InstanceId"] == host["id"]
    assert address["PrivateIpAddress"] == host["private_ip"]
    assert host["name"] == "hello-staging-1"
    assert outputs["urls"] == ["https://staging.daybook.test/"]


@pytest.mark.parametrize("call", HOST_MAY, ids=lambda call: call.action)
def test_a_host_may(cloud: Cloud, staging: Folder, call: Call) -> None:
    assert _host_may(cloud, call)


@pytest.mark.parametrize("call", HOST_MAY_NOT, ids=lambda call: f"{call.action} {call.resource}")
def test_a_host_may_not(cloud: Cloud, staging: Folder, call: Call) -> None:
    assert not _host_may(cloud, call)


def test_the_default_security_group_is_empty(cloud: Cloud, staging: Folder) -> None:
    wanted = [{"Name": "tag:environment", "Values": ["staging"]}]
    groups = cloud.client("ec2").describe_security_groups(Filters=wanted)["SecurityGroups"]
    (default,) = [group for group in groups if group["GroupName"] == "default"]
    assert default["IpPermissions"] == default["IpPermissionsEgress"] == []


def test_alarms_watch_the_host_and_the_first_of_them_recovers_it(
    cloud: Cloud, staging: Folder
) -> None:
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    (host,) = staging.outputs()["instances"]
    found = {each["AlarmName"].removeprefix(f"{host['name']}-"): each for each in alarms}
    assert found.keys() == {"system", "instance", "cpu", "disk"}
    watched = [{"Name": "InstanceId", "Value": host["id"]}]
    assert all(each["Dimensions"] == watched for each in found.values())
    topic = f"arn:aws:sns:us-east-1:{ACCOUNT}:hello-staging-alarms"
    assert all(topic in each["AlarmActions"] for each in found.values())
    assert "arn:aws:automate:us-east-1:ec2:recover" in found["system"]["AlarmActions"]


def test_each_night_the_disk_is_copied(cloud: Cloud, staging: Folder) -> None:
    dlm, ec2 = cloud.client("dlm"), cloud.client("ec2")
    (short,) = dlm.get_lifecycle_policies()["Policies"]
    details = dlm.get_lifecycle_policy(PolicyId=short["PolicyId"])["Policy"]["PolicyDetails"]
    (schedule,) = details["Schedules"]
    assert schedule["RetainRule"] == {"Interval": 14, "IntervalUnit": "DAYS"}
    (tag,) = details["TargetTags"]
    wanted = [{"Name": f"tag:{tag['Key']}", "Values": [tag["Value"]]}]
    (disk,) = ec2.describe_volumes(Filters=wanted)["Volumes"]
    (host,) = staging.outputs()["instances"]
    assert disk["Attachments"][0]["InstanceId"] == host["id"]


def test_flow_logs_go_to_a_group_that_forgets(cloud: Cloud, staging: Folder) -> None:
    (log,) = cloud.client("ec2").describe_flow_logs()["FlowLogs"]
    (group,) = cloud.client("logs").describe_log_groups()["logGroups"]
    assert group["logGroupName"] == "hello-staging-flow"
    assert group["retentionInDays"] == 7
    assert log["LogDestination"] == group["arn"].removesuffix(":*")


def test_a_host_has_a_name_of_its_own(cloud: Cloud, account: Folder, staging: Folder) -> None:
    zone, (host,) = account.outputs()["zone_id"], staging.outputs()["instances"]
    records = cloud.client("route53").list_resource_record_sets(HostedZoneId=zone)
    found = {each["Name"]: each["ResourceRecords"] for each in records["ResourceRecordSets"]}
    assert host["dns_name"] == "hello-staging-1.daybook.test"
    assert found["hello-staging-1.daybook.test."] == [{"Value": host["public_ip"]}]


def test_changed_keys_leave_the_host_alone(staging: Folder) -> None:
    assert staging.plan(public_keys=(KEYS[0], KEYS[2])) == {}
    assert staging.plan(public_keys=KEYS[1:]) == {"aws_key_pair.this": ["delete", "create"]}


def test_another_ami_is_taken_only_when_it_is_asked_for(staging: Folder) -> None:
    assert staging.plan(ami="ami-0123456789abcdef0")[HOST] == ["delete", "create"]
    state = staging.outputs()["ami"]
    assert state == {"newest": "ami-0debian1300000001", "running": ["ami-0debian1300000001"]}


def test_settings_of_another_environment_are_refused(cloud: Cloud, staging: Folder) -> None:
    refused = staging.terraform("plan", "-input=false", ok=(1,), environment="production")
    assert "terraform workspace select production" in " ".join(refused.split())


def test_production_shares_no_name_with_staging(cloud: Cloud, staging: Folder) -> None:
    """A plan alone cannot see a clash of names in AWS, so the planned names are compared."""
    production = _environment_folder(cloud, "production", cidr="10.30.0.0/16", public_keys=KEYS[:1])
    production.init()
    plan = production.plan()
    assert HOST in plan
    assert _names(production).isdisjoint(_names(staging, "state"))


def test_teardown_leaves_nothing_tagged(cloud: Cloud, staging: Folder) -> None:
    staging.terraform("destroy", "-auto-approve")
    assert staging.terraform("state", "list") == ""
    tagged = [{"Name": "tag:environment", "Values": ["staging"]}]
    ec2 = cloud.client("ec2")
    assert ec2.describe_vpcs(Filters=tagged)["Vpcs"] == []
    assert ec2.describe_addresses(Filters=tagged)["Addresses"] == []
    assert ec2.describe_volumes(Filters=tagged)["Volumes"] == []


def _environment(port: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_VAR_"))}
    rc = ROOT / ".cache/terraform.rc"
    mirror = {"TF_CLI_CONFIG_FILE": str(rc)} if rc.exists() else {}
    return {**env, **mirror, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"} | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "TF_IN_AUTOMATION": "1",
        "TF_CLI_ARGS": "-no-color",
        "GOGC": "400",
    }


def _environment_folder(cloud: Cloud, env: str, **variables: object) -> Folder:
    fixed = {"operators": ["203.0.113.7/32"], "instance_type": "t3.small", "disk_gib": 20}
    own = {"environment": env, "names": [f"{env}.daybook.test"], **fixed, **variables}
    return cloud.folder("environment", env, env, **own)


def _actions(change: dict) -> list[str]:
    if change["actions"] not in (["no-op"], ["read"]):
        return change["actions"]
    return ["import"] if change.get("importing") else []


def _of_github(folder: Folder, kind: str) -> dict[str, dict]:
    """Return GitHub's IAM resources by their key: {"push": {"name": …}, "run": …}."""
    begin = f'aws_iam_{kind}.github["'
    found = _resources(folder).items()
    return {at[len(begin) : -2]: each for at, each in found if at.startswith(begin)}


@functools.cache
def _resources(folder: Folder) -> dict[str, dict]:
    """Return what is in a folder's state, by address."""
    shown = json.loads(folder.terraform("show", "-json"))["values"]["root_module"]["resources"]
    return {each["address"]: each["values"] for each in shown if each["mode"] == "managed"}


def _host_may(cloud: Cloud, call: Call) -> bool:
    iam, role = cloud.client("iam"), f"{ROLES}/hello-staging-host"
    answer = iam.simulate_principal_policy(PolicySourceArn=role, **call.question)
    return answer["EvaluationResults"][0]["EvalDecision"] == "allowed"


def _refused(
    cloud: Cloud, policy: str, calls: Iterable[Call], boundary: str | None = None
) -> list[Call]:
    """Return which of the calls a policy by itself does not allow, within a boundary."""
    limits = {"PermissionsBoundaryPolicyInputList": [boundary]} if boundary else {}
    ask = functools.partial(
        cloud.client("iam").simulate_custom_policy, PolicyInputList=[policy], **limits
    )
    answers = ((call, ask(**call.question)["EvaluationResults"][0]) for call in calls)
    return [call for call, said in answers if said["EvalDecision"] != "allowed"]


def _policies(account: Folder) -> dict[str, str]:
    """Return the policies of GitHub's roles by their keys, each as one."""
    found = {key: each["policy"] for key, each in _of_github(account, "role_policy").items()}
    for env in ENVIRONMENTS:
        parts = (
            found[f"run-{env}"],
            _resources(account)[f'aws_iam_policy.machines["{env}"]']["policy"],
        )
        statements = [each for part in parts for each in json.loads(part)["Statement"]]
        found[f"run-{env}"] = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return found


def _in_zone(account: Folder, calls: Iterable[Call]) -> list[Call]:
    """Return the calls with the id of the account's zone in place of ZONE."""
    zone = ZONE.replace("ZONE", _resources(account)["aws_route53_zone.this[0]"]["zone_id"])
    return [replace(call, resource=call.resource.replace(ZONE, zone)) for call in calls]


def _values(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _names(folder: Folder, what: str = "plan") -> set[str]:
    shown = folder.terraform("show", "-json", *(["saved"] if what == "plan" else []))
    tree = json.loads(shown)
    values = tree["planned_values"] if what == "plan" else tree["values"]
    found = [resource["values"] for resource in values["root_module"]["resources"]]
    keys = ("name", "key_name")
    return {v[key] for v in found for key in keys if v.get(key) and v[key] != "host"}
