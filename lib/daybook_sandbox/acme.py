"""A simulated Let's Encrypt: certificates for public names over ACME (RFC 8555).

Machines reach it under Let's Encrypt's host names. It issues from the sandbox's CA after the
name's web server has answered an http-01 challenge sent from an address outside the allowlist.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from cryptography import x509
from joserfc.util import urlsafe_b64decode

from daybook_sandbox import ca, http01
from daybook_sandbox.api import Cloud
from daybook_sandbox.httpstream import HttpStream, header
from daybook_sandbox.loop import GatewayService
from daybook_sandbox.networks import Network
from daybook_sandbox.orders import Account, AcmeProblem, Authorization, Order
from daybook_sandbox.signed_requests import JwsReader, SignedRequest
from daybook_sandbox.state import Home, Ports

# Clients retry against the second, Let's Encrypt's staging server, after a failure.
HOSTS = ("acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org")
# From the benchmarking range of RFC 2544; machine/redirects.nft redirects it here.
ADDRESS = "198.18.91.1"
RESOURCES = {"newNonce": "new-nonce", "newAccount": "new-acct", "newOrder": "new-order"}
JOSE = "application/jose+json"
PEM_CHAIN = "application/pem-certificate-chain"


@dataclass(frozen=True)
class AcmeResponse:
    """A response. content: JSON, or the text of a certificate."""

    content: Any = None
    status: HTTPStatus = HTTPStatus.OK
    location: str = ""
    kind: str = "application/json"

    @property
    def body(self) -> bytes:
        if self.content is None or isinstance(self.content, str):
            return (self.content or "").encode()
        return json.dumps(self.content).encode()


class Acme(GatewayService):
    """Serve ACME on every gateway."""

    def __init__(self, cloud: Cloud, ports: Ports, home: Home) -> None:
        super().__init__("acme", ports.acme)
        self._cloud = cloud
        self._folder = home.folder
        self._jws = JwsReader(self._key_of)
        self._accounts: dict[str, Account] = {}
        self._authorizations: dict[str, Authorization] = {}
        self._orders: dict[str, Order] = {}

    def start(self) -> None:
        """Issue a certificate for Let's Encrypt's names and start serving."""
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(*ca.issue(self._folder, *HOSTS))
        super().start()

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answer requests until the client disconnects."""
        http = HttpStream(h11.SERVER, reader, writer)
        while request := await http.next_request():
            body = b"".join([piece async for piece in http.body()])
            try:
                answer = await self.answer(request, body)
            except AcmeProblem as problem:
                answer = AcmeResponse(
                    problem.document, problem.status, kind="application/problem+json"
                )
            await http.respond(answer.status, answer.body, self._headers(answer))

    async def answer(self, request: h11.Request, body: bytes) -> AcmeResponse:
        """Return the response to a request; raise AcmeProblem to refuse it."""
        base = f"https://{header(request, 'Host')}"
        path = request.target.decode()
        if path == "/directory":
            return AcmeResponse({key: f"{base}/acme/{name}" for key, name in RESOURCES.items()})
        if path == "/acme/new-nonce":
            is_head = request.method == b"HEAD"
            return AcmeResponse(status=HTTPStatus.OK if is_head else HTTPStatus.NO_CONTENT)
        if request.method != b"POST" or header(request, "Content-Type") != JOSE:
            raise AcmeProblem(
                "malformed", f"{path} accepts only POST with {JOSE}", HTTPStatus.NOT_FOUND
            )
        call = self._jws.open(base, path, body)
        account = self._accounts.get(call.key.thumbprint())
        if call.resource == "new-acct":
            return self._new_account(call, account)
        if account is None:
            raise AcmeProblem("accountDoesNotExist", "No account exists for this key.")
        return await self._do(call, account)

    def _headers(self, answer: AcmeResponse) -> list[tuple[str, str]]:
        location = [("Location", answer.location)] if answer.location else []
        return [
            ("Replay-Nonce", self._jws.nonce()),
            ("Cache-Control", "no-store"),
            ("Content-Type", answer.kind),
            *location,
        ]

    def _key_of(self, url: str) -> Any:
        """Return the key of the account with this URL."""
        id = url.rpartition("/")[2]
        account = next((known for known in self._accounts.values() if known.id == id), None)
        if account is None:
            raise AcmeProblem("accountDoesNotExist", f"Account {url} does not exist.")
        return account.key

    def _new_account(self, call: SignedRequest, account: Account | None) -> AcmeResponse:
        if account is None and call.content.get("onlyReturnExisting"):
            raise AcmeProblem("accountDoesNotExist", "No account exists for this key.")
        status = HTTPStatus.OK if account else HTTPStatus.CREATED
        account = account or Account(call.key, tuple(call.content.get("contact", ())))
        self._accounts[account.thumbprint] = account
        return AcmeResponse(account.document(), status, f"{call.base}/acme/acct/{account.id}")

    async def _do(self, call: SignedRequest, account: Account) -> AcmeResponse:
        match call.resource:
            case "new-order":
                return self._new_order(call, account)
            case "acct":
                return AcmeResponse(account.document())
            case "order":
                return AcmeResponse(_own(self._orders, call, account).document(call.base))
            case "authz":
                return self._authorization(call, _own(self._authorizations, call, account))
            case "chall":
                return await self._prove(call, _own(self._authorizations, call, account))
            case "finalize":
                return self._finalize(call, _own(self._orders, call, account))
            case "cert":
                return AcmeResponse(_own(self._orders, call, account).certificate, kind=PEM_CHAIN)
        raise AcmeProblem(
            "malformed", f"{call.resource} is not a resource of this server.", HTTPStatus.NOT_FOUND
        )

    def _new_order(self, call: SignedRequest, account: Account) -> AcmeResponse:
        identifiers = call.content.get("identifiers") or []
        names = [str(identifier.get("value", "")).lower() for identifier in identifiers]
        if not names or any(identifier.get("type") != "dns" for identifier in identifiers):
            raise AcmeProblem("unsupportedIdentifier", "Only DNS identifiers are supported.")
        if any("*" in name for name in names):
            raise AcmeProblem(
                "rejectedIdentifier", "Wildcard names require dns-01, which is not supported."
            )
        order = Order(account, tuple(Authorization(account, name) for name in names))
        self._authorizations |= {
            authorization.id: authorization for authorization in order.authorizations
        }
        self._orders[order.id] = order
        url = f"{call.base}/acme/order/{order.id}"
        return AcmeResponse(order.document(call.base), HTTPStatus.CREATED, url)

    def _authorization(self, call: SignedRequest, authorization: Authorization) -> AcmeResponse:
        if call.content.get("status") == "deactivated":
            authorization.status = "deactivated"
        return AcmeResponse(authorization.document(call.base))

    async def _prove(self, call: SignedRequest, authorization: Authorization) -> AcmeResponse:
        if authorization.status == "pending":
            try:
                await http01.prove(self._cloud, authorization)
                authorization.complete()
            except AcmeProblem as problem:
                authorization.complete(problem)
        return AcmeResponse(authorization.challenge(call.base))

    def _finalize(self, call: SignedRequest, order: Order) -> AcmeResponse:
        if order.status != "ready":
            raise AcmeProblem(
                "orderNotReady", f"The order is {order.status}.", HTTPStatus.FORBIDDEN
            )
        try:
            csr = x509.load_der_x509_csr(urlsafe_b64decode(call.content["csr"].encode()))
            order.certificate = ca.certify(self._folder, csr, order.names)
        except (ValueError, KeyError, x509.ExtensionNotFound) as error:
            raise AcmeProblem("badCSR", str(error)) from error
        return AcmeResponse(
            order.document(call.base), location=f"{call.base}/acme/order/{order.id}"
        )


def _own(objects: Mapping[str, Any], call: SignedRequest, account: Account) -> Any:
    """Return the object that a request names if it belongs to the account."""
    owned = objects.get(call.id)
    if owned is None or owned.account is not account:
        raise AcmeProblem(
            "malformed", f"{call.resource} {call.id} does not exist.", HTTPStatus.NOT_FOUND
        )
    return owned
