"""What a certificate authority remembers: accounts, orders, and the proofs of each name.

Shapes and states are those of RFC 8555, section 7.1.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

VALID_FOR = timedelta(days=7)


class AcmeProblem(Exception):
    """A refusal as the protocol words it. kind: what follows urn:ietf:params:acme:error: ."""

    def __init__(self, kind: str, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = status

    @property
    def document(self) -> dict[str, Any]:
        urn = f"urn:ietf:params:acme:error:{self.kind}"
        return {"type": urn, "detail": str(self), "status": self.status}


@dataclass(frozen=True)
class Account:
    """A client, known by its key. key: one of joserfc's; thumbprint: the key's, RFC 7638."""

    key: Any
    contact: tuple[str, ...] = ()
    id: str = field(default_factory=secrets.token_urlsafe)

    @property
    def thumbprint(self) -> str:
        return self.key.thumbprint()

    def document(self) -> dict[str, Any]:
        return {"status": "valid", "contact": self.contact}


@dataclass
class Authorization:
    """One name that an account wants to speak for, and the proof that is asked of it."""

    account: Account
    name: str
    status: str = "pending"
    error: AcmeProblem | None = None
    id: str = field(default_factory=secrets.token_urlsafe)
    token: str = field(default_factory=secrets.token_urlsafe)
    expires: datetime = field(default_factory=lambda: datetime.now(UTC) + VALID_FOR)

    @property
    def proof(self) -> str:
        """Return what the name's web server has to answer."""
        return f"{self.token}.{self.account.thumbprint}"

    def settle(self, error: AcmeProblem | None = None) -> None:
        """Keep how the proof ended."""
        self.status, self.error = ("invalid", error) if error else ("valid", None)

    def document(self, base: str) -> dict[str, Any]:
        return {
            "identifier": {"type": "dns", "value": self.name},
            "status": self.status,
            "expires": _text(self.expires),
            "challenges": [self.challenge(base)],
        }

    def challenge(self, base: str) -> dict[str, Any]:
        """Return the one kind of proof there is here."""
        status = self.status if self.status in ("valid", "invalid") else "pending"
        error = {"error": self.error.document} if self.error else {}
        url = f"{base}/acme/chall/{self.id}"
        return {"type": "http-01", "url": url, "token": self.token, "status": status} | error


@dataclass
class Order:
    """A certificate that was asked for. certificate: the chain in PEM, once it is issued."""

    account: Account
    authorizations: tuple[Authorization, ...]
    certificate: str = ""
    id: str = field(default_factory=secrets.token_urlsafe)

    @property
    def names(self) -> set[str]:
        return {each.name for each in self.authorizations}

    @property
    def status(self) -> str:
        if self.certificate:
            return "valid"
        states = {each.status for each in self.authorizations}
        if states & {"invalid", "deactivated"}:
            return "invalid"
        return "ready" if states == {"valid"} else "pending"

    def document(self, base: str) -> dict[str, Any]:
        issued = {"certificate": f"{base}/acme/cert/{self.id}"} if self.certificate else {}
        return issued | {
            "status": self.status,
            "expires": _text(min(each.expires for each in self.authorizations)),
            "identifiers": [{"type": "dns", "value": each.name} for each in self.authorizations],
            "authorizations": [f"{base}/acme/authz/{each.id}" for each in self.authorizations],
            "finalize": f"{base}/acme/finalize/{self.id}",
        }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
