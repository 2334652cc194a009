"""Small calls to AWS: identity, instances, console output, DNS zones, IAM and ECR."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Iterable
from typing import Any

import boto3
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader

from daybook.aws import errors
from daybook.errors import AwsFailed
from daybook.target import Target

FAILURES = (BotoCoreError, ClientError, AwsFailed)
"""Exceptions of a call to AWS: always AwsFailed, which is also an instance of botocore's class."""
_CLIENT_LOCK = threading.Lock()
"""boto3 creates clients in one thread at a time; all threads may use them."""
_SESSION = ""
"""The key of the session among a target's clients."""
GITHUB_TOKENS = "token.actions.githubusercontent.com"
"""The issuer of GitHub's tokens for workflows."""


def client(target: Target, service: str) -> BaseClient:
    """Return the target's boto3 client, with short timeouts and standard retries.

    Each target, and so each run, creates it once: after a new sign-in, start a new run.
    """
    with _CLIENT_LOCK:
        if service not in target.clients:
            with errors.explained(service, target):
                target.clients[service] = _make_client(target, service)
        return target.clients[service]


def wait_for(
    target: Target, service: str, state: str, *, every_s: int, tries: int, **parameters: Any
) -> None:
    """Wait with a boto3 waiter for a state; AwsFailed if it is not reached."""
    waiter = client(target, service).get_waiter(state)
    with errors.explained(f"the wait for {state.replace('_', ' ')}", target):
        waiter.wait(WaiterConfig={"Delay": every_s, "MaxAttempts": tries}, **parameters)


def caller(target: Target) -> dict[str, str]:
    """Return the caller's identity: `{"account": "123456789012", "arn": "arn:aws:…"}`."""
    answer = client(target, "sts").get_caller_identity()
    return {"account": answer["Account"], "arn": answer["Arn"]}


def bucket_exists(target: Target, bucket: str) -> bool:
    """Tell whether the bucket exists; raises for any error other than 404."""
    try:
        client(target, "s3").head_bucket(Bucket=bucket)
    except ClientError as err:
        if err.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def object_exists(target: Target, bucket: str, key: str) -> bool:
    """Tell whether the bucket has the object."""
    try:
        client(target, "s3").head_object(Bucket=bucket, Key=key)
    except ClientError as err:
        if err.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def state_text(target: Target, bucket: str, key: str) -> str:
    """Return a Terraform state, which may contain secrets; "" if it does not exist."""
    s3 = client(target, "s3")
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(errors="replace")
    except (s3.exceptions.NoSuchKey, s3.exceptions.NoSuchBucket):
        return ""


def state_version(target: Target, bucket: str, key: str) -> str:
    """Return serial and lineage of a Terraform state, without its content: `serial 7 of 3f2a…`."""
    if not (text := state_text(target, bucket, key)):
        return "none"
    try:
        state = json.loads(text)
        return f"serial {state['serial']} of {state['lineage']}"
    except (ValueError, KeyError, TypeError) as err:
        raise AwsFailed(
            "Terraform's state is not valid.",
            expected=f"a state in JSON at s3://{bucket}/{key}",
            observed=type(err).__name__,
            next="restore an older version of the object: docs/when-something-is-wrong.md",
        ) from err


def repository_exists(target: Target, repository: str) -> bool:
    """Tell whether ECR has the repository."""
    ecr = client(target, "ecr")
    try:
        return bool(ecr.describe_repositories(repositoryNames=[repository])["repositories"])
    except ecr.exceptions.RepositoryNotFoundException:
        return False


def zone_id(target: Target, zone: str) -> str | None:
    """Return the id of the public zone in Route 53, or None."""
    answer = client(target, "route53").list_hosted_zones_by_name(DNSName=zone)
    ids = [
        hosted_zone["Id"]
        for hosted_zone in answer["HostedZones"]
        if hosted_zone["Name"] == f"{zone}." and not hosted_zone["Config"]["PrivateZone"]
    ]
    return ids[0].removeprefix("/hostedzone/") if ids else None


def zone_tags(target: Target, zone_id: str) -> dict[str, str]:
    """Return the tags of a zone: `{"app": "hello", "managed_by": "daybook"}`."""
    answer = client(target, "route53").list_tags_for_resource(
        ResourceType="hostedzone", ResourceId=zone_id
    )
    return {tag["Key"]: tag["Value"] for tag in answer["ResourceTagSet"]["Tags"]}


def policy_arn(target: Target, name: str) -> str | None:
    """Return the ARN of the customer-managed IAM policy with this name, or None."""
    pages = client(target, "iam").get_paginator("list_policies").paginate(Scope="Local")
    arns = (policy["Arn"] for page in pages for policy in page["Policies"])
    return next((arn for arn in arns if arn.endswith(f":policy/{name}")), None)


def policy_exists(target: Target, name: str) -> bool:
    """Tell whether a customer-managed IAM policy with this name exists, with one call for it."""
    iam, partition = client(target, "iam"), caller(target)["arn"].split(":")[1]
    try:
        arn = f"arn:{partition}:iam::{target.account}:policy/{name}"
        return bool(iam.get_policy(PolicyArn=arn))
    except iam.exceptions.NoSuchEntityException:
        return False


def role_exists(target: Target, name: str) -> bool:
    """Tell whether IAM has the role."""
    iam = client(target, "iam")
    try:
        return bool(iam.get_role(RoleName=name)["Role"])
    except iam.exceptions.NoSuchEntityException:
        return False


def github_provider_arn(target: Target) -> str | None:
    """Return the ARN of the account's OIDC provider for GitHub, or None."""
    answer = client(target, "iam").list_open_id_connect_providers()
    arns = (provider["Arn"] for provider in answer["OpenIDConnectProviderList"])
    return next((arn for arn in arns if arn.endswith(f"/{GITHUB_TOKENS}")), None)


def github_provider_tags(target: Target) -> dict[str, str] | None:
    """Return the tags of that provider, or None without one."""
    if not (arn := github_provider_arn(target)):
        return None
    iam = client(target, "iam")
    answer = iam.list_open_id_connect_provider_tags(OpenIDConnectProviderArn=arn)
    return {tag["Key"]: tag["Value"] for tag in answer["Tags"]}


def instance_states(target: Target, ids: Iterable[str]) -> dict[str, str]:
    """Return the state of each instance: `{"i-0abc": "running"}`."""
    pages = client(target, "ec2").get_paginator("describe_instances")
    return {
        instance["InstanceId"]: instance["State"]["Name"]
        for page in pages.paginate(InstanceIds=list(ids))
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    }


def console_output(target: Target, instance_id: str) -> str:
    """Return the instance's console output since its last boot, or "" before it is available."""
    answer = client(target, "ec2").get_console_output(InstanceId=instance_id, Latest=True)
    return answer.get("Output", "")


def registry(target: Target) -> str:
    """Return the host name of the account's ECR registry."""
    suffix = ".cn" if target.region.startswith("cn-") else ""
    return f"{target.account}.dkr.ecr.{target.region}.amazonaws.com{suffix}"


def registry_login(target: Target) -> tuple[str, str, str]:
    """Return registry host, user and password for ECR; the password is valid for 12 hours."""
    answer = client(target, "ecr").get_authorization_token()["authorizationData"][0]
    user, password = base64.b64decode(answer["authorizationToken"]).decode().split(":", 1)
    return answer["proxyEndpoint"].removeprefix("https://"), user, password


def image_digest(target: Target, repository: str, name: str) -> str | None:
    """Return the digest of the image with a tag or digest, or None."""
    image = _image(target, repository, name)
    return image["imageDigest"] if image else None


def image_tags(target: Target, repository: str, name: str) -> list[str]:
    """Return the tags of the image with a tag or digest."""
    return list((_image(target, repository, name) or {}).get("imageTags", ()))


def _image(target: Target, repository: str, name: str) -> dict | None:
    ecr = client(target, "ecr")
    image_id = {"imageDigest" if name.startswith("sha256:") else "imageTag": name}
    try:
        answer = ecr.describe_images(repositoryName=repository, imageIds=[image_id])
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        return None
    return answer["imageDetails"][0]


def _make_client(target: Target, service: str) -> BaseClient:
    session = target.clients.get(_SESSION) or _make_session(target)
    target.clients[_SESSION] = session
    limits = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "max_attempts": 4},
        s3={"addressing_style": "path"},
        ignore_configured_endpoint_urls=True,
    )
    session.events.register(
        f"creating-client-class.{service}", functools.partial(errors.wrap_client, target=target)
    )
    if target.is_sandbox:
        endpoint = target.environ.get("AWS_ENDPOINT_URL")
        return session.client(service, endpoint_url=endpoint, config=limits)
    # Identity and requirements come from AWS: no variable or file may redirect calls to another
    # server, or add a certificate authority.
    return session.client(service, config=limits, verify=True)


def _make_session(target: Target) -> boto3.Session:
    """Return a session that uses only the target's variables and botocore's bundled data.

    By default, boto3 reads the kernel's variables, and service endpoints from ~/.aws/models.
    """
    environ = target.environ
    session = botocore.session.Session()
    chains = ConfigChainFactory(session, environ)
    store = session.get_component("config_store")
    for name, (key, variables, default, read) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        store.set_config_provider(
            name, chains.create_config_chain(name, variables, key, default, read)
        )
    bundled = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    session.register_component("data_loader", bundled)
    return boto3.Session(
        botocore_session=session,
        aws_access_key_id=environ.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environ.get("AWS_SESSION_TOKEN"),
        region_name=target.region,
    )
