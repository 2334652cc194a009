"""Failures of AWS as AwsFailed: by kind, with botocore's class, and with hostile text escaped."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as botocore
from botocore.retries.standard import ExponentialBackoff
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from daybook import aws, errors, secrets, settings
from daybook.aws import errors as aws_errors
from daybook.environment import Environment
from daybook.errors import NOTHING_CHANGED, AwsFailed, CommandFailed
from daybook.lock.object_lock import Lock
from daybook.resources import instances, orphans, owned
from daybook.target import Target
from daybook.terraform import state_lock

from .weather import AWS, CALLS, LATE, Weather

ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
REAL = Target("aws", "123456789012", REGION, {})
SANDBOX = Target("sandbox", "123456789012", REGION, {})


def refused(code: str, status: int = 400, message: str = "no", **headers: str):
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers, "RequestId": "r-1"}
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return botocore.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("err", "message", "following"),
    [
        (refused("ExpiredToken"), "does not accept the credentials", "aws sso login"),
        (botocore.NoCredentialsError(), "does not accept the credentials", "aws sso login"),
        (refused("AccessDenied", 403), "AWS denied s3:PutObject", "get the permission granted"),
        (refused("SlowDown", 503), "AWS throttled", "wait a few minutes"),
        (refused("InternalError", 500), "AWS failed to process", "health.aws.amazon.com"),
        (refused("RequestTimeTooSkewed", 403), "this computer's clock is wrong", "timedatectl"),
        (
            refused("SignatureDoesNotMatch", 403, date="Fri, 27 Nov 2020 00:00:00 GMT"),
            "this computer's clock is wrong",
            "timedatectl",
        ),
        (refused("SignatureDoesNotMatch", 403), "does not accept the credentials", "sso login"),
        (botocore.EndpointConnectionError(endpoint_url="x"), "cannot be reached", "the VPN"),
        (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), "was cut off", "network"),
        (
            refused("BucketAlreadyExists", 409),
            "AWS refused s3:PutObject",
            "the cause that AWS reports",
        ),
    ],
)
def test_each_kind_of_failure_has_its_next_action(err, message, following):
    error = aws_errors.failure(err, "s3:PutObject", REAL)
    assert message in error.message
    assert following in error.next
    assert error.expected
    assert error.observed
    assert isinstance(error, CommandFailed)
    assert isinstance(error, type(err))
    assert errors.exit_code_of(type(error).__name__) == 5


def test_the_remedy_for_the_sandbox_is_in_the_sandbox():
    silent = botocore.EndpointConnectionError(endpoint_url="x")
    assert "daybook sandbox up" in aws_errors.failure(silent, "s3:PutObject", SANDBOX).next
    skewed = refused("RequestTimeTooSkewed", 403)
    assert "sandbox" not in aws_errors.failure(skewed, "s3:PutObject", SANDBOX).next


@pytest.mark.parametrize(
    ("err", "call", "is_certain"),
    [
        (refused("AccessDenied", 403), "s3:PutObject", True),
        (refused("InternalError", 500), "s3:PutObject", False),
        (botocore.ReadTimeoutError(endpoint_url="x"), "ec2:StopInstances", False),
        (botocore.ReadTimeoutError(endpoint_url="x"), "ec2:DescribeInstances", True),
    ],
)
def test_nothing_was_changed_is_reported_only_if_certain(err, call, is_certain):
    error = aws_errors.failure(err, call, REAL)
    assert (error.changed == NOTHING_CHANGED) is is_certain
    assert is_certain or f"It is unknown whether {call} took effect." in error.changed


@pytest.mark.attack("F11", "an API answer that writes to the terminal, or a hundred pages")
def test_a_message_from_aws_is_one_printable_line():
    text = "\x1b[2J\x1b[31mred\nDONE\u202e" + "x" * 100_000
    error = aws_errors.failure(refused("AccessDenied", 403, text), "s3:PutObject", REAL)
    assert error.observed.isprintable()
    assert len(error.observed) <= errors.LINE_LIMIT


def test_an_invalid_parameter_is_not_repeated():
    err = botocore.ParamValidationError(report="Invalid type for Value, value: hunter2")
    assert "hunter2" not in str(aws_errors.failure(err, "ssm:PutParameter", REAL))


def test_sign_in_codes_are_recognized_in_a_tools_output():
    lines = ["Error: reading EC2 VPC", "api error ExpiredTokenException: the token has expired"]
    assert aws_errors.sign_in(lines).startswith("sign in again")
    assert aws_errors.sign_in(["Error: NotExpiredTokenAtAll"]) == ""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Yield a list of faults that a test injects into moto; retries do not wait."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    moto, weathers = BotocoreStubber.__call__, [Weather(tmp_path)]

    def answer(stubber, event_name, request, **options):
        def by_moto():
            return moto(stubber, event_name, request, **options)

        return weathers[-1].answer(request, event_name, by_moto)

    monkeypatch.setattr(BotocoreStubber, "__call__", answer)
    with mock_aws():
        yield weathers


READS = {
    "caller": lambda target: aws.caller(target),
    "bucket": lambda target: aws.bucket_exists(target, "hello-state"),
    "object": lambda target: aws.object_exists(target, "hello-state", "key"),
    "state": lambda target: aws.state_version(target, "hello-state", "state"),
    "zone": lambda target: aws.zone_id(target, "daybook.test"),
    "policy": lambda target: aws.policy_arn(target, "hello-boundary"),
    "role": lambda target: aws.role_exists(target, "hello-host"),
    "provider": lambda target: aws.github_provider_tags(target),
    "repository": lambda target: aws.repository_exists(target, "hello"),
    "login": lambda target: aws.registry_login(target),
    "image": lambda target: aws.image_digest(target, "hello", "latest"),
    "instances": lambda target: instances.instances_of(staging(target)),
    "snapshots": lambda target: instances.snapshots(staging(target)),
    "owned": lambda target: owned.owned_resources(staging(target)),
    "orphans": lambda target: orphans.find(staging(target), ""),
    "secrets": lambda target: secrets.Store(staging(target)).values(),
}
PLAUSIBLE = {"nothing in it", f"{LATE}500"}
"""Answers that may come from AWS, or that a retry replaces."""


def staging(target: Target) -> Environment:
    return Environment("staging", ROOT, settings.load(ROOT, "staging"), target)


def furnish() -> None:
    """Create the resources that the calls read."""
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket="hello-state")
    s3.put_object(Bucket="hello-state", Key="state", Body=b'{"serial": 7, "lineage": "3f2a"}')
    route53 = boto3.client("route53", region_name=REGION)
    route53.create_hosted_zone(Name="daybook.test", CallerReference="1")
    boto3.client("ecr", region_name=REGION).create_repository(repositoryName="hello")
    ec2 = boto3.client("ec2", region_name=REGION)
    tags = [{"Key": "app", "Value": "hello"}, {"Key": "environment", "Value": "staging"}]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )


@pytest.mark.parametrize("name", READS)
@pytest.mark.attack("F11", "AWS fails at any call: captive portal, cut off, expired, denied, slow")
def test_every_failed_call_is_one_error_with_a_next_action(cloud, tmp_path, name):
    furnish()
    target = Target("aws", "123456789012", REGION, {})
    cloud.append(Weather(tmp_path))
    before = READS[name](target)
    calls = cloud[-1].calls
    for at, call in enumerate(calls):
        for way in list(AWS)[at % 9 :: 9]:
            cloud.append(Weather(tmp_path, aws=(at, way)))
            answer, failure = attempt(READS[name], target)
            if failure is None:
                assert answer == before or way in PLAUSIBLE, (call, way)
                continue
            assert all([failure.expected, failure.observed, failure.next]), (call, way)
            assert failure.changed == NOTHING_CHANGED, (call, way)


def attempt(read: Callable[[Target], Any], target: Target) -> tuple[Any, CommandFailed | None]:
    """Return the result of a call, or its error."""
    try:
        return read(target), None
    except CommandFailed as err:
        return None, err


@pytest.mark.attack("F11", "a captive portal says that everything exists, or that nothing does")
@pytest.mark.parametrize("way", [way for way in CALLS if "html" in way])
def test_an_answer_from_a_proxy_is_an_error(cloud, tmp_path, way):
    furnish()
    target = Target("aws", "123456789012", REGION, {})
    for bucket in ("hello-state", "hello-nothing"):
        cloud.append(Weather(tmp_path, aws=(0, way)))
        with pytest.raises(AwsFailed, match=r"does not come from AWS|failed to process"):
            aws.bucket_exists(target, bucket)


IDS = b"x-amz-request-id: r\r\nx-amzn-requestid: r\r\ndate: Fri, 27 Nov 2026 19:00:00 GMT\r\n"
FAR = b'{"Parameters": [{"Name": "/a", "LastModifiedDate": 1' + b"0" * 400 + b"}]}"
ANSWERS = {
    "chunks that are none": b"403 N\r\n" + IDS + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "deep XML": b"404 N\r\n" + IDS + b"\r\n" + b"<a>" * 50_000 + b"</a>" * 50_000,
    "an error without a code": b"400 N\r\n" + IDS + b"\r\n<Error/>",
    "an error that is text": b"400 N\r\n" + IDS + b'\r\n"x"',
    "a time far away": b"200 K\r\n" + IDS + b"content-length: %d\r\n\r\n" % len(FAR) + FAR,
    "deep JSON": b"200 K\r\n" + IDS + b"\r\n" + b"[" * 100_000,
    "no HTTP": b"\0" * 100,
}
ASKED = {
    "get": lambda target: aws.client(target, "s3").get_object(Bucket="b", Key="k"),
    "exists": lambda target: aws.object_exists(target, "b", "k"),
    "lock": lambda target: Lock(aws.client(target, "s3"), "b", "staging").read(),
    "state lock": lambda target: state_lock.read(aws.client(target, "s3"), "b", "s"),
    "list": lambda target: aws.client(target, "ssm").describe_parameters(),
}


@pytest.fixture
def says(monkeypatch):
    """Return a function that creates a target with these bytes as every answer."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    servers = []

    def serve(answer: bytes) -> Target:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(65_536)
                with suppress(OSError):
                    self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
        return Target("sandbox", "123456789012", REGION, environ)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.attack("F11", "an answer that botocore's parsers fail at in ways of their own")
@pytest.mark.parametrize("call", ASKED)
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_answer_is_parsed_or_raises_one_error(says, answer, call):
    with suppress(AwsFailed):
        ASKED[call](says(b"HTTP/1.1 " * (answer != "no HTTP") + ANSWERS[answer]))


def test_an_error_without_a_code_has_an_empty_code():
    for response in ({}, {"Error": {}}, {"Error": {"Code": None}}, {"Error": "x"}):
        err = refused("")
        err.response = response | {"ResponseMetadata": {"HTTPStatusCode": 400}}
        failure = aws_errors.failure(err, "s3:GetObject", REAL)
        assert failure.response["Error"]["Code"] == ""
        assert "refused s3:GetObject" in failure.message
