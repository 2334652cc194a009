"""The IAM checks of an API call: each resource it touches, with its condition keys.

Every identifier in a call counts, and so do resources that it names through the id of another.
A policy must therefore allow at least as much as on AWS.
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
"""S3 calls with a different name in IAM."""
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
"""Kinds whose ARNs contain no account."""
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
"""The kinds of resources that EC2 calls create."""


@dataclass(frozen=True)
class Request:
    """An API call as received. resource: the ARN that moto reports."""

    service: str
    name: str
    account: str
    region: str
    resource: str
    get: Callable[[str], Any]
    params: Mapping[str, Any]

    @classmethod
    def of(cls, response: Any, resource: str) -> Request:
        """Read the request that moto is handling."""
        service = response.service_name
        name = response.data.get("Action", "") if service == "s3" else response._get_action()
        scope = (response.current_account, response.region, resource)
        get = response._get_param
        params = response._get_params() if response.automated_parameter_parsing else {}
        if service == "s3":
            get = lambda key: (response.querystring.get(key) or [None])[0]  # noqa: E731
        return cls(service, name or "ListAllMyBuckets", *scope, get, params)

    @property
    def action(self) -> str:
        """Return the IAM action: `ec2:RunInstances`."""
        return f"{self.service}:{S3_NAMES.get(self.name, self.name)}"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """Return an ARN in this account."""
        region = self.region if region is None else region
        return f"arn:aws:{service}:{region}:{self.account}:{resource}"

    def call(self, resource: str = "*", **context: Value) -> Call:
        """Return the IAM check of this call for one resource."""
        return Call(self.action, resource, {"aws:RequestedRegion": self.region, **context})

    def backend(self, service: str) -> Any:
        """Return moto's backend for a service."""
        region = "aws" if service in ("iam", "route53") else self.region
        return get_backend(service)[self.account][region]


def required(request: Request) -> list[Call]:
    """Return all checks that must be allowed for an API call."""
    checks = _SERVICES.get(request.service)
    return list(checks(request)) if checks else [request.call(request.resource)]


def _ec2(request: Request) -> Iterator[Call]:
    if request.name.startswith("Describe"):
        yield request.call()
        return
    wanted = {
        spec["ResourceType"]: _tags(spec["Tags"]) for spec in request.get("TagSpecifications") or ()
    }
    if request.name in ("CreateTags", "DeleteTags"):
        wanted = {"": _tags(request.get("Tags") or ())}
    request_tags = _request_tags(
        {key: value for tags in wanted.values() for key, value in tags.items()}
    )
    touched = dict(_touched(request))
    for arn, tags in touched.items():
        yield request.call(arn, **request_tags, **_resource_tags(tags))
    for kind in _MADE.get(request.name, ()):
        name = (request.get("KeyName") or "*") if kind == "key-pair" else "*"
        arn = _ec2_arn(request, kind, name)
        yield request.call(arn, **_request_tags(wanted.get(kind, {})))
        if wanted.get(kind):
            tagging = replace(request, name="CreateTags").call(arn, **_request_tags(wanted[kind]))
            yield replace(tagging, context={**tagging.context, "ec2:CreateAction": request.name})
    if not touched and request.name not in _MADE:
        yield request.call()
    yield from _roles_passed(request)


def _touched(request: Request) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the ARN and tags of each existing resource that the call names or affects."""
    ec2 = request.backend("ec2")
    ids = (id for text in _texts(request.params) for id in _resolved(ec2, text))
    for id in dict.fromkeys(ids):
        yield _ec2_arn(request, _KINDS[id.partition("-")[0]], id), ec2.tags.get(id, {})
    for pair in list(ec2.key_pairs.values()):
        is_named = pair.id == request.get("KeyPairId") or pair.key_name == request.get("KeyName")
        if is_named and request.name not in ("ImportKeyPair", "CreateKeyPair"):
            yield _ec2_arn(request, "key-pair", pair.key_name), ec2.tags.get(pair.id, {})


def _resolved(ec2: Any, text: str) -> Iterator[str]:
    """Yield the ids that a value refers to; an association refers to both associated resources."""
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


def _roles_passed(request: Request) -> Iterator[Call]:
    profile = request.get("IamInstanceProfile")
    iam = request.backend("iam")
    if isinstance(profile, Mapping):
        name = profile.get("Name") or str(profile.get("Arn")).rpartition("/")[2]
        profiles = [known for known in iam.instance_profiles.values() if known.name == name]
        for role in (role for known in profiles for role in known.roles):
            yield _pass_role(request, role.arn, "ec2")
    if arn := request.get("DeliverLogsPermissionArn"):
        yield _pass_role(request, arn, "vpc-flow-logs")


def _pass_role(request: Request, role: str, service: str) -> Call:
    return Call("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"})


def _ec2_arn(request: Request, kind: str, name: str) -> str:
    account = "" if kind in _PUBLIC else request.account
    return f"arn:aws:ec2:{request.region}:{account}:{kind}/{name}"


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a request's parameters."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _iam(request: Request) -> Iterator[Call]:
    def arn(resource: str) -> str:
        return request.arn("iam", resource, region="")

    role, profile = request.get("RoleName"), request.get("InstanceProfileName")
    if profile:
        yield request.call(arn(f"instance-profile/{profile}"))
        if request.name == "AddRoleToInstanceProfile":
            yield _pass_role(request, arn(f"role/{role}"), "ec2")
    elif role:
        roles = {known.name: known for known in request.backend("iam").roles.values()}
        current = roles[role].permissions_boundary_arn if role in roles else None
        boundary = request.get("PermissionsBoundary") or (
            None if request.name == "CreateRole" else current
        )
        context = {"iam:PermissionsBoundary": boundary} if boundary else {}
        yield request.call(arn(f"role/{role}"), **context)
    elif user := request.get("UserName"):
        yield request.call(arn(f"user/{user}"))
    elif name := request.get("PolicyName"):
        yield request.call(arn(f"policy/{name}"))
    else:
        yield request.call(
            request.get("PolicyArn") or request.get("OpenIDConnectProviderArn") or "*"
        )


def _route53(request: Request) -> Iterator[Call]:
    zone = request.get("HostedZoneId") or request.get("ResourceId") or request.get("Id")
    if request.name == "GetChange":
        yield request.call(f"arn:aws:route53:::change/{zone}")
        return
    changes = (request.get("ChangeBatch") or {}).get("Changes", ())
    records = [change["ResourceRecordSet"] for change in changes]
    context: dict[str, Value] = {}
    if request.name == "ChangeResourceRecordSets":
        key = "route53:ChangeResourceRecordSets"
        context = {
            f"{key}NormalizedRecordNames": [
                record["Name"].lower().rstrip(".") for record in records
            ],
            f"{key}RecordTypes": [record["Type"] for record in records],
            f"{key}Actions": [change["Action"] for change in changes],
        }
    name = str(zone).removeprefix("/hostedzone/")
    yield request.call(f"arn:aws:route53:::hostedzone/{name}" if zone else "*", **context)


def _ssm(request: Request) -> Iterator[Call]:
    name = request.get("Name")
    if request.name == "SendCommand":
        yield from _send_command(request)
    elif "Document" in request.name and name:
        yield request.call(request.arn("ssm", f"document/{name}"))
    elif named := request.get("ResourceId"):
        kind = str(request.get("ResourceType")).lower()
        yield request.call(request.arn("ssm", f"{kind}/{str(named).strip('/')}"))
    elif paths := request.get("Names") or [path for path in (name, request.get("Path")) if path]:
        for path in paths:
            yield request.call(request.arn("ssm", f"parameter/{str(path).strip('/')}"))
    else:
        yield request.call()


def _send_command(request: Request) -> Iterator[Call]:
    """Yield a check of the document and of each target instance.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command-setting-up.html
    """
    name = request.get("DocumentName")
    owner = "" if name.startswith("AWS-") else request.account
    yield request.call(f"arn:aws:ssm:{request.region}:{owner}:document/{name}")
    instances = request.backend("ec2").all_instances()
    for instance in runcommand.select(
        instances, request.get("InstanceIds") or [], request.get("Targets") or []
    ):
        tags = {f"ssm:resourceTag/{tag['key']}": tag["value"] for tag in instance.get_tags()}
        yield request.call(_ec2_arn(request, "instance", instance.id), **tags)


def _cloudwatch(request: Request) -> Iterator[Call]:
    names = request.get("AlarmNames") or [request.get("AlarmName")]
    if request.name.startswith("Describe") or not (names[0] or request.get("ResourceARN")):
        yield request.call(**{"cloudwatch:namespace": request.get("Namespace") or ""})
        return
    kinds = ("AlarmActions", "OKActions", "InsufficientDataActions")
    actions = [action for kind in kinds for action in request.get(kind) or ()]
    context = {"cloudwatch:AlarmActions": actions} if request.name == "PutMetricAlarm" else {}
    for name in filter(None, names):
        yield request.call(request.arn("cloudwatch", f"alarm:{name}"), **context)
    if request.get("ResourceARN"):
        yield request.call(request.get("ResourceARN"))


def _sns(request: Request) -> Iterator[Call]:
    topic = request.get("TopicArn") or request.get("ResourceArn")
    if request.name == "CreateTopic":
        topic = request.arn("sns", request.get("Name"))
    yield request.call(topic or "*")


def _logs(request: Request) -> Iterator[Call]:
    """Use AWS's log group ARN with an empty stream, except in calls about tags."""
    if name := request.get("logGroupName"):
        yield request.call(request.arn("logs", f"log-group:{name}:log-stream:"))
    else:
        yield request.call(request.get("resourceArn") or "*")


def _ecr(request: Request) -> Iterator[Call]:
    names = request.get("repositoryNames") or [request.get("repositoryName")]
    for name in names:
        named = request.arn("ecr", f"repository/{name}") if name else request.get("resourceArn")
        yield request.call(named or request.resource)


def _s3(request: Request) -> Iterator[Call]:
    prefix = request.get("prefix")
    is_listing = request.action == "s3:ListBucket" and prefix is not None
    yield request.call(request.resource, **({"s3:prefix": prefix} if is_listing else {}))


def dlm(
    account: str, region: str, name: str, policy: Mapping[str, Any] | None, body: bytes
) -> list[Call]:
    """Return all checks of a call to DLM, which moto lacks. policy: the one that it names."""
    content = json.loads(body or "{}")
    tags = _request_tags(content.get("Tags") or {})
    if policy is None:
        whole = Call(f"dlm:{name}", "*", {"aws:RequestedRegion": region, **tags})
        return [whole, *_dlm_roles_passed(content)]
    context = {"aws:RequestedRegion": region, **tags, **_resource_tags(policy["Tags"])}
    return [Call(f"dlm:{name}", policy["PolicyArn"], context), *_dlm_roles_passed(content)]


def _dlm_roles_passed(content: Mapping[str, Any]) -> list[Call]:
    role = content.get("ExecutionRoleArn")
    context = {"iam:PassedToService": "dlm.amazonaws.com"}
    return [Call("iam:PassRole", role, context)] if role else []


def _tags(tags: Any) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


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
