"""What IAM is asked about one call: each resource it touches, and the condition keys of each.

Every identifier that a call names counts, and what belongs to what it names by another's id. So a
policy must allow at least what AWS would ask for.
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from moto.backends import get_backend

from daybook_sandbox import runcommand
from daybook_sandbox.simulator import Call, Value

S3_NAMES = {"HeadBucket": "ListBucket"}
"""Calls of S3 that IAM knows by another name."""
_KINDS = {
    "eipalloc": "elastic-ip",
    "eni": "network-interface",
    "fl": "vpc-flow-log",
    "i": "instance",
    "igw": "internet-gateway",
    "acl": "network-acl",
    "rtb": "route-table",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
    "ami": "image",
}
_ID = re.compile(rf"({'|'.join(_KINDS)})-[0-9a-f]+")
_PUBLIC = ("snapshot", "image")
"""Kinds whose ARNs name no account."""
_MADE = {
    "AllocateAddress": ("elastic-ip",),
    "AuthorizeSecurityGroupEgress": ("security-group-rule",),
    "AuthorizeSecurityGroupIngress": ("security-group-rule",),
    "CreateFlowLogs": ("vpc-flow-log",),
    "CreateInternetGateway": ("internet-gateway",),
    "CreateKeyPair": ("key-pair",),
    "CreateNetworkInterface": ("network-interface",),
    "CreateRouteTable": ("route-table",),
    "CreateSecurityGroup": ("security-group",),
    "CreateSnapshot": ("snapshot",),
    "CreateSubnet": ("subnet",),
    "CreateVolume": ("volume",),
    "CreateVpc": ("vpc",),
    "ImportKeyPair": ("key-pair",),
    "RunInstances": ("instance", "volume", "network-interface"),
}
"""What calls of EC2 make."""


@dataclass(frozen=True)
class Request:
    """A call as it came in. resource: what moto says it is about."""

    service: str
    name: str
    account: str
    region: str
    resource: str
    get: Callable[[str], Any]
    params: Mapping[str, Any]

    @classmethod
    def of(cls, response: Any, resource: str) -> Request:
        """Read what moto was sent."""
        service = response.service_name
        name = response.data.get("Action", "") if service == "s3" else response._get_action()
        where = (response.current_account, response.region, resource)
        get = response._get_param
        params = response._get_params() if response.automated_parameter_parsing else {}
        if service == "s3":
            get = lambda key: (response.querystring.get(key) or [None])[0]  # noqa: E731
        return cls(service, name or "ListAllMyBuckets", *where, get, params)

    @property
    def action(self) -> str:
        """Return what IAM calls this: `ec2:RunInstances`."""
        return f"{self.service}:{S3_NAMES.get(self.name, self.name)}"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """Return an ARN of this account."""
        where = self.region if region is None else region
        return f"arn:aws:{service}:{where}:{self.account}:{resource}"

    def call(self, resource: str = "*", **context: Value) -> Call:
        """Return this call of one resource."""
        return Call(self.action, resource, {"aws:RequestedRegion": self.region, **context})

    def backend(self, service: str) -> Any:
        """Return moto's backend of a service."""
        region = "aws" if service in ("iam", "route53") else self.region
        return get_backend(service)[self.account][region]


def asked(request: Request) -> list[Call]:
    """Return everything that must be allowed for a call."""
    find = _SERVICES.get(request.service)
    return list(find(request)) if find else [request.call(request.resource)]


def _ec2(it: Request) -> Iterator[Call]:
    if it.name.startswith("Describe"):
        yield it.call()
        return
    wanted = {
        spec["ResourceType"]: _tags(spec["Tags"]) for spec in it.get("TagSpecifications") or ()
    }
    if it.name in ("CreateTags", "DeleteTags"):
        wanted = {"": _tags(it.get("Tags") or ())}
    asked = _request_tags({key: value for tags in wanted.values() for key, value in tags.items()})
    touched = dict(_touched(it))
    for arn, tags in touched.items():
        yield it.call(arn, **asked, **_resource_tags(tags))
    for kind in _MADE.get(it.name, ()):
        name = (it.get("KeyName") or "*") if kind == "key-pair" else "*"
        arn = _ec2_arn(it, kind, name)
        yield it.call(arn, **_request_tags(wanted.get(kind, {})))
        if wanted.get(kind):
            tagging = replace(it, name="CreateTags").call(arn, **_request_tags(wanted[kind]))
            yield replace(tagging, context={**tagging.context, "ec2:CreateAction": it.name})
    if not touched and it.name not in _MADE:
        yield it.call()
    yield from _roles_passed(it)


def _touched(it: Request) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Give the ARN and the tags of what is there already and is named, or goes with it."""
    ec2 = it.backend("ec2")
    for id in dict.fromkeys(each for text in _texts(it.params) for each in _resolved(ec2, text)):
        yield _ec2_arn(it, _KINDS[id.partition("-")[0]], id), ec2.tags.get(id, {})
    for pair in list(ec2.key_pairs.values()):
        is_named = pair.id == it.get("KeyPairId") or pair.key_name == it.get("KeyName")
        if is_named and it.name not in ("ImportKeyPair", "CreateKeyPair"):
            yield _ec2_arn(it, "key-pair", pair.key_name), ec2.tags.get(pair.id, {})


def _resolved(ec2: Any, text: str) -> Iterator[str]:
    """Give the ids that a value stands for: an association is what it associates."""
    if _ID.fullmatch(text):
        yield text
    for address in list(ec2.addresses):
        if text in (address.association_id, address.public_ip):
            eni, instance = address.eni, address.instance
            yield from filter(
                None, (address.allocation_id, eni and eni.id, instance and instance.id)
            )
    if text.startswith("rtbassoc-"):
        for table in list(ec2.route_tables.values()):
            if text in table._associations:
                yield from (table.id, table._associations[text])


def _roles_passed(it: Request) -> Iterator[Call]:
    profile = it.get("IamInstanceProfile")
    iam = it.backend("iam")
    if isinstance(profile, Mapping):
        name = profile.get("Name") or str(profile.get("Arn")).rpartition("/")[2]
        found = [each for each in iam.instance_profiles.values() if each.name == name]
        for role in (role for each in found for role in each.roles):
            yield _passing(it, role.arn, "ec2")
    if arn := it.get("DeliverLogsPermissionArn"):
        yield _passing(it, arn, "vpc-flow-logs")


def _passing(it: Request, role: str, service: str) -> Call:
    return Call("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"})


def _ec2_arn(it: Request, kind: str, name: str) -> str:
    account = "" if kind in _PUBLIC else it.account
    return f"arn:aws:ec2:{it.region}:{account}:{kind}/{name}"


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a request's parameters."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _iam(it: Request) -> Iterator[Call]:
    def arn(resource: str) -> str:
        return it.arn("iam", resource, region="")

    role, profile = it.get("RoleName"), it.get("InstanceProfileName")
    if profile:
        yield it.call(arn(f"instance-profile/{profile}"))
        if it.name == "AddRoleToInstanceProfile":
            yield _passing(it, arn(f"role/{role}"), "ec2")
    elif role:
        roles = {each.name: each for each in it.backend("iam").roles.values()}
        there = roles[role].permissions_boundary_arn if role in roles else None
        limit = it.get("PermissionsBoundary") or there
        yield it.call(arn(f"role/{role}"), **({"iam:PermissionsBoundary": limit} if limit else {}))
    elif user := it.get("UserName"):
        yield it.call(arn(f"user/{user}"))
    elif name := it.get("PolicyName"):
        yield it.call(arn(f"policy/{name}"))
    else:
        yield it.call(it.get("PolicyArn") or it.get("OpenIDConnectProviderArn") or "*")


def _route53(it: Request) -> Iterator[Call]:
    zone = it.get("HostedZoneId") or it.get("ResourceId") or it.get("Id")
    if it.name == "GetChange":
        yield it.call(f"arn:aws:route53:::change/{zone}")
        return
    changes = (it.get("ChangeBatch") or {}).get("Changes", ())
    records = [each["ResourceRecordSet"] for each in changes]
    context: dict[str, Value] = {}
    if it.name == "ChangeResourceRecordSets":
        key = "route53:ChangeResourceRecordSets"
        context = {
            f"{key}NormalizedRecordNames": [each["Name"].lower().rstrip(".") for each in records],
            f"{key}RecordTypes": [each["Type"] for each in records],
            f"{key}Actions": [each["Action"] for each in changes],
        }
    name = str(zone).removeprefix("/hostedzone/")
    yield it.call(f"arn:aws:route53:::hostedzone/{name}" if zone else "*", **context)


def _ssm(it: Request) -> Iterator[Call]:
    name = it.get("Name")
    if it.name == "SendCommand":
        yield from _sending(it)
    elif "Document" in it.name and name:
        yield it.call(it.arn("ssm", f"document/{name}"))
    elif named := it.get("ResourceId"):
        kind = str(it.get("ResourceType")).lower()
        yield it.call(it.arn("ssm", f"{kind}/{str(named).strip('/')}"))
    elif names := it.get("Names") or [each for each in (name, it.get("Path")) if each]:
        for each in names:
            yield it.call(it.arn("ssm", f"parameter/{str(each).strip('/')}"))
    else:
        yield it.call()


def _sending(it: Request) -> Iterator[Call]:
    """https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command-setting-up.html"""
    name = it.get("DocumentName")
    owner = "" if name.startswith("AWS-") else it.account
    yield it.call(f"arn:aws:ssm:{it.region}:{owner}:document/{name}")
    machines = it.backend("ec2").all_instances()
    for each in runcommand.chosen(machines, it.get("InstanceIds") or [], it.get("Targets") or []):
        tags = {f"ssm:resourceTag/{tag['key']}": tag["value"] for tag in each.get_tags()}
        yield it.call(_ec2_arn(it, "instance", each.id), **tags)


def _cloudwatch(it: Request) -> Iterator[Call]:
    names = it.get("AlarmNames") or [it.get("AlarmName")]
    if it.name.startswith("Describe") or not (names[0] or it.get("ResourceARN")):
        yield it.call(**{"cloudwatch:namespace": it.get("Namespace") or ""})
        return
    kinds = ("AlarmActions", "OKActions", "InsufficientDataActions")
    actions = [each for kind in kinds for each in it.get(kind) or ()]
    context = {"cloudwatch:AlarmActions": actions} if it.name == "PutMetricAlarm" else {}
    for name in filter(None, names):
        yield it.call(it.arn("cloudwatch", f"alarm:{name}"), **context)
    if it.get("ResourceARN"):
        yield it.call(it.get("ResourceARN"))


def _sns(it: Request) -> Iterator[Call]:
    topic = it.get("TopicArn") or it.get("ResourceArn")
    if it.name == "CreateTopic":
        topic = it.arn("sns", it.get("Name"))
    yield it.call(topic or "*")


def _logs(it: Request) -> Iterator[Call]:
    """AWS names a group with an empty stream, but for calls about tags."""
    if name := it.get("logGroupName"):
        yield it.call(it.arn("logs", f"log-group:{name}:log-stream:"))
    else:
        yield it.call(it.get("resourceArn") or "*")


def _ecr(it: Request) -> Iterator[Call]:
    names = it.get("repositoryNames") or [it.get("repositoryName")]
    for name in names:
        named = it.arn("ecr", f"repository/{name}") if name else it.get("resourceArn")
        yield it.call(named or it.resource)


def _s3(it: Request) -> Iterator[Call]:
    prefix = it.get("prefix")
    is_listing = it.action == "s3:ListBucket" and prefix is not None
    yield it.call(it.resource, **({"s3:prefix": prefix} if is_listing else {}))


def dlm(
    account: str, region: str, name: str, policy: Mapping[str, Any] | None, body: bytes
) -> list[Call]:
    """Return what must be allowed for a call of DLM, which moto lacks. policy: it is about."""
    given = json.loads(body or "{}")
    tags = _request_tags(given.get("Tags") or {})
    if policy is None:
        whole = Call(f"dlm:{name}", "*", {"aws:RequestedRegion": region, **tags})
        return [whole, *_passed_to_dlm(given)]
    context = {"aws:RequestedRegion": region, **tags, **_resource_tags(policy["Tags"])}
    return [Call(f"dlm:{name}", policy["PolicyArn"], context), *_passed_to_dlm(given)]


def _passed_to_dlm(given: Mapping[str, Any]) -> list[Call]:
    role = given.get("ExecutionRoleArn")
    context = {"iam:PassedToService": "dlm.amazonaws.com"}
    return [Call("iam:PassRole", role, context)] if role else []


def _tags(found: Any) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in found}


def _request_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()}


def _resource_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


_SERVICES: dict[str, Callable[[Request], Iterator[Call]]] = {
    "cloudwatch": _cloudwatch,
    "ec2": _ec2,
    "ecr": _ecr,
    "iam": _iam,
    "logs": _logs,
    "route53": _route53,
    "s3": _s3,
    "sns": _sns,
    "ssm": _ssm,
}
