"""A teardown with the AWS API without machines: gates, snapshots, remaining resources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daybook.environment import Environment
from daybook.resources.owned import owned_resources

BIN = Path(sys.executable).parent
ENVS = ("staging", "production")

pytestmark = [
    pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def world(here):
    """Return a project in git with both environments, made with bare Terraform."""
    here.set("production", approvals=0, require_git="any")
    git(here, "init", "--quiet")
    commit(here)
    here.step("bootstrap", "staging")
    for process in [apply(here, env) for env in ENVS]:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return here


def git(here, *args: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    subprocess.run(["git", *who, *args], cwd=here.root, check=True, capture_output=True)


def commit(here) -> None:
    git(here, "add", "--all")
    git(here, "commit", "--quiet", "--allow-empty", "-m", "Settings")


def apply(here, env: str) -> subprocess.Popen[str]:
    """Start `terraform apply` in an environment's workspace, without Daybook."""
    script = f"""
        eval "$(daybook env export {env})"
        cd terraform/environment
        terraform init -input=false && terraform workspace select -or-create {env} &&
        terraform apply -input=false -auto-approve"""
    return shell(here, script)


def shell(here, script: str) -> subprocess.Popen[str]:
    """Start a script with Daybook's tools first on PATH."""
    return subprocess.Popen(
        ["bash", "-ec", script],
        cwd=here.root,
        env=os.environ | {"DAYBOOK_ROOT": str(here.root), "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left(here, env: str) -> list[str]:
    """Return the resources of an environment in AWS."""
    return [str(each) for each in owned_resources(Environment.load(here.root, env))]


def instance(client, env: str) -> dict:
    """Return the environment's instance, even a terminated one."""
    wanted = [{"Name": "tag:environment", "Values": [env]}]
    [group] = client("ec2").describe_instances(Filters=wanted)["Reservations"]
    return group["Instances"][0]


def snapshots(client, env: str) -> list[dict]:
    wanted = [{"Name": "tag:environment", "Values": [env]}]
    return client("ec2").describe_snapshots(OwnerIds=["self"], Filters=wanted)["Snapshots"]


def teardown(here, env: str, *options: str):
    return here.run("run", "teardown", "-p", "env", env, *options)


@pytest.mark.parametrize(
    "typed", [(), ("-p", "confirm", "production")], ids=["no name", "another name"]
)
def test_it_requires_the_name_and_the_approval(world, client, typed):
    before = left(world, "staging")
    done = teardown(world, "staging", "-p", "approve", "auto", *typed)
    assert done.returncode == 4, done.stdout
    assert "expected: -p confirm staging" in done.stdout
    assert "Nothing was changed." in done.stdout
    assert left(world, "staging") == before
    assert instance(client, "staging")["State"]["Name"] == "running"


def test_the_plan_shows_the_resources_and_their_data(world, client):
    done = teardown(world, "staging")
    assert done.returncode == 4, done.stdout
    assert "the environment's name is required as well: -p confirm staging" in done.stdout
    found = instance(client, "staging")
    disk = found["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    changes = world.record("staging", "teardown")["plan"]["changes"]
    assert changes[:2] == [
        f"stop hello-staging-1 ({found['InstanceId']})",
        f"snapshot {disk}, /dev/xvda of hello-staging-1, 20 GiB",
    ]
    assert 'destroy aws_instance.host["1"]' in changes
    assert not [change for change in changes if "production" in change]


def test_a_snapshot_of_an_unknown_disk_cannot_be_declined(world):
    done = teardown(world, "staging", "-p", "skip_snapshots", "vol-0")
    assert done.returncode == 2, done.stdout
    assert "Unknown in skip_snapshots: vol-0" in done.stdout
    assert "hello-staging-1" in done.stdout


@pytest.fixture
def orphans(world, client) -> list[str]:
    """Return the resources of an interrupted apply: they exist in AWS and in no state."""
    script = """
        eval "$(daybook env export staging)"
        cd terraform/environment
        terraform workspace select staging
        terraform state rm 'aws_route53_record.app["staging.daybook.test"]'"""
    said, _ = shell(world, script).communicate(timeout=120)
    assert "Successfully removed 1" in said, said
    whose = {"app": "hello", "environment": "staging", "managed_by": "daybook"}
    tags = [{"Key": key, "Value": value} for key, value in whose.items()]
    vpc = client("ec2").create_vpc(
        CidrBlock="10.99.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": tags}]
    )
    return ["A record staging.daybook.test", f"VPC {vpc['Vpc']['VpcId']}"]


def test_it_destroys_one_environment_keeps_its_data_and_leaves_the_other(world, client, orphans):
    production = left(world, "production")
    said = world.step("teardown", "staging")
    assert left(world, "staging") == []
    assert left(world, "production") == production
    assert instance(client, "production")["State"]["Name"] == "running"
    [kept] = snapshots(client, "staging")
    assert (kept["VolumeSize"], kept["State"]) == (20, "completed")
    assert f"snapshot {kept['SnapshotId']}" in said
    changes = world.record("staging", "teardown")["changes"]
    assert f"snapshot {kept['SnapshotId']}" in [change["action"] for change in changes]
    assert [each["what"] for each in changes if each["action"] == "remove"] == orphans


def test_a_teardown_of_nothing_reports_no_changes(world):
    said = world.step("teardown", "staging")
    assert "No changes" in said
    assert "remains" in said


def test_a_protected_environment_needs_a_committed_permission(world):
    done = teardown(world, "production")
    assert done.returncode == 3, done.stdout
    assert "observed allow_teardown: false" in done.stdout
    world.set("production", allow_teardown=True)
    done = teardown(world, "production")
    assert done.returncode == 3, done.stdout
    assert "observed allow_teardown: true, not committed" in done.stdout
    world.set("production", allow_teardown=False)


def test_provision_refuses_to_lose_a_protected_host(world, client):
    world.set("production", vpc_cidr="10.77.0.0/16")
    done = world.run("run", "provision", "-p", "env", "production", "-p", "approve", "auto")
    world.set("production", vpc_cidr="10.30.0.0/16")
    assert done.returncode == 3, done.stdout
    assert "production is protected" in done.stdout
    assert instance(client, "production")["State"]["Name"] == "running"


@pytest.mark.faults
def test_a_protected_host_is_destroyed_with_permission_and_without_declined_snapshots(
    world, client
):
    found = instance(client, "production")
    with pytest.raises(client("ec2").exceptions.ClientError, match="OperationNotPermitted"):
        client("ec2").terminate_instances(InstanceIds=[found["InstanceId"]])
    world.set("production", allow_teardown=True)
    commit(world)
    skipped = ("-p", "skip_snapshots", "hello-production-1")
    assert teardown(world, "production", *skipped).returncode == 4
    plan = world.record("production", "teardown")["plan"]
    assert plan["changes"][0] == "lift termination protection of hello-production-1"
    approved = ("-p", "approve", plan["digest"], "-p", "confirm", "production")
    done = teardown(world, "production", *approved, *skipped)
    assert done.returncode == 0, done.stdout
    assert left(world, "production") == []
    assert snapshots(client, "production") == []
    changes = world.record("production", "teardown")["changes"]
    assert [change["action"] for change in changes][:2] == ["lifted", "no snapshot"]
