"""Signed requests of the ACME protocol: who sent one, that it is new, and meant for here.

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
HEADER_BYTES = 4096  # joserfc's own limit is below what an RSA key takes


@dataclass(frozen=True)
class SignedRequest:
    """A request whose signature was checked: POST base/acme/resource/id. key: the signer's."""

    base: str
    resource: str
    id: str
    key: Any
    content: Mapping[str, Any]


class JwsReader:
    """Opens requests. key_of: gives the key of an account, by its URL."""

    def __init__(self, key_of: Callable[[str], Any]) -> None:
        self._key_of = key_of
        self._nonces: set[str] = set()
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        self._registry.max_header_length = HEADER_BYTES

    def nonce(self) -> str:
        """Return a number that is good for one request."""
        nonce = secrets.token_urlsafe()
        self._nonces.add(nonce)
        return nonce

    def open(self, base: str, path: str, body: bytes) -> SignedRequest:
        """Check a request; AcmeProblem when it is not what it should be."""
        try:
            signed = jws.deserialize_json(json.loads(body), self._key, registry=self._registry)
            content = json.loads(signed.payload or b"{}")
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AcmeProblem("malformed", f"This is no signed request: {error}") from error
        headers = signed.headers()
        if headers.get("nonce") not in self._nonces:
            raise AcmeProblem("badNonce", "This nonce was used, or is not one of ours.")
        self._nonces.remove(headers["nonce"])
        if headers.get("url") != base + path:
            said = f"Signed for {headers.get('url')}, sent to {base}{path}."
            raise AcmeProblem("unauthorized", said)
        resource, _, id = path.removeprefix("/acme/").partition("/")
        return SignedRequest(base, resource, id, self._key(signed), content)

    def _key(self, signed: Any) -> Any:
        """Return the key of a request: its own, or that of the account it names."""
        headers = signed.headers()
        return jwk.import_key(headers["jwk"]) if "jwk" in headers else self._key_of(headers["kid"])
