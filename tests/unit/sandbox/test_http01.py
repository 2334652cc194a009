"""The http-01 challenge against a web server on loopback."""

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
def authorization() -> Authorization:
    return Authorization(Account(ECKey.generate_key("P-256")), NAME)


@pytest.fixture
def site(monkeypatch):
    """Serve `site.body` at the name's address; record requests in `site.requests`."""
    state = SimpleNamespace(body="", status=200, requests=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.client_address[0], self.headers["Host"], self.path))
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(state.body.encode())

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        monkeypatch.setattr(http01, "PORT", server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


def prove(cloud, authorization: Authorization) -> None:
    asyncio.run(http01.prove(cloud, authorization))


def test_the_token_is_requested_from_an_internet_address(cloud, site, authorization):
    site.body = f"{authorization.proof}\n"
    prove(cloud, authorization)
    path = f"/.well-known/acme-challenge/{authorization.token}"
    assert site.requests == [(http01.CALLS_FROM, NAME, path)]
    assert authorization.proof == f"{authorization.token}.{authorization.account.key.thumbprint()}"


@pytest.mark.parametrize(("status", "body"), [(200, "hello"), (404, None)])
def test_another_response_is_not_a_proof(cloud, site, authorization, status, body):
    site.status, site.body = status, authorization.proof if body is None else body
    with pytest.raises(AcmeProblem, match=f"HTTP {status}") as caught:
        prove(cloud, authorization)
    assert caught.value.kind == "unauthorized"


def test_a_closed_port_is_a_connection_problem(cloud, authorization, port, monkeypatch):
    monkeypatch.setattr(http01, "PORT", port)
    with pytest.raises(
        AcmeProblem, match=rf"{ADDRESS}: Fetching http://{NAME}/.well-known/"
    ) as caught:
        prove(cloud, authorization)
    assert caught.value.kind == "connection"


def test_a_name_without_a_zone_is_a_dns_problem(cloud, authorization):
    authorization.name = "daybook.example"
    with pytest.raises(AcmeProblem, match="No A record") as caught:
        prove(cloud, authorization)
    assert caught.value.kind == "dns"
