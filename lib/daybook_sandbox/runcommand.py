"""Systems Manager's Run Command: what is sent is really run on the machines, as root.

moto keeps a command and calls it a success. Here a document's script runs as the agent, which is a
service of systemd, would run it; who is not managed gets nothing.
https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command.html
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance
from moto.ssm.responses import SimpleSystemManagerResponse as Responses

SHELL_SCRIPT = "AWS-RunShellScript"
PLUGIN = "aws:runShellScript"
OUTPUT_BYTES = 24000
PENDING, RUNNING, DONE, FAILED = "Pending", "InProgress", "Success", "Failed"
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Execute = Callable[[Instance, str], tuple[int, str, str]]


@dataclass
class Invocation:
    """A command on one machine."""

    instance: Instance
    status: str = PENDING
    code: int = -1
    out: str = ""
    err: str = ""

    def run(self, execute: Execute, script: str) -> None:
        """Do it now."""
        self.status = RUNNING
        try:
            self.code, self.out, self.err = execute(self.instance, script)
        except Exception as error:  # A machine that went away fails its command, no other.
            self.err = str(error)
        self.status = DONE if self.code == 0 else FAILED

    @property
    def output(self) -> str:
        """Return both streams as the API's list shows them."""
        errors = f"\n----------ERROR-------\n{self.err}" if self.err else ""
        return (self.out + errors)[:2500]


@dataclass
class Command:
    """Something that was sent to machines."""

    document: str
    parameters: Mapping[str, Sequence[str]]
    targets: Sequence[Mapping[str, Any]]
    invocations: tuple[Invocation, ...]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    asked: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def status(self) -> str:
        states = [each.status for each in self.invocations]
        if FAILED in states and not {PENDING, RUNNING} & set(states):
            return FAILED
        return RUNNING if {PENDING, RUNNING} & set(states) else DONE

    def run(self, execute: Execute, script: str) -> None:
        """Do it on one machine after the other; after the first that fails, on no other."""
        for each in self.invocations:
            if any(before.status == FAILED for before in self.invocations):
                each.status = "Cancelled"
            else:
                each.run(execute, script)

    def describe(self) -> dict[str, Any]:
        return {
            "CommandId": self.id,
            "DocumentName": self.document,
            "Parameters": self.parameters,
            "Targets": self.targets,
            "InstanceIds": [each.instance.id for each in self.invocations],
            "RequestedDateTime": self.asked,
            "Status": self.status,
            "StatusDetails": self.status if self.invocations else "NoInstancesInTag",
            "TargetCount": len(self.invocations),
            "CompletedCount": sum(each.code >= 0 for each in self.invocations),
            "ErrorCount": sum(each.status == FAILED for each in self.invocations),
        }

    def describe_each(self, instance: str | None) -> list[dict[str, Any]]:
        return [
            {
                "CommandId": self.id,
                "InstanceId": each.instance.id,
                "DocumentName": self.document,
                "RequestedDateTime": self.asked,
                "Status": each.status,
                "StatusDetails": each.status,
                "StandardOutputContent": each.out[:OUTPUT_BYTES],
                "StandardErrorContent": each.err[:OUTPUT_BYTES],
                "PluginName": PLUGIN,
                "ResponseCode": each.code,
                "CommandPlugins": [
                    {
                        "Name": PLUGIN,
                        "Status": each.status,
                        "StatusDetails": each.status,
                        "ResponseCode": each.code,
                        "Output": each.output,
                    }
                ],
            }
            for each in self.invocations
            if instance in (None, each.instance.id)
        ]


def patch(
    execute: Execute, instances: Callable[[], Iterable[Instance]], is_managed: Callable[..., bool]
) -> None:
    """Run what is sent. is_managed: tells whether a machine's agent can be reached."""
    sent: dict[str, Command] = {}

    def send(self: Responses) -> ActionResult:
        chosen = targets(self, instances(), is_managed)
        name, given = self._get_param("DocumentName"), self._get_param("Parameters") or {}
        script = script_of(_content(self, name), given)
        found = tuple(Invocation(each) for each in chosen)
        command = Command(name, given, self._get_param("Targets") or (), found)
        sent[command.id] = command
        threading.Thread(target=command.run, args=(execute, script), daemon=True).start()
        return ActionResult({"Command": command.describe()})

    def asked(self: Responses) -> list[Command]:
        wanted = self._get_param("CommandId")
        if wanted and wanted not in sent:
            raise _refusal("InvalidCommandId", "")
        return [sent[wanted]] if wanted else list(sent.values())

    def show(self: Responses) -> ActionResult:
        return ActionResult({"Commands": [command.describe() for command in asked(self)]})

    def show_each(self: Responses) -> ActionResult:
        of = self._get_param("InstanceId")
        found = [each for command in asked(self) for each in command.describe_each(of)]
        return ActionResult({"CommandInvocations": found})

    def show_one(self: Responses) -> ActionResult:
        found = asked(self)[0].describe_each(self._get_param("InstanceId"))
        if not found:
            raise _refusal("InvocationDoesNotExist", "")
        return ActionResult(found[0])

    Responses.send_command, Responses.list_commands = send, show
    Responses.list_command_invocations, Responses.get_command_invocation = show_each, show_one


def targets(
    self: Responses, instances: Iterable[Instance], is_managed: Callable[[Instance], bool]
) -> list[Instance]:
    """Return the managed machines that a command is for; one that is named has to be managed."""
    managed = [each for each in instances if each.state == "running" and is_managed(each)]
    named = self._get_param("InstanceIds") or []
    if unknown := set(named) - {each.id for each in managed}:
        raise _refusal("InvalidInstanceId", f"Instances {sorted(unknown)} not in a valid state")
    return chosen(managed, named, self._get_param("Targets") or [])


def chosen(
    instances: Iterable[Instance], named: Sequence[str], filters: Sequence[Mapping[str, Any]]
) -> list[Instance]:
    """Return the machines that a command names, or that fit every filter."""
    if not filters:
        return [each for each in instances if each.id in named]
    return [each for each in instances if all(_fits(each, one) for one in filters)]


def script_of(content: Mapping[str, Any], given: Mapping[str, Sequence[str]]) -> str:
    """Return the script of a document, with parameters that it allows in their places."""
    known = content.get("parameters", {})
    if unknown := set(given) - set(known):
        raise _refusal("InvalidParameters", f"{sorted(unknown)} not in the document")
    values = {name: _value(name, each, given.get(name)) for name, each in known.items()}
    lines: list[str] = []
    for step in content["mainSteps"]:
        if step["action"] != PLUGIN:
            raise _refusal("InvalidDocumentContent", f"{step['action']} is not run here")
        for line in _lines(step["inputs"]["runCommand"], values):
            lines.append(_PLACE.sub(lambda found: "\n".join(values[found[1]]), line))
    return "\n".join(lines)


def _lines(command: Any, values: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return a step's lines; one parameter may stand for all of them."""
    if isinstance(command, str):
        whole = _PLACE.fullmatch(command)
        return values[whole[1]] if whole else [command]
    return command


def _value(name: str, form: Mapping[str, Any], given: Sequence[str] | None) -> Sequence[str]:
    if given is None and "default" not in form:
        raise _refusal("InvalidParameters", f"{name} is missing")
    default = form.get("default", "")
    values = given if given is not None else default if isinstance(default, list) else [default]
    pattern, allowed = form.get("allowedPattern"), form.get("allowedValues")
    for each in values:
        if (pattern and not re.search(pattern, each)) or (allowed and each not in allowed):
            raise _refusal("InvalidParameters", f"{name} is not what the document allows")
    return values


def _content(self: Responses, name: str) -> Mapping[str, Any]:
    if name == SHELL_SCRIPT:
        steps = [{"action": PLUGIN, "inputs": {"runCommand": "{{ commands }}"}}]
        free = {"workingDirectory": {"default": ""}, "executionTimeout": {"default": "3600"}}
        return {"parameters": {"commands": {}, **free}, "mainSteps": steps}
    content = self.ssm_backend.get_document(name, "", "", "JSON")["Content"]
    return json.loads(content) if isinstance(content, str) else content


def _fits(instance: Instance, wanted: Mapping[str, Any]) -> bool:
    key = wanted["Key"]
    if key == "InstanceIds":
        return instance.id in wanted["Values"]
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    return key.startswith("tag:") and tags.get(key[4:]) in wanted["Values"]


def _refusal(kind: str, message: str) -> JsonRESTError:
    return JsonRESTError(kind, message)
