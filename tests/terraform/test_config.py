"""The Terraform configurations against a simulated AWS API. Needs Terraform, not Docker."""

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

from daybook.aws import images

ROOT = Path(__file__).resolve().parents[2]
NO_CHANGES, CHANGES = 0, 2
ACCOUNT = "123456789012"
BUCKET = f"hello-state-{ACCOUNT}"
RECORDS = f"hello-records-{ACCOUNT}"
STATE = "account/terraform.tfstate"
KEYS = tuple(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 42}{n} {n}" for n in range(3))
HOST = 'aws_instance.host["1"]'
GITHUB = {
    "repository": "octo-org/hello",
    "application": "",
    "branches": ["main"],
    "create_provider": True,
}


@dataclass(frozen=True, eq=False)
class Call:
    """An AWS API call that IAM evaluates. context: its condition keys."""

    action: str
    resource: str = "*"
    context: Mapping[str, str | list[str]] = field(default_factory=dict)

    @property
    def simulation(self) -> dict[str, object]:
        """Return the call as parameters of the IAM policy simulator."""
        entries = [
            {"ContextKeyName": key, "ContextKeyValues": _values(value), "ContextKeyType": "string"}
            for key, value in self.context.items()
        ]
        return {
            "ActionNames": [self.action],
            "ResourceArns": [self.resource],
            "ContextEntries": entries,
        }


REPOSITORY = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/hello"
PARAMETERS = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
POLICIES = f"arn:aws:iam::{ACCOUNT}:policy"
ENVIRONMENTS = {
    "staging": {"domains": ["staging.daybook.test"], "require_git": "any", "approvals": 0},
    "production": {"domains": ["daybook.test"], "require_git": "pushed", "approvals": 1},
    # The name of one environment is a prefix of another's.
    "stag": {"domains": ["stag.daybook.test"], "require_git": "any", "approvals": 0},
    "staging-1": {"domains": ["staging-1.daybook.test"], "require_git": "any", "approvals": 0},
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
    """Return the condition keys for the tags of a resource, or of a request."""
    return {f"aws:{kind}Tag/app": app, f"aws:{kind}Tag/environment": env}


def run_may(env: str) -> tuple[Call, ...]:
    """Return calls that only the workflows of this environment may make."""
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
            for name in (*ENVIRONMENTS[env]["domains"], f"hello-{env}-1.daybook.test")
        ),
    )


STAGING, PRODUCTION = tags("staging"), tags("production")
MADE_IN_STAGING = tags("staging", "Request")
MIXED = PRODUCTION | MADE_IN_STAGING
RUN_MAY = (*run_may("staging"), Call("ssm:GetParameter", f"{PARAMETERS}/hello/account/review"))
# Indirect calls that the workflows of staging must not be able to make.
INDIRECT = (
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
NO_ROLE_MAY = (
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
# Calls that the boundary of staging refuses even if the policy of the role allows everything.
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
    """A Terraform configuration of the project in one workspace."""

    path: Path
    env: Mapping[str, str]
    variables: Mapping[str, object]
    workspace: str = "default"

    def terraform(self, *args: str, ok: tuple[int, ...] = (0,), **variables: object) -> str:
        """Run Terraform with these variables and return its output."""
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
        """Return the actions of a plan, imports included: {"aws_vpc.this": ["create"]}."""
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
    """A simulated AWS API, and copies of the Terraform configurations."""

    env: dict[str, str]
    scratch: Path

    def client(self, service: str):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        url = self.env["AWS_ENDPOINT_URL"]
        return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)

    def folder(self, name: str, to: str, workspace: str = "default", **variables) -> Folder:
        path = self.scratch / to
        ignore = shutil.ignore_patterns("tests", ".terraform", "*.tfstate*")
        shutil.copytree(ROOT / "terraform" / name, path, ignore=ignore)
        common = {"app": "hello", "region": "us-east-1", "dns_zone": "daybook.test"}
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
    """Bootstrap a new account, with local state first, because the bucket does not exist yet."""
    variables = {"github": GITHUB, "environments": ENVIRONMENTS, "review_remote": ""}
    first = cloud.folder("account", "first", **variables)
    (first.path / "backend.tf").unlink()
    first.terraform("init", "-input=false")
    assert set(map(tuple, first.plan().values())) == {("create",)}
    first.apply()
    account = cloud.folder("account", "account", **variables)
    account.init()
    account.terraform("state", "push", str(first.path / "terraform.tfstate"))
    return account


@pytest.fixture(scope="module")
def staging(cloud: Cloud, account: Folder) -> Folder:
    options = {"alarm_email": "ops@example.com", "flow_log_days": 7, "snapshot_days": 14}
    staging = _environment_folder(cloud, "staging", public_keys=KEYS[:2], **options)
    staging.init()
    assert set(map(tuple, staging.plan().values())) == {("create",)}
    staging.apply()
    return staging


@pytest.mark.parametrize("name", ["account", "environment"])
def test_terraform_test_passes(cloud: Cloud, name: str) -> None:
    folder = cloud.folder(name, f"tests-{name}")
    shutil.copytree(ROOT / "terraform" / name / "tests", folder.path / "tests")
    Folder(folder.path, cloud.env, {}).terraform("init", "-backend=false", "-lockfile=readonly")
    output = Folder(folder.path, cloud.env, {}).terraform("test")
    assert "Success!" in output
    assert ", 0 failed" in output


def test_the_account_keeps_its_state_in_the_bucket_that_it_creates(
    cloud: Cloud, account: Folder
) -> None:
    assert account.plan() == {}
    assert account.outputs()["state_bucket"] == BUCKET
    s3 = cloud.client("s3")
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]


def test_resources_missing_from_a_lost_state_are_imported(cloud: Cloud, account: Folder) -> None:
    zone = account.outputs()["zone_id"]
    cloud.client("s3").delete_object(Bucket=BUCKET, Key=STATE)
    import_ids = {
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
    plan = account.plan(import_ids=import_ids)
    imported = {address for address, actions in plan.items() if actions == ["import"]}
    assert imported == {
        "aws_s3_bucket.state",
        "aws_s3_bucket.records",
        "aws_ecr_repository.this",
        "aws_iam_openid_connect_provider.github[0]",
        *(f'aws_iam_policy.environment["{env}"]' for env in ENVIRONMENTS),
        *(f'aws_iam_policy.machines["{env}"]' for env in ENVIRONMENTS),
        *(f'aws_iam_role.github["{key}"]' for key in import_ids["github_roles"]),
        "aws_route53_zone.this[0]",
        "aws_ssm_parameter.review",
    }
    assert {tuple(plan[address]) for address in plan.keys() - imported} == {("create",)}
    account.apply()
    assert account.plan(import_ids=import_ids) == account.plan() == {}
    assert account.outputs()["zone_id"] == zone


def test_roles_trust_one_branch_and_each_environment_on_github(account: Folder) -> None:
    trusts = {key: role["assume_role_policy"] for key, role in _of_github(account, "role").items()}
    conditions = {
        key: json.loads(trust)["Statement"][0]["Condition"]["StringEquals"]
        for key, trust in trusts.items()
    }
    audience, subject = (f"token.actions.githubusercontent.com:{key}" for key in ("aud", "sub"))
    assert {condition[audience] for condition in conditions.values()} == {"sts.amazonaws.com"}
    assert {key: condition[subject] for key, condition in conditions.items()} == {
        "plan": "repo:octo-org/hello:pull_request",
        "push": "repo:octo-org/hello:ref:refs/heads/main",
        **{f"run-{env}": f"repo:octo-org/hello:environment:{env}" for env in ENVIRONMENTS},
    }


def test_roles_may_push_images_and_run_daybook_and_nothing_else(
    cloud: Cloud, account: Folder
) -> None:
    policies, run_calls = _policies(account), _in_zone(account, RUN_MAY)
    assert _refused(cloud, policies["push"], PUSH_MAY) == []
    assert _refused(cloud, policies["push"], run_calls) == run_calls
    assert _refused(cloud, policies["run-staging"], (*PUSH_MAY, *run_calls)) == []
    assert _refused(cloud, policies["plan"], PUSH_MAY) == [*PUSH_MAY]
    for policy in policies.values():
        assert _refused(cloud, policy, NO_ROLE_MAY) == [*NO_ROLE_MAY]


@pytest.mark.attack("F6", "the role of one environment touches another")
@pytest.mark.parametrize(("env", "other"), list(itertools.permutations(ENVIRONMENTS, 2)))
def test_the_role_of_an_environment_touches_no_other(
    cloud: Cloud, account: Folder, env: str, other: str
) -> None:
    policy, calls = _policies(account)[f"run-{env}"], _in_zone(account, run_may(other))
    assert _refused(cloud, policy, calls) == calls
    assert _refused(cloud, policy, _in_zone(account, run_may(env))) == []


@pytest.mark.attack("F6", "the role of staging reaches production by tags, roles, names or alarms")
def test_the_role_of_an_environment_reaches_no_other_indirectly(
    cloud: Cloud, account: Folder
) -> None:
    calls = _in_zone(account, INDIRECT)
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


def test_policies_are_within_the_limits_of_iam(account: Folder) -> None:
    """Without white space: 10,240 characters for inline policies, 6,144 for a managed policy."""
    policies = {
        address: values["policy"]
        for address, values in _resources(account).items()
        if address.startswith(("aws_iam_role_policy.", "aws_iam_policy."))
    }
    sizes = {address: len(re.sub(r"\s", "", policy)) for address, policy in policies.items()}
    inline = [size for address, size in sizes.items() if address.startswith("aws_iam_role_policy.")]
    managed = [size for address, size in sizes.items() if address.startswith("aws_iam_policy.")]
    assert (max(inline) <= 10_240, max(managed) <= 6_144) == (True, True), sizes


def test_the_account_stores_the_review_requirements(account: Folder) -> None:
    assert json.loads(_resources(account)["aws_ssm_parameter.review"]["value"]) == {
        "remote": "",
        "require_git": dict.fromkeys(ENVIRONMENTS, "any") | {"production": "pushed"},
        "approvals": dict.fromkeys(ENVIRONMENTS, 0) | {"production": 1},
    }


def test_a_pushed_state_is_never_overwritten(account: Folder) -> None:
    first = account.path.parent / "first/terraform.tfstate"
    refused = account.terraform("state", "push", str(first), ok=(1,))
    assert "lineage" in refused


def test_the_second_plan_of_an_environment_is_empty(staging: Folder) -> None:
    assert staging.plan() == {}


def test_the_outputs_match_the_hosts(cloud: Cloud, staging: Folder) -> None:
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
    filters = [{"Name": "tag:environment", "Values": ["staging"]}]
    groups = cloud.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    (default,) = [group for group in groups if group["GroupName"] == "default"]
    assert default["IpPermissions"] == default["IpPermissionsEgress"] == []


def test_alarms_watch_the_host_and_the_system_alarm_recovers_it(
    cloud: Cloud, staging: Folder
) -> None:
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    (host,) = staging.outputs()["instances"]
    by_kind = {alarm["AlarmName"].removeprefix(f"{host['name']}-"): alarm for alarm in alarms}
    assert by_kind.keys() == {"system", "instance", "cpu", "disk"}
    dimensions = [{"Name": "InstanceId", "Value": host["id"]}]
    assert all(alarm["Dimensions"] == dimensions for alarm in alarms)
    topic = f"arn:aws:sns:us-east-1:{ACCOUNT}:hello-staging-alarms"
    assert all(topic in alarm["AlarmActions"] for alarm in alarms)
    assert "arn:aws:automate:us-east-1:ec2:recover" in by_kind["system"]["AlarmActions"]


def test_the_disk_has_a_daily_snapshot(cloud: Cloud, staging: Folder) -> None:
    dlm, ec2 = cloud.client("dlm"), cloud.client("ec2")
    (short,) = dlm.get_lifecycle_policies()["Policies"]
    details = dlm.get_lifecycle_policy(PolicyId=short["PolicyId"])["Policy"]["PolicyDetails"]
    (schedule,) = details["Schedules"]
    assert schedule["RetainRule"] == {"Interval": 14, "IntervalUnit": "DAYS"}
    (tag,) = details["TargetTags"]
    filters = [{"Name": f"tag:{tag['Key']}", "Values": [tag["Value"]]}]
    (disk,) = ec2.describe_volumes(Filters=filters)["Volumes"]
    (host,) = staging.outputs()["instances"]
    assert disk["Attachments"][0]["InstanceId"] == host["id"]


def test_flow_logs_have_a_limited_retention(cloud: Cloud, staging: Folder) -> None:
    (log,) = cloud.client("ec2").describe_flow_logs()["FlowLogs"]
    (group,) = cloud.client("logs").describe_log_groups()["logGroups"]
    assert group["logGroupName"] == "hello-staging-flow"
    assert group["retentionInDays"] == 7
    assert log["LogDestination"] == group["arn"].removesuffix(":*")


def test_a_host_has_a_dns_name(cloud: Cloud, account: Folder, staging: Folder) -> None:
    zone, (host,) = account.outputs()["zone_id"], staging.outputs()["instances"]
    records = cloud.client("route53").list_resource_record_sets(HostedZoneId=zone)
    values = {record["Name"]: record["ResourceRecords"] for record in records["ResourceRecordSets"]}
    assert host["dns_name"] == "hello-staging-1.daybook.test"
    assert values["hello-staging-1.daybook.test."] == [{"Value": host["public_ip"]}]


def test_changed_keys_do_not_change_the_host(staging: Folder) -> None:
    assert staging.plan(public_keys=(KEYS[0], KEYS[2])) == {}
    assert staging.plan(public_keys=KEYS[1:]) == {"aws_key_pair.this": ["delete", "create"]}


def test_another_ami_replaces_the_host_only_on_request(staging: Folder) -> None:
    assert staging.plan(ami="ami-0123456789abcdef0")[HOST] == ["delete", "create"]
    state = staging.outputs()["ami"]
    assert state == {"newest": "ami-0debian1300000001", "running": ["ami-0debian1300000001"]}


def test_the_workspace_of_another_environment_is_refused(cloud: Cloud, staging: Folder) -> None:
    for command in ("plan", "apply"):
        refused = staging.terraform(command, "-input=false", ok=(1,), environment="production")
        assert "terraform workspace select production" in " ".join(refused.split())


def test_production_shares_no_names_with_staging(cloud: Cloud, staging: Folder) -> None:
    """A plan does not detect name conflicts in AWS, so the planned names are compared."""
    production = _environment_folder(cloud, "production", vpc_cidr="10.30.0.0/16")
    production.init()
    plan = production.plan()
    assert HOST in plan
    assert _names(production, planned=True).isdisjoint(_names(staging, planned=False))


def test_destroy_leaves_no_tagged_resources(cloud: Cloud, staging: Folder) -> None:
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
    defaults = {
        "environment": env,
        "domains": [f"{env}.daybook.test"],
        "vpc_cidr": "10.20.0.0/16",
        "ssh_allowed_cidrs": ["203.0.113.7/32"],
        "public_keys": KEYS[:1],
        "instance_type": "t3.small",
        "instance_count": 1,
        "disk_gib": 20,
        "ami": "",
        "debian_images": {"owner": images.DEBIAN, "names": list(images.NAMES)},
        "port": 8000,
        "deletion_protection": False,
        "deploy_via": "none",
        "github": {"repository": "", "branch": "main"},
        "snapshot_days": 0,
        "alarm_email": "",
        "flow_log_days": 0,
    }
    return cloud.folder("environment", env, env, **defaults | variables)


def _actions(change: dict) -> list[str]:
    if change["actions"] not in (["no-op"], ["read"]):
        return change["actions"]
    return ["import"] if change.get("importing") else []


def _of_github(folder: Folder, kind: str) -> dict[str, dict]:
    """Return the IAM resources of GitHub workflows by key: {"push": {"name": …}, "plan": …}."""
    prefix = f'aws_iam_{kind}.github["'
    return {
        address.removeprefix(prefix).removesuffix('"]'): values
        for address, values in _resources(folder).items()
        if address.startswith(prefix)
    }


@functools.cache
def _resources(folder: Folder) -> dict[str, dict]:
    """Return the managed resources of a state by address."""
    shown = json.loads(folder.terraform("show", "-json"))["values"]["root_module"]["resources"]
    managed = (resource for resource in shown if resource["mode"] == "managed")
    return {resource["address"]: resource["values"] for resource in managed}


def _host_may(cloud: Cloud, call: Call) -> bool:
    iam, role = cloud.client("iam"), f"{ROLES}/hello-staging-host"
    simulated = iam.simulate_principal_policy(PolicySourceArn=role, **call.simulation)
    return simulated["EvaluationResults"][0]["EvalDecision"] == "allowed"


def _refused(
    cloud: Cloud, policy: str, calls: Iterable[Call], boundary: str | None = None
) -> list[Call]:
    """Return the calls that a policy does not allow, within a boundary."""
    limits = {"PermissionsBoundaryPolicyInputList": [boundary]} if boundary else {}
    simulate = functools.partial(
        cloud.client("iam").simulate_custom_policy, PolicyInputList=[policy], **limits
    )
    results = ((call, simulate(**call.simulation)["EvaluationResults"][0]) for call in calls)
    return [call for call, result in results if result["EvalDecision"] != "allowed"]


def _policies(account: Folder) -> dict[str, str]:
    """Return the policy of each GitHub role by key; the two policies of a run role are merged."""
    inline = _of_github(account, "role_policy")
    policies = {key: values["policy"] for key, values in inline.items()}
    for env in ENVIRONMENTS:
        parts = (
            policies[f"run-{env}"],
            _resources(account)[f'aws_iam_policy.machines["{env}"]']["policy"],
        )
        statements = [statement for part in parts for statement in json.loads(part)["Statement"]]
        policies[f"run-{env}"] = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return policies


def _in_zone(account: Folder, calls: Iterable[Call]) -> list[Call]:
    """Return the calls, with ZONE replaced by the id of the account's zone."""
    zone = ZONE.replace("ZONE", _resources(account)["aws_route53_zone.this[0]"]["zone_id"])
    return [replace(call, resource=call.resource.replace(ZONE, zone)) for call in calls]


def _values(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _names(folder: Folder, *, planned: bool) -> set[str]:
    shown = json.loads(folder.terraform("show", "-json", *(["saved"] if planned else [])))
    tree = shown["planned_values"] if planned else shown["values"]
    resources = [resource["values"] for resource in tree["root_module"]["resources"]]
    names = {values.get(key) for values in resources for key in ("name", "key_name")}
    return names - {None, "", "host"}
