"""The whole life of the application, in staging and beside it in production.

The tests of this file go through that life in their order.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import dns.resolver
import httpx
import pytest

from daybook import inventory, probe

# Names and networks of this session's own: two may share a sandbox.
APP = f"life{os.getpid()}"
NETWORK = 160 + os.getpid() % 40 * 2
NAMES = {"staging": f"staging.{APP}.test", "production": f"www.{APP}.test"}
CIDRS = {"staging": f"10.{NETWORK}.0.0/16", "production": f"10.{NETWORK + 1}.0.0/16"}
ACCOUNT = "123456789012"
OURS = [{"Name": "tag:app", "Values": [APP]}]

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def world(sandbox, copy_project, make_project):
    """Return a project of its own in the sandbox; what is left of it goes at the end."""
    root = copy_project(APP)
    (root / ".sandbox").symlink_to(sandbox.root / ".sandbox")
    world = make_project(root)
    for env, name in NAMES.items():
        own = {"app": APP, "zone": f"{APP}.test", "names": [name], "cidr": CIDRS[env]}
        world.set(env, **own, protected=False)
    world.step("bootstrap", "staging")
    yield world
    for env in NAMES:
        if (root / "ansible/inventories" / env).exists():
            world.step("teardown", env)


@pytest.fixture(scope="module")
def provisioned(world):
    """Provision both at once: staging with plain papermill, production in two halves."""
    parameters = ("-p", "env", "staging", "-p", "approve", "auto")
    options = ("--no-progress-bar", "notebooks/provision.ipynb", "out.ipynb", *parameters)
    with world.start("papermill", *options) as staging:
        _provision_interrupted(world)
        world.step("provision", "production")
        said = staging.communicate(timeout=600)[0]
    assert staging.returncode == 0, said
    return world


@pytest.fixture(scope="module")
def configured(provisioned):
    both(provisioned, "configure")
    return provisioned


@pytest.fixture(scope="module")
def serving(configured):
    both(configured, "first-deploy")
    return configured


def both(world, step: str) -> None:
    """Run a step for both environments at once, each to its good end."""
    started = [
        world.start("daybook", "run", step, "-p", "env", env, "-p", "approve", "auto")
        for env in NAMES
    ]
    said = [process.communicate(timeout=900)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)


def _provision_interrupted(world) -> None:
    parameters = ("-p", "env", "production", "-p", "approve", "auto")
    with world.start("daybook", "run", "provision", *parameters) as process:
        world.wait_for(process, r"created +aws_subnet")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=240)[0]
    assert process.returncode == 130, said


def address(world, env: str) -> str:
    """Return the Elastic IP of an environment's machine, from the inventory."""
    [found] = inventory.read(world.root / "ansible/inventories" / env).values()
    return found


def resolve(sandbox, name: str) -> list[str]:
    """Ask the sandbox's name server as anybody would ask the internet's."""
    host, port = sandbox.env["DAYBOOK_NAMESERVER"].split(":")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], int(port)
    return [answer.to_text() for answer in resolver.resolve(name, "A")]


def version(sandbox, env: str) -> dict:
    """Return what the application says of itself, fetched by its public name."""
    return probe.fetch(f"https://{NAMES[env]}/version", sandbox.env).raise_for_status().json()


def shell(world, lines: str, stdin: str = "") -> str:
    """Run lines of a shell as an operator types them, after `daybook env export staging`."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'eval "$(daybook env export staging)"\n{lines}'],
        cwd=world.root,
        env=os.environ | {"PATH": tools, "DAYBOOK_ROOT": str(world.root)},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_interrupted_provision_is_completed_by_the_next(provisioned):
    record = provisioned.record("production", "provision")
    assert record["status"] == "succeeded"
    changes = " ".join(str(change) for change in record["changes"])
    assert "11 added" not in changes
    folders = sorted((provisioned.root / "runs/production").glob("*-provision-*"))
    assert len(folders) == 2


def test_papermill_alone_leaves_the_same_record(provisioned):
    theirs = provisioned.record("staging", "provision")
    ours = provisioned.record("production", "provision")
    assert theirs["status"] == "succeeded"
    assert theirs["changes"]
    assert theirs.keys() == ours.keys()
    assert [phase["name"] for phase in theirs["phases"]] == [
        phase["name"] for phase in ours["phases"]
    ]
    assert (provisioned.root / "out.ipynb").is_file()


def test_the_page_answers_under_its_name_and_says_where_it_runs(serving, sandbox):
    for env, name in NAMES.items():
        assert resolve(sandbox, name) == [address(serving, env)]
        assert version(sandbox, env)["environment"] == env
    commit = serving.record("staging", "first-deploy")["plan"]["changes"]
    assert version(sandbox, "staging")["version"] in " ".join(commit)


def test_neither_environment_reaches_the_other(serving, sandbox):
    get = "curl --silent --show-error --max-time 5 --output /dev/null http://{}/"
    own = sandbox.run("sandbox", "ssh", f"{APP}-staging-1", get.format("127.0.0.1"))
    assert own.returncode == 0, own.stdout
    addresses = sandbox.succeed(
        "sandbox", "ssh", f"{APP}-production-1", "hostname --all-ip-addresses"
    )
    target = next(word for word in addresses.split() if word.startswith(f"10.{NETWORK + 1}."))
    tried = sandbox.run("sandbox", "ssh", f"{APP}-staging-1", get.format(target))
    assert tried.returncode in (7, 28)


@pytest.mark.parametrize("step", ["provision", "first-deploy"])
def test_a_step_again_changes_nothing_and_says_so(serving, step):
    said = serving.succeed("run", step, "-p", "env", "staging")
    assert "no changes" in said.lower()
    assert serving.record("staging", step)["approvals"][0]["how"] == "not needed"


def test_configure_again_changes_nothing(serving):
    assert "no changes" in serving.step("configure", "staging").lower()


def test_the_articles_terraform_commands_work_as_they_stand(serving):
    said = shell(
        serving,
        "cd terraform/environment && terraform workspace select staging && terraform apply",
        stdin="yes\n",
    )
    assert "No changes." in said
    assert "0 added, 0 changed, 0 destroyed" in said


def test_the_articles_ansible_command_works_as_it_stands(serving, sandbox):
    key = shlex.quote(sandbox.env["DAYBOOK_SSH_KEY"])
    said = shell(
        serving,
        f"AWS_ACCOUNT_ID={ACCOUNT} AWS_REGION=us-east-1 ansible-playbook --private-key {key}"
        " -i ansible/inventories/staging ansible/staging.yml",
    )
    assert re.search(rf"{APP}-staging-1 +: ok=\d+ +changed=0 +unreachable=0 +failed=0", said), said


def test_drift_is_found_with_who_changed_it_and_nothing_is_changed(serving, sandbox):
    assert "no drift" in serving.succeed("run", "drift", "-p", "env", "staging")
    ec2 = ec2_of(sandbox)
    wanted = [{"Name": "group-name", "Values": [f"{APP}-staging-host"]}]
    [group] = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    rule = {"IpProtocol": "tcp", "CidrIp": "0.0.0.0/0", "FromPort": 22, "ToPort": 22}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], **rule)
    ec2.create_tags(Resources=[group["GroupId"]], Tags=[{"Key": "Name", "Value": "mine"}])
    append = "echo '# by hand' | sudo tee --append /etc/caddy/Caddyfile"
    sandbox.succeed("sandbox", "ssh", f"{APP}-staging-1", append)
    done = serving.run("run", "drift", "-p", "env", "staging")
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], **rule)
    serving.step("provision", "staging")
    serving.step("configure", "staging")
    assert done.returncode == 7, done.stdout
    assert "Terraform: aws_security_group.host would update (tags" in done.stdout
    assert "CreateTags by moto" in done.stdout
    assert "ingress tcp 22-22 from 0.0.0.0/0" in done.stdout
    assert re.search("Write the Caddyfile would change; last changed by: .*configure", done.stdout)
    assert "Nothing was changed." in done.stdout
    assert serving.record("staging", "drift")["changes"] == []


def test_teardown_takes_one_environment_and_leaves_the_other(serving, sandbox):
    gone = address(serving, "staging")
    assert "is left" in serving.step("teardown", "staging")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://{gone}/", timeout=5)
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolve(sandbox, NAMES["staging"])
    assert version(sandbox, "production")["environment"] == "production"


def test_the_last_teardown_leaves_nothing(serving, sandbox):
    serving.step("teardown", "production")
    assert leftovers(sandbox) == []


def leftovers(sandbox) -> list[str]:
    """Return what EC2 still has of either environment."""
    ec2 = ec2_of(sandbox)
    found = ec2.describe_instances(Filters=OURS)["Reservations"]
    living = [i for r in found for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    vpcs = ec2.describe_vpcs(Filters=OURS)["Vpcs"]
    addresses = ec2.describe_addresses(Filters=OURS)["Addresses"]
    return [str(thing) for thing in (*living, *vpcs, *addresses)]


def ec2_of(sandbox):
    keys = (sandbox.env["AWS_ACCESS_KEY_ID"], sandbox.env["AWS_SECRET_ACCESS_KEY"])
    session = boto3.Session(*keys, region_name=sandbox.env["AWS_REGION"])
    return session.client("ec2", endpoint_url=sandbox.env["AWS_ENDPOINT_URL"])
