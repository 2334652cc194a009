"""What Systems Manager runs, on whom, and what it refuses."""

from __future__ import annotations

import json
import subprocess

import pytest
from botocore.exceptions import ClientError
from moto.ssm.responses import SimpleSystemManagerResponse
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from daybook_sandbox import runcommand

DOCUMENT = {
    "schemaVersion": "2.2",
    "parameters": {
        "image": {"type": "String", "allowedPattern": "^[a-z]+$"},
        "run": {"type": "String", "default": "0", "allowedPattern": "^[0-9]+$"},
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "release",
            "inputs": {
                "runCommand": ["echo '{{ image }}' '{{ run }}'", "test '{{ image }}' != bad"]
            },
        }
    ],
}


def execute(instance, script):
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def ssm(world, monkeypatch):
    """Return a client; the one machine is managed, and its commands run in this process's place."""
    for name in ("send_command", "list_commands", "get_command_invocation"):
        kept = getattr(SimpleSystemManagerResponse, name)
        monkeypatch.setattr(SimpleSystemManagerResponse, name, kept)
    name = "list_command_invocations"
    monkeypatch.setattr(SimpleSystemManagerResponse, name, None, raising=False)
    runcommand.patch(execute, world.cloud.instances, lambda _: True)
    world.client("ec2").create_tags(
        Resources=[world.instance.id], Tags=[{"Key": "environment", "Value": "staging"}]
    )
    client = world.client("ssm")
    client.create_document(
        Name="hello-staging-release", DocumentType="Command", Content=json.dumps(DOCUMENT)
    )
    return client


def send(ssm, environment: str = "staging", **parameters: str) -> str:
    answer = ssm.send_command(
        DocumentName="hello-staging-release",
        Targets=[{"Key": "tag:environment", "Values": [environment]}],
        Parameters={name: [value] for name, value in parameters.items()},
    )
    return answer["Command"]["CommandId"]


def ended(ssm, command: str) -> dict:
    return Retrying(
        retry=retry_if_result(lambda seen: seen["Status"] in ("Pending", "InProgress")),
        stop=stop_after_delay(10),
        wait=wait_fixed(0.02),
    )(lambda: ssm.list_commands(CommandId=command)["Commands"][0])


def test_the_document_runs_with_its_parameters(ssm, world):
    found = ended(ssm, command := send(ssm, image="good", run="7"))
    assert (found["Status"], found["TargetCount"]) == ("Success", 1)
    each = ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
    assert each["CommandPlugins"][0]["Output"] == "good 7\n"
    one = ssm.get_command_invocation(CommandId=command, InstanceId=world.instance.id)
    assert (one["ResponseCode"], one["StandardOutputContent"]) == (0, "good 7\n")


def test_a_script_that_fails_fails_its_command(ssm):
    assert ended(ssm, send(ssm, image="bad"))["Status"] == "Failed"


def test_tags_that_nobody_has_reach_nobody(ssm):
    found = ended(ssm, send(ssm, "production", image="good"))
    assert (found["TargetCount"], found["StatusDetails"]) == (0, "NoInstancesInTag")


@pytest.mark.parametrize("parameters", [{"image": "x; reboot"}, {}, {"image": "x", "other": "y"}])
def test_what_the_document_does_not_allow_is_refused(ssm, parameters):
    with pytest.raises(ClientError) as refused:
        send(ssm, **parameters)
    assert refused.value.response["Error"]["Code"] == "InvalidParameters"


def test_a_shell_script_of_the_sender_runs_too(ssm, world):
    command = ssm.send_command(
        DocumentName="AWS-RunShellScript",
        InstanceIds=[world.instance.id],
        Parameters={"commands": ["echo one", "echo two"]},
    )["Command"]["CommandId"]
    ended(ssm, command)
    one = ssm.get_command_invocation(CommandId=command, InstanceId=world.instance.id)
    assert one["StandardOutputContent"] == "one\ntwo\n"


def test_a_machine_that_is_not_managed_is_named_in_vain(ssm):
    with pytest.raises(ClientError) as refused:
        ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=["i-0123456789abcdef0"])
    assert refused.value.response["Error"]["Code"] == "InvalidInstanceId"
