"""The proof of a name, fetched from a web server on loopback."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from joserfc.jwk import ECKey
from moto.route53.models import Route53Backend

from daybook_sandbox import http01
from daybook_sandbox.orders import Account, AcmeProblem, Authorization

NAME = "staging.daybook.test"
ADDRESS = "127.91.1.77"


@pytest.fixture
def cloud():
    route53 = Route53Backend("aws", "123456789012")
    zone = route53.create_hosted_zone("daybook.test", private_zone=False)
    zone.add_rrset({"Name": f"{NAME}.", "Type": "A", "TTL": 60, "ResourceRecords": [ADDRESS]})
    return SimpleNamespace(route53=route53)


@pytest.fixture
def wanted() -> Authorization:
    return Authorization(Account(ECKey.generate_key("P-256")), NAME)


@pytest.fixture
def site(monkeypatch):
    """Serve `site.body` at the name's address; `site.asked` is who asked for what."""
    it = SimpleNamespace(body="", status=200, asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            it.asked.append((self.client_address[0], self.headers["Host"], self.path))
            self.send_response(it.status)
            self.end_headers()
            self.wfile.write(it.body.encode())

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        monkeypatch.setattr(http01, "PORT", server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield it
        server.shutdown()


def prove(cloud, authorization: Authorization) -> None:
    asyncio.run(http01.prove(cloud, authorization))


def test_a_stranger_asks_the_name_for_the_token(cloud, site, wanted):
    site.body = f"{wanted.proof}\n"
    prove(cloud, wanted)
    path = f"/.well-known/acme-challenge/{wanted.token}"
    assert site.asked == [(http01.CALLS_FROM, NAME, path)]
    assert wanted.proof == f"{wanted.token}.{wanted.account.key.thumbprint()}"


@pytest.mark.parametrize(("status", "body"), [(200, "hello"), (404, None)])
def test_another_answer_is_no_proof(cloud, site, wanted, status, body):
    site.status, site.body = status, wanted.proof if body is None else body
    with pytest.raises(AcmeProblem, match=f"HTTP {status}") as caught:
        prove(cloud, wanted)
    assert caught.value.kind == "unauthorized"


def test_a_closed_port_is_no_proof(cloud, wanted, port, monkeypatch):
    monkeypatch.setattr(http01, "PORT", port)
    with pytest.raises(
        AcmeProblem, match=rf"{ADDRESS}: Fetching http://{NAME}/.well-known/"
    ) as caught:
        prove(cloud, wanted)
    assert caught.value.kind == "connection"


def test_a_name_in_no_zone_is_no_proof(cloud, wanted):
    wanted.name = "daybook.example"
    with pytest.raises(AcmeProblem, match="No A record") as caught:
        prove(cloud, wanted)
    assert caught.value.kind == "dns"
