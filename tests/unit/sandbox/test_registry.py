"""The registry's proxy, with a fake registry backend it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest
from moto.ecr.models import ECRBackend

from daybook_sandbox import registry as proxy
from daybook_sandbox.registry import Registry
from daybook_sandbox.state import Home, Ports

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"AWS:123456789012-auth-token").decode()}
LAYER = bytes(range(256)) * 20_000
BLOB = "/v2/hello/blobs/uploads/1"


class FakeRegistry(BaseHTTPRequestHandler):
    """Answer PUT with the digest of the body, and GET with a chunked layer."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str, Message]]

    def do_PUT(self) -> None:
        digest = hashlib.sha256(self._body()).hexdigest()
        self._head(201, {"Docker-Content-Digest": f"sha256:{digest}", "Content-Length": "0"})

    def do_HEAD(self) -> None:
        self._head(200, {"Content-Length": str(len(LAYER))})

    def do_GET(self) -> None:
        self._head(200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(LAYER), 1 << 20):
            piece = LAYER[start : start + (1 << 20)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.server.requests.append((self.command, self.path, self.headers))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        return b"".join(iter(self._chunk, b""))

    def _chunk(self) -> bytes:
        piece = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return piece

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None: ...


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    requests: list[tuple[str, str, Message]]


@pytest.fixture
def backend(tmp_path) -> Iterator[Server]:
    with Server(str(tmp_path / "registry.sock"), FakeRegistry) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ecr() -> ECRBackend:
    ecr_backend = ECRBackend("us-east-1", "123456789012")
    ecr_backend.create_repository("hello", None, None, None, "MUTABLE", [])
    return ecr_backend


@pytest.fixture
def registry(backend, ecr, port, tmp_path, monkeypatch) -> Iterator[Registry]:
    storage = SimpleNamespace(socket=backend.server_address, start=lambda: 0, close=lambda: 0)
    monkeypatch.setattr(proxy, "Storage", lambda *_: storage)
    home = Home(tmp_path)
    home.folder.mkdir()
    cloud = SimpleNamespace(
        sts=SimpleNamespace(assumed_roles=[]),
        account="123456789012",
        region="us-east-1",
        ecr=ecr,
        instance_by_private_ip=lambda _: None,
    )
    running = Registry(cloud, Ports(0, 0, 0, 0, registry_local=port, forward=0, acme=0), home, None)
    running.start()
    yield running
    running.close()


@pytest.fixture
def client(registry, port, tmp_path) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection that trusts only the sandbox's authority."""
    context = ssl.create_default_context(cafile=tmp_path / ".sandbox/ca.pem")
    connection = http.client.HTTPConnection(HOST)
    plain = socket.create_connection(("127.0.0.1", port), 5)
    connection.sock = context.wrap_socket(plain, server_hostname=HOST)
    yield connection
    connection.close()


def ask(client, method: str, path: str, body=None, **headers: str):
    client.request(method, path, body, LOGIN | headers)
    answer = client.getresponse()
    return answer, answer.read()


def test_requires_login_and_keeps_the_connection(client, backend):
    client.request("GET", "/v2/")
    answer = client.getresponse()
    assert json.loads(answer.read())["errors"][0]["code"] == "UNAUTHORIZED"
    assert (answer.status, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert backend.requests == []
    assert ask(client, "HEAD", "/v2/")[0].status == 200


def test_credentials_are_not_forwarded(client, backend):
    ask(client, "HEAD", "/v2/")
    method, path, headers = backend.requests[0]
    assert (method, path, headers["Host"]) == ("HEAD", "/v2/", HOST)
    assert "Authorization" not in headers


@pytest.mark.parametrize("chunked", [True, False])
def test_layer_is_forwarded_completely(client, chunked):
    body = iter([LAYER]) if chunked else LAYER
    answer, _ = ask(client, "PUT", BLOB, body)
    expected = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, expected)
    assert ask(client, "GET", BLOB)[1] == LAYER
    assert ask(client, "HEAD", BLOB)[0].headers["Content-Length"] == str(len(LAYER))


def test_supports_expect_100_continue(client):
    answer, _ = ask(client, "PUT", BLOB, LAYER, Expect="100-continue")
    assert answer.status == 201


def test_refused_push_is_read_and_answered_with_the_reason(client, backend):
    answer, text = ask(client, "PUT", "/v2/other/blobs/uploads/1", LAYER)
    assert (answer.status, answer.headers["Content-Type"][:16]) == (404, "application/json")
    assert json.loads(text)["errors"][0]["code"] == "NAME_UNKNOWN"
    assert backend.requests == []
    assert ask(client, "HEAD", "/v2/")[0].status == 200


def test_push_is_recorded_in_the_api(client, ecr):
    manifest = json.dumps({"layers": [], "config": {"size": 7}}).encode()
    ask(client, "PUT", "/v2/hello/manifests/1", manifest)
    image = ecr.describe_images("hello")[0]
    assert image.image_digest == "sha256:" + hashlib.sha256(manifest).hexdigest()
    assert (image.image_tags, image.image_manifest.encode()) == (["1"], manifest)


def test_an_unreachable_registry_ends_only_the_connection(client, backend, registry, port):
    backend.shutdown()
    backend.server_close()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(client, "HEAD", "/v2/")
    assert "127.0.0.1" in registry.status()
