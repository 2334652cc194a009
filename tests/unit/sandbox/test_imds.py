"""The instance metadata service."""

from __future__ import annotations

import http.client
import json
import socket

import h11
import pytest

from daybook_sandbox.imds import Imds, MetadataResponse

TOKEN = "X-aws-ec2-metadata-token"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
ROLE = "/latest/meta-data/iam/security-credentials/hello-host"


@pytest.fixture
def imds(world):
    return Imds(world.cloud, world.ports)


def ask(imds: Imds, world, path: str, method: str = "GET", **headers: str) -> MetadataResponse:
    sent = [("Host", "169.254.169.254"), *headers.items()]
    return imds.answer(
        world.instance.private_ip, h11.Request(method=method, target=path, headers=sent)
    )


def token(imds: Imds, world, ttl: int = 60) -> str:
    answer = ask(imds, world, "/latest/api/token", "PUT", **{TTL: str(ttl)})
    assert answer.status == 200
    return answer.body


def read(imds: Imds, world, path: str) -> str:
    answer = ask(imds, world, path, **{TOKEN: token(imds, world)})
    assert answer.status == 200, path
    return answer.body


def test_metadata(imds, world):
    facts = {
        "instance-id": world.instance.id,
        "local-ipv4": "127.77.0.4",
        "public-ipv4": world.cloud.public_ip(world.instance),
        "placement/region": "us-east-1",
        "placement/availability-zone": "us-east-1a",
        "instance-type": "t3.small",
        "security-groups": "web",
        "public-keys/": "0=ann",
    }
    assert {name: read(imds, world, f"/latest/meta-data/{name}") for name in facts} == facts
    assert read(imds, world, "/latest/user-data") == "#cloud-config\n"
    assert read(imds, world, "/latest/meta-data/public-keys/0/openssh-key").startswith(
        "ssh-ed25519"
    )
    document = json.loads(read(imds, world, "/latest/dynamic/instance-identity/document"))
    assert (document["instanceId"], document["accountId"]) == (world.instance.id, "123456789012")


def test_folders_are_listed(imds, world):
    assert read(imds, world, "/latest/").splitlines() == ["meta-data/", "dynamic/", "user-data"]
    names = read(imds, world, "/latest/meta-data/").splitlines()
    assert {"instance-id", "placement/", "iam/"} <= set(names)
    assert read(imds, world, "/latest/meta-data/iam/security-credentials/") == "hello-host"


def test_credentials_belong_to_the_role(imds, world):
    credentials = json.loads(read(imds, world, ROLE))
    assert credentials["Code"] == "Success"
    _, arn, _ = world.cloud.sts.get_caller_identity(credentials["AccessKeyId"], "us-east-1")
    assert arn == f"arn:aws:sts::123456789012:assumed-role/hello-host/{world.instance.id}"
    assert json.loads(read(imds, world, ROLE)) == credentials


def test_a_missing_or_invalid_token_is_refused(imds, world):
    path = "/latest/meta-data/instance-id"
    assert ask(imds, world, path).status == 401
    assert ask(imds, world, path, **{TOKEN: "99999999999-00"}).status == 401
    world.instance.metadata_options.http_tokens = "optional"
    assert ask(imds, world, path).status == 200
    assert ask(imds, world, path, **{TOKEN: "nonsense"}).status == 401


def test_token_expires(imds, world, monkeypatch):
    valid = token(imds, world, ttl=10)
    path = "/latest/meta-data/instance-id"
    assert ask(imds, world, path, **{TOKEN: valid}).status == 200
    monkeypatch.setattr("time.time", lambda: float(valid.partition("-")[0]))
    assert ask(imds, world, path, **{TOKEN: valid}).status == 401


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "soon"])
def test_token_needs_a_valid_lifetime(imds, world, ttl):
    assert ask(imds, world, "/latest/api/token", "PUT", **{TTL: ttl}).status == 400


def test_token_is_refused_to_proxies_and_has_a_hop_limit(imds, world):
    headers = {TTL: "60"}
    proxied = ask(
        imds, world, "/latest/api/token", "PUT", **headers, **{"X-Forwarded-For": "1.2.3.4"}
    )
    assert proxied.status == 403
    assert ask(imds, world, "/latest/api/token", "PUT", **headers).hops == 2
    assert ask(imds, world, "/latest/api/token", "GET").status == 405


def test_unknown_callers_and_paths_are_refused(imds, world):
    request = h11.Request(method="GET", target="/latest/meta-data/", headers=[("Host", "x")])
    assert imds.answer("127.77.0.9", request).status == 404
    headers = {TOKEN: token(imds, world)}
    assert ask(imds, world, "/latest/meta-data/nothing", **headers).status == 404
    assert ask(imds, world, "/etc/passwd", **headers).status == 404
    world.instance.metadata_options.http_endpoint = "disabled"
    assert ask(imds, world, "/latest/meta-data/", **headers).status == 403


def test_serves_only_its_network(imds, world):
    imds.start()
    try:
        imds.gateway_added(world.network)
        machine = _connect(world, "127.77.0.4")
        machine.request("PUT", "/latest/api/token", headers={TTL: "60"})
        answer = machine.getresponse()
        valid = answer.read().decode()
        assert (answer.status, answer.headers[TTL]) == (200, "60")
        machine.request("GET", "/latest/meta-data/instance-id", headers={TOKEN: valid})
        assert machine.getresponse().read().decode() == world.instance.id
        with pytest.raises(ConnectionError):
            _ask_as(world, "127.0.0.1")
        with socket.create_connection((world.network.gateway, world.ports.imds)) as garbage:
            garbage.sendall(b"\0\0\r\n\r\n")
        assert _ask_as(world, "127.77.0.4") == 401
        imds.gateway_removed(world.network)
        with pytest.raises(ConnectionError):
            _ask_as(world, "127.77.0.4")
    finally:
        imds.close()


def _connect(world, source: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(
        world.network.gateway, world.ports.imds, timeout=5, source_address=(source, 0)
    )


def _ask_as(world, source: str) -> int:
    connection = _connect(world, source)
    connection.request("GET", "/latest/meta-data/")
    return connection.getresponse().status
