"""Signed requests of the ACME protocol: check the signature, the nonce and the URL.

RFC 8555, section 6.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError

from daybook_sandbox.orders import AcmeProblem

ALGORITHMS = ("ES256", "ES384", "RS256")
HEADER_BYTES = 4096  # joserfc's default is too low for an RSA key


@dataclass(frozen=True)
class SignedRequest:
    """A verified request, POST base/acme/resource/id. key: the signer's key."""

    base: str
    resource: str
    id: str
    key: Any
    content: Mapping[str, Any]


class JwsReader:
    """Verify requests. key_of: returns an account's key by the account's URL."""

    def __init__(self, key_of: Callable[[str], Any]) -> None:
        self._key_of = key_of
        self._nonces: set[str] = set()
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        self._registry.max_header_length = HEADER_BYTES

    def nonce(self) -> str:
        """Return a nonce for one request."""
        nonce = secrets.token_urlsafe()
        self._nonces.add(nonce)
        return nonce

    def open(self, base: str, path: str, body: bytes) -> SignedRequest:
        """Verify a request; raise AcmeProblem if it is invalid."""
        try:
            signed = jws.deserialize_json(json.loads(body), self._key, registry=self._registry)
            content = json.loads(signed.payload or b"{}")
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AcmeProblem("malformed", f"The request is not a valid JWS: {error}") from error
        headers = signed.headers()
        if headers.get("nonce") not in self._nonces:
            raise AcmeProblem("badNonce", "The nonce is unknown or was already used.")
        self._nonces.remove(headers["nonce"])
        if headers.get("url") != base + path:
            detail = f"Signed for {headers.get('url')}, sent to {base}{path}."
            raise AcmeProblem("unauthorized", detail)
        resource, _, id = path.removeprefix("/acme/").partition("/")
        return SignedRequest(base, resource, id, self._key(signed), content)

    def _key(self, signed: Any) -> Any:
        """Return the key in a request's header, or the key of the account it names."""
        headers = signed.headers()
        return jwk.import_key(headers["jwk"]) if "jwk" in headers else self._key_of(headers["kid"])
