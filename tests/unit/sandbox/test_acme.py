"""The certificate authority, from an ACME client's side."""

from __future__ import annotations

import asyncio
import base64
import json
from http import HTTPStatus

import h11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.jwk import ECKey

from daybook_sandbox import acme, ca, http01
from daybook_sandbox.acme import Acme
from daybook_sandbox.image import _sources
from daybook_sandbox.orders import AcmeProblem
from daybook_sandbox.state import Home

NAME = "staging.daybook.test"
BASE = f"https://{acme.HOSTS[0]}"
POST_AS_GET = None


class Client:
    """The subset of RFC 8555 that Caddy uses."""

    def __init__(self, authority: Acme) -> None:
        self.authority = authority
        self.key = ECKey.generate_key("P-256")
        self.account = ""

    def call(
        self, url: str, content: dict | None = POST_AS_GET, signed_url: str = ""
    ) -> acme.AcmeResponse:
        known = {"kid": self.account} if self.account else {"jwk": self.key.as_dict(private=False)}
        protected = {"alg": "ES256", "nonce": self.nonce(), "url": signed_url or url} | known
        payload = b"" if content is None else json.dumps(content).encode()
        registry = jws.JWSRegistry(strict_check_header=False)
        signed = jws.serialize_json({"protected": protected}, payload, self.key, registry=registry)
        return self.send(url, json.dumps(signed).encode())

    def send(self, url: str, body: bytes, kind: str = acme.JOSE) -> acme.AcmeResponse:
        request = h11.Request(
            method="POST",
            target=url.removeprefix(BASE),
            headers=[("Host", acme.HOSTS[0]), ("Content-Type", kind)],
        )
        return asyncio.run(self.authority.answer(request, body))

    def nonce(self) -> str:
        return dict(self.authority._headers(acme.AcmeResponse()))["Replay-Nonce"]

    def register(self) -> Client:
        self.account = self.call(f"{BASE}/acme/new-acct", {"contact": []}).location
        return self

    def order(self, *names: str) -> acme.AcmeResponse:
        identifiers = [{"type": "dns", "value": name} for name in names]
        return self.call(f"{BASE}/acme/new-order", {"identifiers": identifiers})

    def prove(self, order: acme.AcmeResponse) -> list[acme.AcmeResponse]:
        proofs = [self.call(url).content for url in order.content["authorizations"]]
        return [self.call(proof["challenges"][0]["url"], {}) for proof in proofs]

    def finalize(self, order: acme.AcmeResponse, *names: str) -> acme.AcmeResponse:
        return self.call(order.content["finalize"], {"csr": request(*names)})


def request(*names: str) -> str:
    """Return a CSR as encoded by the protocol."""
    wanted = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(wanted, critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return base64.urlsafe_b64encode(csr.public_bytes(Encoding.DER)).rstrip(b"=").decode()


@pytest.fixture
def authority(world, tmp_path) -> Acme:
    home = Home(tmp_path)
    home.folder.mkdir()
    ca.ensure_ca(home.folder)
    return Acme(world.cloud, world.ports, home)


@pytest.fixture
def client(authority) -> Client:
    return Client(authority).register()


@pytest.fixture
def proven(monkeypatch) -> None:
    async def prove(cloud, authorization) -> None:
        """Succeed, as if the name's web server returned the proof."""

    monkeypatch.setattr(http01, "prove", prove)


def refused(kind: str):
    return pytest.raises(AcmeProblem, check=lambda problem: problem.kind == kind)


def test_machines_are_redirected_to_it():
    rules = dict(_sources())["redirects.nft"].decode()
    assert f"ip daddr {acme.ADDRESS} tcp dport 443 dnat to $gateway:$acme" in rules


@pytest.mark.usefixtures("proven")
def test_a_proven_name_gets_a_certificate_from_the_sandboxs_ca(client, tmp_path):
    order = client.order(NAME)
    assert (order.status, order.content["status"]) == (HTTPStatus.CREATED, "pending")
    assert [challenge.content["status"] for challenge in client.prove(order)] == ["valid"]
    assert client.call(order.location).content["status"] == "ready"
    done = client.finalize(order, NAME)
    assert done.content["status"] == "valid"
    text = client.call(done.content["certificate"]).content
    certificate = x509.load_pem_x509_certificate(text.encode())
    issuer = x509.load_pem_x509_certificate((tmp_path / ".sandbox/ca.pem").read_bytes())
    certificate.verify_directly_issued_by(issuer)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime - ca.BACKDATED == ca.PUBLIC_FOR


@pytest.mark.usefixtures("proven")
def test_a_request_for_other_names_is_refused(client):
    order = client.order(NAME)
    client.prove(order)
    with refused("badCSR"):
        client.finalize(order, NAME, "production.daybook.test")


def test_no_certificate_is_issued_without_a_proof(client):
    order = client.order(NAME)
    with refused("orderNotReady"):
        client.finalize(order, NAME)


def test_a_failed_proof_invalidates_the_order_with_the_reason(client):
    order = client.order(NAME)
    [answer] = client.prove(order)
    assert answer.content["status"] == "invalid"
    assert answer.content["error"]["type"] == "urn:ietf:params:acme:error:dns"
    assert NAME in answer.content["error"]["detail"]
    assert client.call(order.location).content["status"] == "invalid"


def test_an_account_is_found_by_its_key(client):
    first, client.account = client.account, ""
    again = client.call(f"{BASE}/acme/new-acct", {"onlyReturnExisting": True})
    assert (again.status, again.location) == (HTTPStatus.OK, first)


def test_an_order_is_hidden_from_other_accounts(client, authority):
    order = client.order(NAME)
    with refused("malformed"):
        Client(authority).register().call(order.location)


def test_a_nonce_is_valid_once(client, monkeypatch):
    nonce = client.nonce()
    monkeypatch.setattr(client, "nonce", lambda: nonce)
    client.order(NAME)
    with refused("badNonce"):
        client.order(NAME)


def test_a_request_is_valid_for_one_url(client):
    with refused("unauthorized"):
        client.call(f"{BASE}/acme/new-order", {}, signed_url=f"{BASE}/acme/new-acct")


def test_a_signature_by_another_key_is_refused(client):
    client.key = ECKey.generate_key("P-256")
    with refused("malformed"):
        client.order(NAME)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"protected": "e30", "payload": ""}'])
def test_an_unsigned_request_is_refused(client, body):
    with refused("malformed"):
        client.send(f"{BASE}/acme/new-order", body)


@pytest.mark.parametrize(
    ("names", "kind"), [((), "unsupportedIdentifier"), (("*.daybook.test",), "rejectedIdentifier")]
)
def test_an_order_needs_names_without_wildcards(client, names, kind):
    with refused(kind):
        client.order(*names)
