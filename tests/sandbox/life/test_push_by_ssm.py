"""A push is released through Systems Manager; no code of the repository runs on a host."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def by_ssm(serving, life, shop):
    """Yield the application's repository with releases to staging through Systems Manager."""
    serving.set("staging", deploy_via="ssm")
    # The account's push role already has the repository: only the environment changes.
    for step in ("provision", "configure"):
        serving.step(step, "staging")
    serving.succeed("github", "workflow", "staging", str(shop.root))
    yield shop
    serving.set("staging", deploy_via="runner")
    for step in ("provision", "configure"):
        serving.step(step, "staging")
    serving.succeed("github", "workflow", "staging", str(shop.root))


def test_no_runner_remains(life, by_ssm):
    names = [each["name"] for each in by_ssm.ask("runners")["runners"]]
    assert f"{life.app}-staging-1" not in names
    assert life.on_host("staging", "id github-runner").returncode != 0


def test_a_push_is_released_by_the_environments_document(serving, life, by_ssm):
    commit = by_ssm.add("through Systems Manager")
    run, conclusion = by_ssm.push("staging")
    assert conclusion == "success", by_ssm.page(run)
    jobs = by_ssm.jobs(run)
    assert (jobs["Release"], jobs["Release through Systems Manager"]) == ("skipped", "success")
    assert life.version("staging")["version"] == commit[:12]
    [releases] = json.loads(serving.succeed("release", "list", "staging", "--json")).values()
    assert releases[0]["by"] == "GitHub Actions"


def test_a_failed_release_fails_the_job_and_keeps_the_old_version(life, by_ssm):
    before = life.version("staging")["version"]
    life.out("staging", "sudo systemctl stop caddy")
    by_ssm.add("while Caddy is down")
    run, conclusion = by_ssm.push("staging")
    life.out("staging", "sudo systemctl start caddy")
    assert conclusion == "failure"
    assert "Caddy is not running" in by_ssm.page(run)
    assert life.version("staging")["version"] == before


def test_the_branchs_role_reaches_no_other_environment(aws, life, by_ssm):
    """The document runs only on its environment's hosts, and only with the application's images."""
    iam = aws("iam")
    role = iam.get_role(RoleName=f"{life.app}-staging-release")["Role"]["Arn"]
    hosts = {
        tag["Value"]: each["InstanceId"]
        for group in aws("ec2").describe_instances(
            Filters=[{"Name": "tag:app", "Values": [life.app]}]
        )["Reservations"]
        for each in group["Instances"]
        for tag in each["Tags"]
        if tag["Key"] == "environment" and each["State"]["Name"] == "running"
    }
    decisions = {}
    for env, id in hosts.items():
        context = [
            {"ContextKeyName": f"ssm:resourceTag/{key}", "ContextKeyType": "string"}
            | {"ContextKeyValues": [value]}
            for key, value in (("app", life.app), ("environment", env))
        ]
        answer = iam.simulate_principal_policy(
            PolicySourceArn=role,
            ActionNames=["ssm:SendCommand"],
            ResourceArns=[f"arn:aws:ec2:us-east-1:123456789012:instance/{id}"],
            ContextEntries=context,
        )
        decisions[env] = answer["EvaluationResults"][0]["EvalDecision"]
    assert decisions == {"staging": "allowed", "production": "implicitDeny"}
    ssm = aws("ssm")
    with pytest.raises(ssm.exceptions.ClientError, match="image"):
        ssm.send_command(
            DocumentName=f"{life.app}-staging-release",
            InstanceIds=[hosts["staging"]],
            Parameters={"image": ["docker.io/mallory/shop:latest"]},
        )
