"""A simulated Terraform that creates an account and one host in moto.

It provides the parts of Terraform that Daybook reads: events, the plan as JSON, outputs and a state
in S3. Its AWS calls and files are exempt from injected failures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3

from daybook import process

ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
APP, ENV, ZONE = "hello", "staging", "daybook.test"
ACCOUNT = "123456789012"
STATE_BUCKET, RECORDS_BUCKET = f"{APP}-state-{ACCOUNT}", f"{APP}-records-{ACCOUNT}"
HOST = f"{APP}-{ENV}-1"
ADDRESS = "127.77.0.4"
STATES = {
    "account": "account/terraform.tfstate",
    "environment": f"env:/{ENV}/environment/terraform.tfstate",
}
TAGS = [
    {"Key": key, "Value": value}
    for key, value in {
        "app": APP,
        "environment": ENV,
        "managed_by": "daybook",
        "Name": HOST,
    }.items()
]
STATEMENT = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [STATEMENT]})


class StandIn:
    """Replaces `process.run` for Terraform, and starts all other tools with it.

    calm: context in which no failures are injected.
    """

    def __init__(
        self, run: process.Start, calm: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._run, self._calm = run, calm
        self._serial = 0

    def __call__(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: process.OnLine = lambda _line: None,
        **options: Any,
    ) -> process.Result:
        if args[0] != "terraform":
            return self._run(args, env=env, cwd=cwd, on_line=on_line, **options)
        words = _Words(args, cwd)
        if args[1] == "plan":
            _require_declared(words.folder, env or {})
        with self._calm():
            messages = list(getattr(self, f"_{args[1]}")(words))
        lines = [text if isinstance(text, str) else json.dumps(text) for text in messages]
        for line in lines:
            on_line(line)
        return process.Result(tuple(args), 0, 0.1, tuple(lines))

    def hosts(self) -> dict[str, str]:
        """Return the state of each host by its instance id."""
        reservations = client("ec2").describe_instances()["Reservations"]
        instances = [host for reservation in reservations for host in reservation["Instances"]]
        return {host["InstanceId"]: host["State"]["Name"] for host in instances}

    def _version(self, _words: _Words) -> Iterator[Any]:
        yield "Terraform v1.11.4"

    def _init(self, _words: _Words) -> Iterator[Any]:
        yield {"type": "init_output", "@message": "initialized"}

    def _validate(self, _words: _Words) -> Iterator[Any]:
        yield {"valid": True, "diagnostics": []}

    def _plan(self, words: _Words) -> Iterator[Any]:
        changes = self._changes(words)
        words.out.write_text(json.dumps({"folder": words.folder, "changes": changes}))
        for address, [action] in changes.items():
            yield _event("planned_change", address, action)

    def _show(self, words: _Words) -> Iterator[Any]:
        changes = json.loads(words.file.read_text())["changes"]
        resources = [
            {"address": address, "type": address.partition(".")[0], "change": {"actions": actions}}
            for address, actions in changes.items()
        ]
        yield {"resource_changes": resources}

    def _apply(self, words: _Words) -> Iterator[Any]:
        for address, [action] in json.loads(words.file.read_text())["changes"].items():
            yield _event("apply_start", address, action)
            getattr(self, f"_{action}_{words.folder}")(words)
            yield _event("apply_complete", address, action)

    def _output(self, words: _Words) -> Iterator[Any]:
        outputs = self._outputs(words.folder)
        yield {name: {"value": value, "sensitive": False} for name, value in outputs.items()}

    def _outputs(self, folder: str) -> dict[str, Any]:
        if folder == "account":
            return {"name_servers": ["ns-1.example"]}
        host = {"name": HOST, "public_ip": ADDRESS, "private_ip": "10.20.0.4"}
        alive = [id for id, state in self.hosts().items() if state != "terminated"]
        return {
            "environment": ENV,
            "app": APP,
            "names": [f"{ENV}.{ZONE}"],
            "app_port": 8000,
            "instances": [{"id": id, **host} for id in alive],
            "ecr_repository_url": "registry.example/hello",
            "metrics_namespace": "",
        }

    def _state(self, words: _Words) -> Iterator[Any]:
        self._save("account")
        yield "pushed"

    def _changes(self, words: _Words) -> dict[str, list[str]]:
        exists = self._exists(words.folder)
        if words.is_destroy:
            return {"aws_instance.host": ["delete"]} if exists else {}
        if words.folder == "account":
            return {} if exists else {"aws_s3_bucket.state": ["create"]}
        return {} if exists else {"aws_instance.host": ["create"]}

    def _exists(self, folder: str) -> bool:
        if folder == "environment":
            return any(state != "terminated" for state in self.hosts().values())
        names = [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]
        return STATE_BUCKET in names and bool(
            client("s3").list_objects_v2(Bucket=STATE_BUCKET, Prefix="account/")["KeyCount"]
        )

    def _save(self, folder: str, *ids: str) -> None:
        self._serial += 1
        outputs = {name: {"value": value} for name, value in self._outputs(folder).items()}
        state = json.dumps(
            {"lineage": folder, "serial": self._serial, "resources": ids, "outputs": outputs}
        )
        client("s3").put_object(Bucket=STATE_BUCKET, Key=STATES[folder], Body=state.encode())

    def _create_account(self, words: _Words) -> None:
        make_account()
        (words.cwd / "terraform.tfstate").write_text("{}")
        if not words.is_workshop:
            self._save("account")

    def _create_environment(self, _words: _Words) -> None:
        self._save("environment", make_host())

    def _delete_environment(self, _words: _Words) -> None:
        ids = list(self.hosts())
        client("ec2").terminate_instances(InstanceIds=ids)
        self._save("environment")


class _Words:
    """A parsed Terraform command line."""

    def __init__(self, args: Sequence[str], cwd: Path | None) -> None:
        self.cwd = Path(cwd or ".")
        self.is_workshop = self.cwd.name.endswith("-new")
        self.folder = "account" if self.is_workshop else self.cwd.name
        self.is_destroy = "-destroy" in args
        self.out = next((Path(arg[5:]) for arg in args if arg.startswith("-out=")), None)
        self.file = next((Path(arg) for arg in args[2:] if arg.startswith("/")), None)


def _require_declared(folder: str, env: Mapping[str, str]) -> None:
    """Raise AssertionError for an undeclared variable, which Terraform would ignore."""
    text = (ROOT / "terraform" / folder / "variables.tf").read_text()
    declared = {f"TF_VAR_{name}" for name in re.findall(r'^variable "(\w+)"', text, re.M)}
    undeclared = {name for name in env if name.startswith("TF_VAR_")} - declared
    assert not undeclared, f"{folder} declares no {undeclared}"


def make_account() -> None:
    """Create the resources of bootstrap that do not exist yet."""
    s3, ecr, route53, iam = (client(name) for name in ("s3", "ecr", "route53", "iam"))
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in {STATE_BUCKET, RECORDS_BUCKET} - existing:
        s3.create_bucket(Bucket=bucket)
    if not ecr.describe_repositories()["repositories"]:
        ecr.create_repository(repositoryName=APP)
    if not route53.list_hosted_zones()["HostedZones"]:
        route53.create_hosted_zone(Name=ZONE, CallerReference="1")
    if not iam.list_policies(Scope="Local")["Policies"]:
        iam.create_policy(PolicyName=f"{APP}-{ENV}-boundary", PolicyDocument=POLICY)
    note = {"remote": "", "require_git": {ENV: "any"}, "approvals": {ENV: 0}}
    parameter = {"Name": f"/{APP}/account/review", "Type": "String", "Overwrite": True}
    client("ssm").put_parameter(**parameter, Value=json.dumps(note))


def make_host() -> str:
    """Create a host with the tags that Terraform sets; return its id."""
    ec2 = client("ec2")
    made = ec2.run_instances(
        ImageId=ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.small",
        TagSpecifications=[{"ResourceType": kind, "Tags": TAGS} for kind in ("instance", "volume")],
    )
    return made["Instances"][0]["InstanceId"]


def _event(kind: str, address: str, action: str) -> dict[str, Any]:
    return {
        "type": kind,
        "@message": f"{address}: {action}",
        "hook": {"resource": {"addr": address}, "action": action},
    }


def client(service: str) -> Any:
    """Return a client for moto."""
    return boto3.client(service, region_name=REGION)
