"""The Terraform folders against the AWS API alone; these need Terraform, not Docker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_CHANGES, CHANGES = 0, 2
ACCOUNT = "123456789012"
BUCKET = f"hello-state-{ACCOUNT}"
STATE = "account/terraform.tfstate"
KEYS = tuple(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 42}{n} {n}" for n in range(3))
HOST = 'aws_instance.host["1"]'

pytestmark = [
    pytest.mark.sandbox,
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
    first = cloud.folder("account", "first")
    (first.path / "backend.tf").unlink()
    first.terraform("init", "-input=false")
    assert set(map(tuple, first.plan().values())) == {("create",)}
    first.apply()
    account = cloud.folder("account", "account")
    account.init()
    account.terraform("state", "push", str(first.path / "terraform.tfstate"))
    return account


@pytest.fixture(scope="module")
def staging(cloud: Cloud, account: Folder) -> Folder:
    staging = _environment_folder(cloud, "staging", cidr="10.20.0.0/16", public_keys=KEYS[:2])
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
    adopt = {"state_bucket": BUCKET, "repository": "hello", "zone": zone}
    plan = account.plan(adopt=adopt)
    imported = {address for address, actions in plan.items() if actions == ["import"]}
    assert imported == {
        "aws_s3_bucket.state",
        "aws_ecr_repository.this",
        "aws_route53_zone.this[0]",
    }
    assert {tuple(plan[address]) for address in plan.keys() - imported} == {("create",)}
    account.apply()
    assert account.plan(adopt=adopt) == account.plan() == {}
    assert account.outputs()["zone_id"] == zone


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
    assert outputs["urls"] == ["http://staging.daybook.test/"]


def test_a_host_may_pull_its_own_repository_and_nothing_else(cloud: Cloud, staging: Folder) -> None:
    iam = cloud.client("iam")
    assert iam.list_attached_role_policies(RoleName="hello-staging-host")["AttachedPolicies"] == []
    (name,) = iam.list_role_policies(RoleName="hello-staging-host")["PolicyNames"]
    policy = iam.get_role_policy(RoleName="hello-staging-host", PolicyName=name)
    login, pull = policy["PolicyDocument"]["Statement"]
    assert login["Action"] == "ecr:GetAuthorizationToken"
    assert pull["Resource"] == f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/hello"
    assert not any(word in action for action in pull["Action"] for word in ("Put", "Delete", "*"))


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
    }


def _environment_folder(cloud: Cloud, env: str, **variables: object) -> Folder:
    fixed = {"operators": ["203.0.113.7/32"], "instance_type": "t3.small", "disk_gib": 20}
    own = {"environment": env, "names": [f"{env}.daybook.test"], **fixed, **variables}
    return cloud.folder("environment", env, env, **own)


def _actions(change: dict) -> list[str]:
    if change["actions"] != ["no-op"]:
        return change["actions"]
    return ["import"] if change.get("importing") else []


def _names(folder: Folder, what: str = "plan") -> set[str]:
    shown = folder.terraform("show", "-json", *(["saved"] if what == "plan" else []))
    tree = json.loads(shown)
    values = tree["planned_values"] if what == "plan" else tree["values"]
    found = [resource["values"] for resource in values["root_module"]["resources"]]
    keys = ("name", "key_name")
    return {v[key] for v in found for key in keys if v.get(key) and v[key] != "pull"}
