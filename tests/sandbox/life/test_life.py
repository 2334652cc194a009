"""The whole life of the application in staging and production.

The tests in this file follow it in order.
"""

from __future__ import annotations

import json
import re
import shlex

import pytest

ACCOUNT = "123456789012"

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_an_interrupted_provision_is_completed_by_the_next_run(provisioned):
    record = provisioned.record("production", "provision")
    assert record["status"] == "succeeded"
    changes = " ".join(str(change) for change in record["changes"])
    assert "11 added" not in changes
    folders = sorted((provisioned.root / "runs/production").glob("*-provision-*"))
    assert len(folders) == 2


def first(project, env: str) -> dict:
    """Return the record of an environment's first provision."""
    folder = min((project.root / "runs" / env).glob("*-provision-*"))
    return json.loads((folder / "record.json").read_text())


def test_plain_papermill_writes_the_same_record(provisioned):
    plain, driven = first(provisioned, "staging"), provisioned.record("production", "provision")
    assert plain["status"] == "succeeded"
    assert plain["changes"]
    assert plain.keys() == driven.keys()
    assert [phase["name"] for phase in plain["phases"]] == [
        phase["name"] for phase in driven["phases"]
    ]
    assert (provisioned.root / "out.ipynb").is_file()


def test_the_page_is_served_under_its_name(serving, life):
    for env, name in life.names.items():
        assert life.resolve(name) == [life.address(env)]
        assert life.version(env)["environment"] == env
    commit = serving.record("staging", "first-deploy")["plan"]["changes"]
    assert life.version("staging")["version"] in " ".join(commit)


@pytest.mark.parametrize("step", ["provision", "first-deploy"])
def test_a_repeated_step_reports_no_changes(serving, step):
    said = serving.succeed("run", step, "-p", "env", "staging")
    assert "no changes" in said.lower()
    assert serving.record("staging", step)["approvals"][0]["how"] == "not needed"


def test_a_repeated_configure_reports_no_changes(serving):
    assert "no changes" in serving.step("configure", "staging").lower()


def test_the_articles_terraform_commands_work_unchanged(serving, life):
    said = life.shell(
        "cd terraform/environment && terraform workspace select staging && terraform apply",
        stdin="yes\n",
    )
    assert "No changes." in said
    assert "0 added, 0 changed, 0 destroyed" in said


def test_the_articles_ansible_command_works_unchanged(serving, life):
    key = shlex.quote(life.sandbox.env["DAYBOOK_SSH_KEY"])
    said = life.shell(
        f"AWS_ACCOUNT_ID={ACCOUNT} AWS_REGION=us-east-1 ansible-playbook --private-key {key}"
        " -i ansible/inventories/staging ansible/staging.yml",
    )
    unchanged = rf"{life.app}-staging-1 +: ok=\d+ +changed=0 +unreachable=0 +failed=0"
    assert re.search(unchanged, said), said


def test_drift_is_reported_with_its_author_and_not_changed(serving, life, aws):
    assert "no drift" in serving.succeed("run", "drift", "-p", "env", "staging")
    ec2 = aws("ec2")
    wanted = [{"Name": "group-name", "Values": [f"{life.app}-staging-host"]}]
    [group] = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    rule = {"IpProtocol": "tcp", "CidrIp": "0.0.0.0/0", "FromPort": 22, "ToPort": 22}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], **rule)
    ec2.create_tags(Resources=[group["GroupId"]], Tags=[{"Key": "Name", "Value": "mine"}])
    life.out("staging", "echo '# by hand' | sudo tee --append /etc/caddy/Caddyfile")
    done = serving.run("run", "drift", "-p", "env", "staging")
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], **rule)
    ec2.create_tags(Resources=[group["GroupId"]], Tags=group["Tags"])
    life.out("staging", "sudo sed --in-place '$d' /etc/caddy/Caddyfile")
    assert done.returncode == 7, done.stdout
    assert "Terraform: aws_security_group.host would update (tags" in done.stdout
    assert "CreateTags by moto" in done.stdout
    assert "ingress tcp 22-22 from 0.0.0.0/0" in done.stdout
    assert re.search("Write the Caddyfile would change; last changed by: .*configure", done.stdout)
    assert "Nothing was changed." in done.stdout
    assert serving.record("staging", "drift")["changes"] == []
