"""The state of the certificate authority: accounts, orders and authorizations.

Objects and statuses follow RFC 8555, section 7.1.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

VALID_FOR = timedelta(days=7)


class AcmeProblem(Exception):
    """A refusal as an ACME problem document. kind: the part after urn:ietf:params:acme:error: ."""

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
    """A client, identified by its key. key: a joserfc key; thumbprint: as in RFC 7638."""

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
    """An account's authorization for one name, with its challenge."""

    account: Account
    name: str
    status: str = "pending"
    error: AcmeProblem | None = None
    id: str = field(default_factory=secrets.token_urlsafe)
    token: str = field(default_factory=secrets.token_urlsafe)
    expires: datetime = field(default_factory=lambda: datetime.now(UTC) + VALID_FOR)

    @property
    def proof(self) -> str:
        """Return the key authorization that the name's web server must return."""
        return f"{self.token}.{self.account.thumbprint}"

    def complete(self, error: AcmeProblem | None = None) -> None:
        """Record the challenge's result."""
        self.status, self.error = ("invalid", error) if error else ("valid", None)

    def document(self, base: str) -> dict[str, Any]:
        return {
            "identifier": {"type": "dns", "value": self.name},
            "status": self.status,
            "expires": _text(self.expires),
            "challenges": [self.challenge(base)],
        }

    def challenge(self, base: str) -> dict[str, Any]:
        """Return the http-01 challenge, the only supported type."""
        status = self.status if self.status in ("valid", "invalid") else "pending"
        error = {"error": self.error.document} if self.error else {}
        url = f"{base}/acme/chall/{self.id}"
        return {"type": "http-01", "url": url, "token": self.token, "status": status} | error


@dataclass
class Order:
    """A requested certificate. certificate: the chain in PEM once issued."""

    account: Account
    authorizations: tuple[Authorization, ...]
    certificate: str = ""
    id: str = field(default_factory=secrets.token_urlsafe)

    @property
    def names(self) -> set[str]:
        return {authorization.name for authorization in self.authorizations}

    @property
    def status(self) -> str:
        if self.certificate:
            return "valid"
        states = {authorization.status for authorization in self.authorizations}
        if states & {"invalid", "deactivated"}:
            return "invalid"
        return "ready" if states == {"valid"} else "pending"

    def document(self, base: str) -> dict[str, Any]:
        issued = {"certificate": f"{base}/acme/cert/{self.id}"} if self.certificate else {}
        return issued | {
            "status": self.status,
            "expires": _text(min(authorization.expires for authorization in self.authorizations)),
            "identifiers": [
                {"type": "dns", "value": authorization.name}
                for authorization in self.authorizations
            ],
            "authorizations": [
                f"{base}/acme/authz/{authorization.id}" for authorization in self.authorizations
            ],
            "finalize": f"{base}/acme/finalize/{self.id}",
        }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
