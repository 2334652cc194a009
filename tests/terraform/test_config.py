"""The Terraform folders against the AWS API alone; these need Terraform, not Docker."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def question(self) -> dict[str, object]:
        """Return it as IAM's policy simulator is asked."""
        entries = [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in self.context.items()
        ]
        asked = {"ActionNames": [self.action], "ResourceArns": [self.resource]}
        return {**asked, "ContextEntries": entries}


REPOSITORY = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/hello"
PARAMETERS = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
BOUNDARY = {"iam:PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/hello-boundary"}
HERE = {"aws:RequestedRegion": "us-east-1", "aws:ResourceTag/app": "hello"}
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
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
    Call("ssm:GetParameter", f"{PARAMETERS}/hello/github/token"),
    Call("ssm:SendCommand", f"arn:aws:ssm:us-east-1:{ACCOUNT}:document/hello-staging-release"),
    Call("cloudwatch:PutMetricData", context={"cloudwatch:namespace": "hello/production"}),
    Call("ec2:DescribeInstances"),
    Call("ec2:CreateSnapshot", "arn:aws:ec2:us-east-1::snapshot/*"),
    Call("s3:GetObject", f"arn:aws:s3:::{BUCKET}/env:/staging/environment/terraform.tfstate"),
    Call("iam:PassRole", f"{ROLES}/hello-staging-host"),
    Call("sts:AssumeRole", f"{ROLES}/hello-github-run"),
)
PUSH_MAY = (Call("ecr:GetAuthorizationToken"), Call("ecr:PutImage", REPOSITORY))
RUN_MAY = (
    Call("ec2:RunInstances", context=HERE),
    Call("ec2:TerminateInstances", context=HERE),
    Call("iam:CreateRole", f"{ROLES}/hello-staging-host", BOUNDARY),
    Call(
        "iam:PassRole", f"{ROLES}/hello-staging-host", {"iam:PassedToService": "ec2.amazonaws.com"}
    ),
    Call("s3:PutObject", f"arn:aws:s3:::{BUCKET}/env:/staging/environment/terraform.tfstate"),
    Call("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/locks/staging.json"),
    Call("s3:PutObject", f"arn:aws:s3:::{RECORDS}/staging/run/record.json"),
    Call("ssm:PutParameter", f"{PARAMETERS}/hello/staging/TOKEN"),
)
NOBODY_MAY = (
    Call("ecr:BatchDeleteImage", REPOSITORY),
    Call("ecr:PutImage", f"{REPOSITORY}-other"),
    Call("ec2:TerminateInstances", context={"aws:RequestedRegion": "us-east-1"}),
    Call("ec2:RunInstances", context={"aws:RequestedRegion": "eu-west-1"}),
    Call("iam:CreateRole", f"{ROLES}/hello-staging-host"),
    Call("iam:CreateRole", f"{ROLES}/admin", BOUNDARY),
    Call("iam:PutRolePolicy", f"{ROLES}/hello-github-run", BOUNDARY),
    Call("iam:DeleteRolePermissionsBoundary", f"{ROLES}/hello-staging-host", BOUNDARY),
    Call("iam:CreatePolicyVersion", BOUNDARY["iam:PermissionsBoundary"]),
    Call("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/eve"),
    Call("s3:PutObject", f"arn:aws:s3:::{BUCKET}/account/terraform.tfstate"),
    Call("s3:DeleteObject", f"arn:aws:s3:::{RECORDS}/staging/run/record.json"),
    Call("s3:BypassGovernanceRetention", f"arn:aws:s3:::{RECORDS}/staging/run"),
    Call("ssm:GetParameter", f"{PARAMETERS}/other/production/TOKEN"),
)

pytestmark = [
    pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH"),
]


@dataclass(frozen=True)
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
    first = cloud.folder("account", "first", github=GITHUB)
    (first.path / "backend.tf").unlink()
    first.terraform("init", "-input=false")
    assert set(map(tuple, first.plan().values())) == {("create",)}
    first.apply()
    account = cloud.folder("account", "account", github=GITHUB)
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
        "boundary": BOUNDARY["iam:PermissionsBoundary"],
        "provider": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
        "github_roles": ["plan", "push", "run"],
    }
    plan = account.plan(adopt=adopt)
    imported = {address for address, actions in plan.items() if actions == ["import"]}
    assert imported == {
        "aws_s3_bucket.state",
        "aws_s3_bucket.records",
        "aws_ecr_repository.this",
        "aws_iam_openid_connect_provider.github[0]",
        "aws_iam_policy.boundary",
        'aws_iam_role.github["plan"]',
        'aws_iam_role.github["push"]',
        'aws_iam_role.github["run"]',
        "aws_route53_zone.this[0]",
    }
    assert {tuple(plan[address]) for address in plan.keys() - imported} == {("create",)}
    account.apply()
    assert account.plan(adopt=adopt) == account.plan() == {}
    assert account.outputs()["zone_id"] == zone


def test_one_branch_and_two_environments_on_github_get_a_role(account: Folder) -> None:
    trusts = {key: role["assume_role_policy"] for key, role in _of_github(account, "role").items()}
    conditions = {
        key: json.loads(trust)["Statement"][0]["Condition"]["StringEquals"]
        for key, trust in trusts.items()
    }
    audience, subject = (f"token.actions.githubusercontent.com:{key}" for key in ("aud", "sub"))
    assert {each[audience] for each in conditions.values()} == {"sts.amazonaws.com"}
    assert conditions["plan"][subject] == "repo:octo-org/hello:pull_request"
    assert conditions["push"][subject] == "repo:octo-org/hello:ref:refs/heads/main"
    assert set(conditions["run"][subject]) == {
        "repo:octo-org/hello:environment:production",
        "repo:octo-org/hello:environment:staging",
    }


def test_github_may_push_images_and_run_daybook_but_not_become_more(
    cloud: Cloud, account: Folder
) -> None:
    policies = {key: each["policy"] for key, each in _of_github(account, "role_policy").items()}
    assert _refused(cloud, policies["push"], PUSH_MAY) == set()
    assert _refused(cloud, policies["push"], RUN_MAY) == set(RUN_MAY)
    assert _refused(cloud, policies["run"], (*PUSH_MAY, *RUN_MAY)) == set()
    assert _refused(cloud, policies["plan"], (*PUSH_MAY, *RUN_MAY)) == {*PUSH_MAY, *RUN_MAY}
    for policy in policies.values():
        assert _refused(cloud, policy, NOBODY_MAY) == set(NOBODY_MAY)


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
    resources = json.loads(folder.terraform("show", "-json"))["values"]["root_module"]["resources"]
    found = [each for each in resources if each["type"] == f"aws_iam_{kind}"]
    return {each["index"]: each["values"] for each in found if each["name"] == "github"}


def _host_may(cloud: Cloud, call: Call) -> bool:
    iam, role = cloud.client("iam"), f"{ROLES}/hello-staging-host"
    answer = iam.simulate_principal_policy(PolicySourceArn=role, **call.question)
    return answer["EvaluationResults"][0]["EvalDecision"] == "allowed"


def _refused(cloud: Cloud, policy: str, calls: Iterable[Call]) -> set[Call]:
    """Return which of the calls a policy by itself does not allow."""
    ask = functools.partial(cloud.client("iam").simulate_custom_policy, PolicyInputList=[policy])
    answers = {call: ask(**call.question)["EvaluationResults"][0] for call in calls}
    return {call for call, said in answers.items() if said["EvalDecision"] != "allowed"}


def _names(folder: Folder, what: str = "plan") -> set[str]:
    shown = folder.terraform("show", "-json", *(["saved"] if what == "plan" else []))
    tree = json.loads(shown)
    values = tree["planned_values"] if what == "plan" else tree["values"]
    found = [resource["values"] for resource in values["root_module"]["resources"]]
    keys = ("name", "key_name")
    return {v[key] for v in found for key in keys if v.get(key) and v[key] != "host"}
