"""The instance metadata service, version 2.

It listens on each gateway and identifies a machine by its private address; an nftables rule on
the machine redirects 169.254.169.254 to it. As on EC2, the hop limit applies only to the token's
response: with a limit of 1, a container behind the machine's bridge never receives it.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11

from daybook_sandbox import metadata
from daybook_sandbox.api import Cloud
from daybook_sandbox.httpstream import HttpStream, header
from daybook_sandbox.loop import GatewayService
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TTL_RANGE_S = range(1, 21601)
CREDENTIALS_S = 3600
DEFAULT_HOPS = 64


@dataclass(frozen=True)
class MetadataResponse:
    """A response and its IP TTL in hops."""

    status: HTTPStatus
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    hops: int = DEFAULT_HOPS


class Imds(GatewayService):
    """Serve each machine its own metadata."""

    def __init__(self, cloud: Cloud, ports: Ports) -> None:
        super().__init__("imds", ports.imds)
        self._cloud = cloud
        self._secret = secrets.token_bytes(32)
        self._credentials: dict[tuple[str, str], tuple[float, str]] = {}

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
            answer = self.answer(peer, request)
            hop_limit = (socket.IPPROTO_IP, socket.IP_TTL, answer.hops)
            writer.get_extra_info("socket").setsockopt(*hop_limit)
            kind = ("Content-Type", "text/plain")
            await http.respond(
                answer.status, answer.body.encode(), (("Server", "EC2ws"), kind, *answer.headers)
            )

    def answer(self, peer: str, request: h11.Request) -> MetadataResponse:
        """Return the response to a machine's request."""
        instance = self._cloud.instance_by_private_ip(peer)
        version, _, path = request.target.decode().split("?")[0].lstrip("/").partition("/")
        if instance is None or not re.fullmatch(r"latest|\d{4}-\d\d-\d\d|1\.0", version):
            return MetadataResponse(HTTPStatus.NOT_FOUND)
        options = instance.metadata_options
        if options.http_endpoint == "disabled":
            return MetadataResponse(HTTPStatus.FORBIDDEN)
        if path == "api/token":
            return self._issue_token(instance, request)
        token = header(request, TOKEN_HEADER)
        if not self._is_valid(token, instance) if token else options.http_tokens == "required":
            return MetadataResponse(HTTPStatus.UNAUTHORIZED)
        if request.method not in (b"GET", b"HEAD"):
            return MetadataResponse(HTTPStatus.METHOD_NOT_ALLOWED)
        body = self._read(instance, path)
        return (
            MetadataResponse(HTTPStatus.NOT_FOUND)
            if body is None
            else MetadataResponse(HTTPStatus.OK, body)
        )

    def _read(self, instance: Any, path: str) -> str | None:
        role = metadata.role_of(self._cloud, instance)
        if role and path.rstrip("/") == metadata.INSTANCE_ROLES + role.name:
            return self._credentials_of(instance, role)
        return metadata.lookup(self._cloud, instance, path)

    def _credentials_of(self, instance: Any, role: Any) -> str:
        """Return the role's credentials, renewed hourly; earlier ones remain valid."""
        key = (instance.id, role.arn)
        made_at, text = self._credentials.get(key, (0.0, ""))
        if not text or time.monotonic() > made_at + CREDENTIALS_S:
            text = json.dumps(metadata.assume_role(self._cloud, instance, role), indent=2)
            self._credentials[key] = (time.monotonic(), text)
        return text

    def _issue_token(self, instance: Any, request: h11.Request) -> MetadataResponse:
        if request.method != b"PUT":
            return MetadataResponse(HTTPStatus.METHOD_NOT_ALLOWED)
        if header(request, "X-Forwarded-For"):
            return MetadataResponse(HTTPStatus.FORBIDDEN)
        ttl = header(request, TTL_HEADER)
        if not ttl.isdecimal() or int(ttl) not in TTL_RANGE_S:
            return MetadataResponse(HTTPStatus.BAD_REQUEST)
        token = self._sign(instance, str(int(time.time()) + int(ttl)))
        hops = instance.metadata_options.http_put_response_hop_limit
        return MetadataResponse(HTTPStatus.OK, token, ((TTL_HEADER, ttl),), hops)

    def _sign(self, instance: Any, expires: str) -> str:
        seal = hmac.new(self._secret, f"{instance.id} {expires}".encode(), hashlib.sha256)
        return f"{expires}-{seal.hexdigest()}"

    def _is_valid(self, token: str, instance: Any) -> bool:
        expires = token.partition("-")[0]
        return (
            expires.isdecimal()
            and time.time() < int(expires)
            and hmac.compare_digest(token.encode(), self._sign(instance, expires).encode())
        )
