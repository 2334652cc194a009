"""Let's Encrypt's stand-in: certificates for public names, by the protocol of RFC 8555.

Machines find it under Let's Encrypt's own names. It issues from the sandbox's CA, once the name's
web server has shown to a stranger what it was asked to show.
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

# The second is where clients rehearse before they try again.
HOSTS = ("acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org")
# From the range kept for benchmarks (RFC 2544); machine/redirects.nft leads it here.
ADDRESS = "198.18.91.1"
RESOURCES = {"newNonce": "new-nonce", "newAccount": "new-acct", "newOrder": "new-order"}
JOSE = "application/jose+json"
PEM_CHAIN = "application/pem-certificate-chain"


@dataclass(frozen=True)
class AcmeResponse:
    """What goes back; content: JSON, or the text of a certificate."""

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
    """Serves the protocol on every gateway."""

    def __init__(self, cloud: Cloud, ports: Ports, home: Home) -> None:
        super().__init__("acme", ports.acme)
        self._cloud = cloud
        self._folder = home.folder
        self._jws = JwsReader(self._key_of)
        self._accounts: dict[str, Account] = {}
        self._authorizations: dict[str, Authorization] = {}
        self._orders: dict[str, Order] = {}

    def start(self) -> None:
        """Begin, under the names of Let's Encrypt."""
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
        """AcmeResponse requests until the caller goes."""
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
        """Decide what a client hears; AcmeProblem is what it hears otherwise."""
        base = f"https://{header(request, 'Host')}"
        path = request.target.decode()
        if path == "/directory":
            return AcmeResponse({key: f"{base}/acme/{name}" for key, name in RESOURCES.items()})
        if path == "/acme/new-nonce":
            is_head = request.method == b"HEAD"
            return AcmeResponse(status=HTTPStatus.OK if is_head else HTTPStatus.NO_CONTENT)
        if request.method != b"POST" or header(request, "Content-Type") != JOSE:
            raise AcmeProblem("malformed", f"{path} takes POST of {JOSE}", HTTPStatus.NOT_FOUND)
        call = self._jws.open(base, path, body)
        account = self._accounts.get(call.key.thumbprint())
        if call.resource == "new-acct":
            return self._new_account(call, account)
        if account is None:
            raise AcmeProblem("accountDoesNotExist", "No account has this key.")
        return await self._do(call, account)

    def _headers(self, answer: AcmeResponse) -> list[tuple[str, str]]:
        location = [("Location", answer.location)] if answer.location else []
        return [
            ("Replay-Nonce", self._jws.nonce()),
            ("Cache-Control", "no-store"),
            ("Content-Type", answer.kind),
            *location,
        ]

    def _key_of(self, account: str) -> Any:
        """Return an account's key; an account is known by its URL."""
        id = account.rpartition("/")[2]
        known = next((one for one in self._accounts.values() if one.id == id), None)
        if known is None:
            raise AcmeProblem("accountDoesNotExist", f"There is no account {account}.")
        return known.key

    def _new_account(self, call: SignedRequest, account: Account | None) -> AcmeResponse:
        if account is None and call.content.get("onlyReturnExisting"):
            raise AcmeProblem("accountDoesNotExist", "No account has this key.")
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
        raise AcmeProblem("malformed", f"There is no {call.resource} here.", HTTPStatus.NOT_FOUND)

    def _new_order(self, call: SignedRequest, account: Account) -> AcmeResponse:
        identifiers = call.content.get("identifiers") or []
        names = [str(each.get("value", "")).lower() for each in identifiers]
        if not names or any(each.get("type") != "dns" for each in identifiers):
            raise AcmeProblem("unsupportedIdentifier", "An order is for DNS names.")
        if any("*" in name for name in names):
            raise AcmeProblem(
                "rejectedIdentifier", "A wildcard's proof is by DNS, which is not here."
            )
        order = Order(account, tuple(Authorization(account, name) for name in names))
        self._authorizations |= {each.id: each for each in order.authorizations}
        self._orders[order.id] = order
        where = f"{call.base}/acme/order/{order.id}"
        return AcmeResponse(order.document(call.base), HTTPStatus.CREATED, where)

    def _authorization(self, call: SignedRequest, found: Authorization) -> AcmeResponse:
        if call.content.get("status") == "deactivated":
            found.status = "deactivated"
        return AcmeResponse(found.document(call.base))

    async def _prove(self, call: SignedRequest, found: Authorization) -> AcmeResponse:
        if found.status == "pending":
            try:
                await http01.prove(self._cloud, found)
                found.settle()
            except AcmeProblem as problem:
                found.settle(problem)
        return AcmeResponse(found.challenge(call.base))

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


def _own(things: Mapping[str, Any], call: SignedRequest, account: Account) -> Any:
    """Return what a call names, if it is its account's own."""
    found = things.get(call.id)
    if found is None or found.account is not account:
        raise AcmeProblem(
            "malformed", f"There is no {call.resource} {call.id}.", HTTPStatus.NOT_FOUND
        )
    return found
